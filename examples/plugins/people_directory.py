"""Who stands in the file `people` of the data folder, an address a line, gets mail before the first login."""

from mailhub.api import Component, IHub, NoOptions


class People:
    def __init__(self, options: NoOptions, hub: IHub) -> None:
        self.file = hub.environment.data / "people"

    def exists(self, user: str) -> bool:
        return user in self.file.read_text().splitlines()


people = Component("directory", "people", People)
