"""How fast strangers may come and send, by address and by the network around it."""

from __future__ import annotations

from collections.abc import Sequence

import attrs
from zope.interface import implementer

from mailhub.delivery.screening.rule import Rule, number
from mailhub.delivery.screening.windows import SlidingCounts
from mailhub.errors import TemporaryError
from mailhub.interfaces import ACCEPT, Environment, IHub, IPolicy, ITransactionView, Origin, Screen, Verdict
from mailhub.keys import DAY
from mailhub.net.crowd import networks

_STATUS = "4.7.0"
# What, version of IP, length and bits of the prefix.
_Key = tuple[str, int, int, int]


@attrs.frozen
class RateOptions:
    """How many there may be in any `window_seconds`; 0 is for any number. An address is an IPv4 address or an IPv6 /64,
    its network the /24 or the /48."""

    window_seconds: int = number(60, 1, DAY)
    connections_per_address: int = number(60, 0, 1_000_000)
    connections_per_network: int = number(300, 0, 1_000_000)
    messages_per_address: int = number(120, 0, 1_000_000)
    messages_per_network: int = number(600, 0, 1_000_000)


@implementer(IPolicy)
@attrs.frozen(eq=False)
class Rates(Screen):
    """Defers who is too fast: nothing is lost, for senders come again. What was deferred does not count."""

    _options: RateOptions
    _environment: Environment
    _rule: Rule
    _counts: SlidingCounts

    @classmethod
    def of(cls, options: RateOptions, hub: IHub) -> Rates:
        """The policy of a hub. What has been counted outlasts a reload."""
        rule = Rule.of(hub)
        return cls(options, hub.environment, rule, hub.shared(f"policy {rule.name}: rates", SlidingCounts))

    def begin(self, origin: Origin) -> Screen:
        """See `IPolicy`. Raises TemporaryError."""
        if not self._rule.concerns(origin):
            return Screen()
        options = self._options
        bounds = (options.connections_per_address, options.connections_per_network)
        if self._is_too_fast("connections", origin, bounds):
            raise TemporaryError(
                f"Too many connections from your network, come again later ({self._rule.name})",
                status=_STATUS,
                rule=self._rule.name,
            )
        return self

    def mail(self, transaction: ITransactionView) -> Verdict:
        """See `IScreen`."""
        options = self._options
        bounds = (options.messages_per_address, options.messages_per_network)
        origin = transaction.origin
        if self._rule.concerns(origin) and self._is_too_fast("messages", origin, bounds):
            return self._rule.defer(_STATUS, "Too many messages from your network, come again later")
        return ACCEPT

    def _is_too_fast(self, what: str, origin: Origin, bounds: Sequence[int]) -> bool:
        """Whether one more is too many; else it is counted."""
        now, seconds = self._environment.monotonic(), self._options.window_seconds
        keys = _keys(what, origin.peer)
        for key, most in zip(keys, bounds, strict=True):
            if most and self._counts.count(key, now, seconds) + 1 > most:
                return True
        for key, most in zip(keys, bounds, strict=True):
            if most and not origin.rehearsal:
                self._counts.add(key, now, seconds)
        return False


def _keys(what: str, peer: str) -> tuple[_Key, _Key]:
    """Of the address, and of the network around it."""
    around = networks(peer)
    return (what, *around[0]), (what, *around[-1])
