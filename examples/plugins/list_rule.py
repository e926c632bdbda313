"""Mail of a list goes into the mailbox Lists/NAME where the user has made one, by List-Id (RFC 2919)."""

import re

from mailhub.api import Component, Header, IHub, IMessageView, Mail, NoOptions, Placement, Placements


class ByList:
    def __init__(self, options: NoOptions, hub: IHub) -> None:
        pass

    def apply(self, account: str, mail: Mail, message: IMessageView) -> Placements | None:
        found = re.search(rb"<([a-z0-9_-]{1,60})[.a-z0-9_-]*>\s*$", Header(message.header).first(b"list-id") or b"")
        return Placements([Placement(f"Lists/{found[1].decode()}")]) if found else None


by_list = Component("rule", "by-list", ByList)
