"""Logins from a file of lines `user:hash` in the data folder, the hashes argon2's. It may change at any time."""

from mailhub.api import Component, SimpleChecker


class Passwd(SimpleChecker):
    def hashes(self) -> dict[str, str]:
        return dict(line.split(":", 1) for line in (self.hub.environment.data / "passwd").read_text().split())

    def exists(self, user: str) -> bool:
        return user in self.hashes()

    async def check(self, user: str, password: str) -> bool:
        right: bool = await self.hub.passwords.verify(self.hashes().get(user, ""), password)  # in a thread
        return right


passwd = Component("checker", "passwd", Passwd)
