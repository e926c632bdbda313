"""Slows down those who try names to find out which exist, by session and by the network of the peer."""

from __future__ import annotations

from collections import OrderedDict

import attrs
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from zope.interface import implementer

from mailhub.auth.throttle import network_of
from mailhub.interfaces import IHarvest
from mailhub.keys import COUNT_LOOPBACK, DAY, Key, limit, setting

_PER_SESSION = Key("limits", "refused_recipients_per_session", 20, 1, 100_000)


@attrs.frozen
class HarvestLimits:
    """How many refused recipients cost nothing, and how many there may be.

    In a session the first `free` do not wait, each further one waits a second longer, and the one after `per_session`
    ends the session. A network has `per_network` in `window_seconds`; further ones take turns, so that however many
    sessions it has, it learns one name in one second, then in two, ... No answer is held back for more than
    `longest_seconds`: who would wait longer is sent away, as is everyone while `waiting` sessions wait.
    """

    free: int = setting(_PER_SESSION, lambda count: count // 2)
    per_session: int = setting(_PER_SESSION)
    per_network: int = limit("refused_recipients_per_network", 100, 1, 1_000_000)
    window_seconds: float = limit("refused_recipients_window_seconds", 900, 1, 30 * DAY)
    longest_seconds: float = limit("refused_recipient_delay_seconds", 10, 0, 600)
    waiting: int = 1000
    networks: int = 50_000
    loopback: bool = setting(COUNT_LOOPBACK)  # whether it is a network like others


@attrs.define
class _Guesses:
    until: float = 0.0
    count: int = 0
    turn: float = 0.0


@implementer(IHarvest)
@attrs.define(eq=False)
class Harvest:
    """What is known of the networks. Local sockets are judged by session alone, and so is loopback by default."""

    clock: IReactorTime
    limits: HarvestLimits = attrs.field(factory=HarvestLimits)
    waiting: int = attrs.field(init=False, default=0)
    _guesses: OrderedDict[str, _Guesses] = attrs.field(init=False, factory=OrderedDict)

    async def refused(self, peer: str, count: int) -> bool:
        """A recipient is refused, the `count`th of its session: wait as long as the answer is to be held back. False
        when the session is to end instead."""
        seconds = max(self._session_wait(count), self._network_wait(peer))
        if count > self.limits.per_session or seconds > self.limits.longest_seconds:
            return False
        return await self._wait(seconds)

    async def erred(self, peer: str, count: int) -> bool:
        """A command is refused for another reason than a recipient, the `count`th beyond those that its session has
        free: wait as long as the answer is to be held back. False when the session is to end instead."""
        if not network_of(peer) and not self.limits.loopback:
            return True
        return await self._wait(min(self.limits.longest_seconds, float(count)))

    async def _wait(self, seconds: float) -> bool:
        if seconds <= 0:
            return True
        if self.waiting >= self.limits.waiting:
            return False
        self.waiting += 1
        try:
            await deferLater(self.clock, seconds)
        finally:
            self.waiting -= 1
        return True

    def _session_wait(self, count: int) -> float:
        return min(self.limits.longest_seconds, float(max(0, count - self.limits.free)))

    def _network_wait(self, peer: str) -> float:
        network = network_of(peer) or (peer if self.limits.loopback else "")
        if not network:
            return 0.0
        now = self.clock.seconds()
        guesses = self._guesses.setdefault(network, _Guesses())
        self._guesses.move_to_end(network)
        if len(self._guesses) > self.limits.networks:
            self._guesses.popitem(last=False)
        if now >= guesses.until:
            guesses.count, guesses.until = 0, now + self.limits.window_seconds
        guesses.count += 1
        excess = guesses.count - self.limits.per_network
        if excess <= 0:
            return 0.0
        turn = max(now, guesses.turn) + min(self.limits.longest_seconds, 1.0 + excess // self.limits.per_network)
        if turn - now <= self.limits.longest_seconds:
            guesses.turn = turn
        return turn - now
