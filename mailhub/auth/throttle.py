"""Slows down those who guess passwords, by address of the peer."""

from __future__ import annotations

import ipaddress
from collections import Counter, OrderedDict

import attrs


def network_of(peer: str) -> str:
    """What one guesser holds: an IPv4 address, or an IPv6 /64. "" for what is not counted: no address, loopback."""
    try:
        address = ipaddress.ip_address(peer.partition("%")[0])
    except ValueError:
        return ""
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is None:
            return "" if address.is_loopback else str(ipaddress.ip_network((address, 64), strict=False))
        address = address.ipv4_mapped
    return "" if address.is_loopback else str(address)


@attrs.define
class _Failures:
    until: float = 0.0
    users: Counter[str] = attrs.field(factory=Counter)

    @property
    def count(self) -> int:
        return self.users.total()


@attrs.define(eq=False)
class Throttle:
    """Counts failed logins a network. After `free` failures each costs a growing delay (seconds, at most `longest`);
    after `limit` failures the network is refused until `window` seconds have passed since the last one.

    Bounded: at most `size` networks are remembered, the least recent ones are forgotten first.
    """

    free: int = 2
    limit: int = 20
    window: float = 900.0
    longest: float = 10.0
    size: int = 50_000
    _failures: OrderedDict[str, _Failures] = attrs.field(init=False, factory=OrderedDict)

    def refused(self, peer: str, now: float) -> bool:
        """Whether a login from there is not even tried."""
        failures = self._failures.get(network_of(peer))
        return failures is not None and failures.count >= self.limit and now < failures.until

    def failed(self, peer: str, user: str, now: float) -> float:
        """Count a failed login; returns for how many seconds the answer is to be held back."""
        network = network_of(peer)
        if not network:
            return 0.0
        failures = self._failures.setdefault(network, _Failures())
        self._failures.move_to_end(network)
        if now >= failures.until:
            failures.users.clear()
        failures.users[user] += 1
        failures.until = now + self.window
        if len(self._failures) > self.size:
            self._failures.popitem(last=False)
        excess = failures.count - self.free
        return min(self.longest, float(2 ** min(excess - 1, 10))) if excess > 0 else 0.0

    def succeeded(self, peer: str, user: str) -> None:
        """A login was right: forget this user's mistypings before it, and nobody else's."""
        failures = self._failures.get(network_of(peer))
        if failures is not None:
            failures.users.pop(user, None)
