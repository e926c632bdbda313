"""Slows down those who guess passwords, by address of the peer."""

from __future__ import annotations

import ipaddress
from collections import Counter, OrderedDict
from collections.abc import Awaitable, Callable
from typing import TypeVar

import attrs
from twisted.internet.defer import DeferredSemaphore

from mailhub.errors import Busy

T = TypeVar("T")


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


@attrs.define(eq=False)
class Turns:
    """At most `at_once` logins from one network are under way; more stand in that network's own line of `waiting`.

    So a guesser with hundreds of connections does not stand before everybody else in the line for the few threads
    that check passwords.
    """

    at_once: int = 8
    waiting: int = 200
    _lines: dict[str, DeferredSemaphore] = attrs.field(init=False, factory=dict)

    async def take(self, peer: str, login: Callable[[], Awaitable[T]]) -> T:
        """The result of `login` when its turn has come. Raises Busy when the line is full, and what it raises."""
        network = network_of(peer)
        if not network:
            return await login()
        line = self._lines.setdefault(network, DeferredSemaphore(self.at_once))
        if len(line.waiting) >= self.waiting:
            raise Busy(detail=f"too many logins at once from {network}")
        try:
            await line.acquire()
            try:
                return await login()
            finally:
                line.release()
        finally:
            if line.tokens == line.limit:
                self._lines.pop(network, None)
