"""What the policies that mailhub ships have in common: their names, whom they leave alone, and how they say no."""

from __future__ import annotations

from typing import Any

import attrs

from mailhub.interfaces import IHub, Origin, Verdict
from mailhub.keys import Key
from mailhub.message.address import is_role
from mailhub.message.envelope import Recipient
from mailhub.net.networks import TRUSTED, Networks


def number(default: int, low: int, high: int) -> Any:
    """A field of a policy's options for a whole number."""
    return attrs.field(default=default, validator=Key("policy", "", default, low, high).validate)


@attrs.frozen
class Rule:
    """One policy of the configuration. Clients in `trusted` are not looked at."""

    name: str
    trusted: Networks = attrs.field(factory=Networks)

    @classmethod
    def of(cls, hub: IHub) -> Rule:
        """Of the policy that is built with this hub."""
        return cls(hub.part.name, Networks.of(hub.settings.value(TRUSTED)))

    def concerns(self, origin: Origin) -> bool:
        """Whether it is a stranger who is there: no login, no local program, nobody whom the operator trusts. One may
        log in after the connection: to be asked whenever something is to be said."""
        if origin.submission or origin.each_recipient or origin.user or not origin.peer:
            return False
        return origin.peer not in self.trusted

    def reject(self, status: str, text: str) -> Verdict:
        """For good, by this rule's name."""
        return Verdict("reject", status, text, rule=self.name)

    def defer(self, status: str, text: str) -> Verdict:
        """For now, by this rule's name."""
        return Verdict("defer", status, text, rule=self.name)


def is_open(recipient: Recipient) -> bool:
    """Whether even those may write to it who are refused everything else, to ask why (RFC 5321 4.5.1, RFC 2142)."""
    return is_role(recipient.address)
