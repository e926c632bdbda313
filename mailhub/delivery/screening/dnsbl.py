"""Clients whose address is on lists of bad senders, weighed against lists of good ones."""

from __future__ import annotations

from typing import Literal

import attrs
from zope.interface import implementer

from mailhub.delivery.screening.by_address import OnceAddressed
from mailhub.delivery.screening.dns_lists import DnsLists, parse_entries
from mailhub.delivery.screening.rule import Rule, number
from mailhub.interfaces import ACCEPT, IHub, IPolicy, Origin, Screen, Verdict

_STATUS = {"reject": "5.7.1", "defer": "4.7.1"}


def _check(_instance: object, _field: object, texts: tuple[str, ...]) -> None:
    if not texts:
        raise ValueError('needs at least one list, such as "bl.example.org"')
    parse_entries(texts)


@attrs.frozen
class DnsblOptions:
    """`lists` as `zone=127.0.0.[2..11]*weight` (see `ListEntry`); those of good senders have negative weights. From
    `threshold` on the client is refused, deferred, or its mail goes to Junk. Each list has `lookup_seconds`."""

    lists: tuple[str, ...] = attrs.field(validator=_check)
    threshold: int = number(1, 1, 1_000_000)
    action: Literal["reject", "defer", "quarantine"] = "reject"
    lookup_seconds: int = number(5, 1, 25)


@implementer(IPolicy)
@attrs.frozen(eq=False)
class Dnsbl:
    """Refuses recipients by the client's address."""

    _options: DnsblOptions
    _lists: DnsLists
    _rule: Rule

    @classmethod
    def of(cls, options: DnsblOptions, hub: IHub) -> Dnsbl:
        """The policy of a hub."""
        lists = DnsLists(parse_entries(options.lists), options.lookup_seconds, hub.environment)
        return cls(options, lists, Rule.of(hub))

    def begin(self, origin: Origin) -> Screen:
        """See `IPolicy`."""
        return OnceAddressed(self) if self.concerns(origin) else Screen()

    def concerns(self, origin: Origin) -> bool:
        """Whether a client is looked at."""
        return self._rule.concerns(origin)

    async def judge(self, peer: str) -> Verdict:
        """What is said of a client's address."""
        listed = await self._lists.look_up(peer)
        if listed.weight < self._options.threshold:
            return ACCEPT
        action = self._options.action
        if action == "quarantine":
            return Verdict("quarantine")
        reason = await self._lists.reason(peer, listed.zone)
        text = f"Your address {peer} is listed by {listed.zone}" + (f": {reason}" if reason else "")
        return Verdict(action, _STATUS[action], text, rule=self._rule.name)
