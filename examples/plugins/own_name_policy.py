"""Who greets with a name of ours is not us: other servers have no business to, and many that send spam do."""

from mailhub.api import ACCEPT, Component, IHub, NoOptions, Origin, Screen, Verdict


class OwnName(Screen):
    def __init__(self, options: NoOptions, hub: IHub) -> None:
        self.hub = hub

    def begin(self, origin: Origin) -> Screen:
        return self

    def hello(self, origin: Origin) -> Verdict:
        if not origin.submission and origin.helo.lower() in {self.hub.hostname, *self.hub.domains}:
            return Verdict("reject", "5.7.1", "That is our own name")
        return ACCEPT


own_name = Component("policy", "own-name", OwnName)
