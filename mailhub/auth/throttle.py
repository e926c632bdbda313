"""Slows down those who guess passwords, by address of the peer."""

from __future__ import annotations

import ipaddress
import os
from collections import Counter, OrderedDict
from collections.abc import Awaitable, Callable
from hashlib import blake2b
from typing import TypeVar

import attrs
from twisted.internet.defer import DeferredSemaphore

from mailhub.errors import Busy
from mailhub.keys import COUNT_LOOPBACK, DAY, Key, setting

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
    """Of one network: by user, and which passwords they were."""

    until: float = 0.0
    users: Counter[str] = attrs.field(factory=Counter)
    passwords: Counter[bytes] = attrs.field(factory=Counter)

    @property
    def count(self) -> int:
        return self.users.total()


@attrs.frozen
class Failed:
    """What follows from a failed login: seconds for which the answer is held back, and whether this very password has
    failed for this user before (it is not counted again)."""

    delay: float = 0.0
    repeated: bool = False


@attrs.define(eq=False)
class Throttle:
    """Counts failed logins a network. After `free` failures each costs a growing delay (seconds, at most `longest`);
    after `limit` failures the network is refused until `window` seconds have passed since the last one.

    A network may be a household or a firm behind one address. So a password that was wrong before and comes again (a
    phone that has not been told the new one) counts once: who guesses does not guess the same twice. After `limit`
    times it is not verified any more, which would cost us more than the phone; other passwords are. And a user who
    has logged in from there in the last `known` seconds is neither delayed nor refused for what others did, only for
    as many failures under the own name.

    Bounded: at most `size` networks and known users are remembered, the least recent ones are forgotten first.
    Passwords are kept as digests under a key of the process alone.
    """

    free: int = setting(Key("auth", "failures_free", 2, 0, 1000))
    limit: int = setting(Key("auth", "failures_limit", 20, 1, 100_000))
    window: float = setting(Key("auth", "failures_window_seconds", 900, 1, 30 * DAY))
    longest: float = setting(Key("auth", "failure_delay_seconds", 10, 0, 600))
    known: float = setting(Key("auth", "known_user_seconds", 7 * DAY, 0, 365 * DAY))
    size: int = 50_000
    loopback: bool = setting(COUNT_LOOPBACK)  # whether it is an address like others
    _failures: OrderedDict[str, _Failures] = attrs.field(init=False, factory=OrderedDict)
    _known: OrderedDict[tuple[str, str], float] = attrs.field(init=False, factory=OrderedDict)
    _key: bytes = attrs.field(init=False, factory=lambda: os.urandom(32), repr=False)

    def refused(self, peer: str, user: str, password: str, now: float) -> bool:
        """Whether a login from there is not even tried."""
        failures = self._failures.get(self._network(peer))
        if failures is None or now >= failures.until:
            return False
        too_often = failures.passwords[self._digest(user, password)] >= self.limit
        return too_often or self._count(failures, peer, user, now) >= self.limit

    def failed(self, peer: str, user: str, password: str, now: float) -> Failed:
        """Count a failed login."""
        network = self._network(peer)
        if not network:
            return Failed()
        failures = self._failures.setdefault(network, _Failures())
        self._failures.move_to_end(network)
        if now >= failures.until:
            failures.users.clear()
            failures.passwords.clear()
        digest = self._digest(user, password)
        repeated = digest in failures.passwords
        if repeated or len(failures.passwords) < 2 * self.limit:
            failures.passwords[digest] += 1
        if not repeated:
            failures.users[user] += 1
            failures.until = now + self.window
        if len(self._failures) > self.size:
            self._failures.popitem(last=False)
        excess = self._count(failures, peer, user, now) - self.free
        return Failed(min(self.longest, float(2 ** min(excess - 1, 10))) if excess > 0 else 0.0, repeated)

    def succeeded(self, peer: str, user: str, now: float) -> None:
        """A login was right: forget this user's mistypings before it, and nobody else's."""
        network = self._network(peer)
        if not network:
            return
        failures = self._failures.get(network)
        if failures is not None:
            failures.users.pop(user, None)
        self._known[network, user] = now
        self._known.move_to_end((network, user))
        if len(self._known) > self.size:
            self._known.popitem(last=False)

    def knows(self, peer: str, user: str, now: float) -> bool:
        """Whether the user has logged in from there lately."""
        since = self._known.get((self._network(peer), user))
        return since is not None and now - since < self.known

    def _network(self, peer: str) -> str:
        return network_of(peer) or (peer if self.loopback else "")

    def _count(self, failures: _Failures, peer: str, user: str, now: float) -> int:
        """What counts against this user: everybody's failures, or the own ones of one who is known there."""
        return failures.users[user] if self.knows(peer, user, now) else failures.count

    def _digest(self, user: str, password: str) -> bytes:
        name = user.encode("utf-8", "surrogateescape")
        secret = password.encode("utf-8", "surrogateescape")
        return blake2b(len(name).to_bytes(4, "big") + name + secret, key=self._key, digest_size=16).digest()


@attrs.define(eq=False)
class Turns:
    """At most `at_once` logins from one network are under way; more stand in that network's own line of `waiting`.

    So a guesser with hundreds of connections does not stand before everybody else in the line for the few threads
    that check passwords. A user who is known there has a line of the own, with no guesser in it.
    """

    at_once: int = 8
    waiting: int = 200
    _lines: dict[tuple[str, str], DeferredSemaphore] = attrs.field(init=False, factory=dict)

    async def take(self, peer: str, login: Callable[[], Awaitable[T]], known_user: str = "") -> T:
        """The result of `login` when its turn has come. Raises Busy when the line is full, and what it raises."""
        network = network_of(peer)
        if not network:
            return await login()
        line = self._lines.setdefault((network, known_user), DeferredSemaphore(self.at_once))
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
                self._lines.pop((network, known_user), None)
