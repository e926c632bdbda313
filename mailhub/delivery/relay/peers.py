"""Servers that mail goes to, each address by itself: its open connections, and why none is to be had."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable
from math import inf

import attrs
from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.interfaces import IDelayedCall, IReactorTime

from mailhub.delivery.limits import TransmitLimits
from mailhub.message.envelope import Outcome, Reach, State
from mailhub.net.smtp_client import SmtpConnection

_FULL_SECONDS = 10.0  # until one connection more is asked for, where the last one was refused


@attrs.define(eq=False)
class Line:
    """A connection, and the number of messages that it has carried."""

    connection: SmtpConnection
    used: int = 0
    idle_since: float = 0.0

    def is_used_up(self, messages: int) -> bool:
        """Whether it has carried as many as we want, or as the server takes (RFC 9422)."""
        return self.used >= min(messages, self.connection.hop.limits.messages)


@attrs.define(eq=False)
class Peer:
    """One address of a server. `idle` are connections between two messages, the one used last at the end; `busy` is
    the number of others, be it that they carry a message or that they say goodbye (`parting`). `opening` are not there
    yet. `changing` end with the next one that is there, given back, or gone."""

    key: Hashable
    idle: list[Line] = attrs.field(factory=list)
    busy: int = 0
    opening: int = 0
    changing: list[Deferred[None]] = attrs.field(factory=list)
    parting: int = 0
    _away_until: float = 0.0
    _why: Outcome | None = None
    _most: float = inf
    _full_until: float = 0.0

    @property
    def alive(self) -> bool:
        """Whether there is a connection."""
        return bool(self.busy or self.idle)

    def changed(self) -> Deferred[None]:
        """Wait until a connection is there, is given back, or is gone."""
        waiting: Deferred[None] = Deferred()
        self.changing.append(waiting)
        return waiting

    def tell(self) -> None:
        """One of them is. Who has waited for longest is the first to look."""
        changing, self.changing = self.changing, []
        for waiting in changing:
            waiting.callback(None)

    def away(self, until: float, why: Outcome) -> None:
        """It could not be reached: the next message in line need not wait for it again."""
        self._away_until, self._why = until, attrs.evolve(why, reach=Reach.LEFT_ALONE)

    def opened(self) -> None:
        """One more was to be had."""
        self._why = None
        self.busy += 1
        self._most = max(self._most, self.busy + len(self.idle))

    def refused(self, until: float) -> None:
        """No more were to be had than there are. From `until` on they are asked for one at a time."""
        self._most, self._full_until = max(1, self.busy + len(self.idle)), until

    def is_full(self, now: float) -> bool:
        """Whether a message does better to wait for one of the connections that there are, whatever its domain is."""
        if self.idle or self.busy + self.opening < self._most:
            return False
        return now < self._full_until or self.opening > 0 or self.parting > 0

    def back(self) -> None:
        """It is to be tried again, whatever was said."""
        self._why, self._most = None, inf

    def why(self, now: float) -> Outcome | None:
        """What was said of it a moment ago."""
        return self._why if now < self._away_until else None


class Peers:
    """All that are known. Connections are kept for a while between messages, and there are a bounded number of them."""

    def __init__(self, clock: IReactorTime, limits: TransmitLimits) -> None:
        self._clock = clock
        self._limits = limits
        self._peers: OrderedDict[Hashable, Peer] = OrderedDict()
        self._idle: OrderedDict[Line, Peer] = OrderedDict()  # the one that is idle for longest first
        self._timer: IDelayedCall | None = None

    def at(self, key: Hashable) -> Peer:
        """The peer of that address. Those of which nothing was wanted for longest are forgotten, unless they have a
        connection."""
        peer = self._peers.get(key)
        if peer is None:
            peer = self._peers[key] = Peer(key)
        self._peers.move_to_end(key)
        for _ in range(len(self._peers) - self._limits.unreachable_known):
            oldest = next(iter(self._peers.values()))
            if oldest.alive or oldest is peer:
                self._peers.move_to_end(oldest.key)
            else:
                del self._peers[oldest.key]
        return peer

    def take(self, peer: Peer) -> Line | None:
        """The connection used last, if it still lives. `done` must follow."""
        while peer.idle:
            line = peer.idle[-1]
            self._withdraw(line, peer)
            if line.connection.usable:
                peer.busy += 1
                return line
            line.connection.abort()
        return None

    async def kept(self, peer: Peer) -> Line | None:
        """The same, and where the server takes no connection more, the next that is given back."""
        while (line := self.take(peer)) is None and peer.is_full(self._clock.seconds()):
            await peer.changed()
        return line

    async def open(self, peer: Peer, connect: Callable[[], Awaitable[SmtpConnection | Outcome]]) -> Line | Outcome:
        """A new connection, for which `done` must follow, or why there is none. That says something about the server
        only where it has no other: then it is left alone for a while."""
        peer.opening += 1
        try:
            while peer.parting:
                await peer.changed()  # a server may count it until then, and take no other
            others = peer.alive
            connection = await connect()
            if not isinstance(connection, Outcome):
                peer.opened()
                return Line(connection)
            peer.refused(self._clock.seconds() + _FULL_SECONDS)
            self._clock.callLater(_FULL_SECONDS, peer.tell)  # who waits looks again
        finally:
            peer.opening -= 1
            peer.tell()
        while not (others or peer.alive) and peer.opening:
            await peer.changed()  # one that was asked for at the same time may be had
        if connection.state is State.FAILED:
            return connection
        if others or peer.alive:
            return attrs.evolve(connection, reach=Reach.CROWDED)
        outcome = attrs.evolve(connection, reach=Reach.UNREACHED)
        peer.away(self._clock.seconds() + self._limits.unreachable_seconds, outcome)
        return outcome

    def done(self, peer: Peer, line: Line) -> None:
        """Nothing is sent on it now: put it by where it can carry another message; the oldest makes room."""
        if not line.connection.usable:
            peer.busy -= 1
            line.connection.abort()
        elif line.is_used_up(self._limits.messages) or not self._limits.idle_connections:
            self._leave(peer, line)
        else:
            peer.busy -= 1
            while len(self._idle) >= self._limits.idle_connections:
                oldest, whose = next(iter(self._idle.items()))
                self._let_go(oldest, whose)
            line.idle_since = self._clock.seconds()
            self._idle[line] = peer
            peer.idle.append(line)
            if self._timer is None:
                self._timer = self._clock.callLater(self._limits.idle_seconds, self._look_at_idle)
        peer.tell()

    def _look_at_idle(self) -> None:
        """Let go of those whose time is up. One timer for all: most are used again before that."""
        self._timer = None
        while self._idle:
            line, peer = next(iter(self._idle.items()))
            left = line.idle_since + self._limits.idle_seconds - self._clock.seconds()
            if left > 0:
                self._timer = self._clock.callLater(left, self._look_at_idle)
                return
            self._let_go(line, peer)

    async def close(self) -> None:
        """Say goodbye on all connections that are kept."""
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        going = [self._let_go(line, peer) for line, peer in tuple(self._idle.items())]
        await DeferredList(going, consumeErrors=True)

    def _let_go(self, line: Line, peer: Peer) -> Deferred[None]:
        self._withdraw(line, peer)
        peer.busy += 1
        return self._leave(peer, line)

    def _withdraw(self, line: Line, peer: Peer) -> None:
        peer.idle.remove(line)
        del self._idle[line]

    def _leave(self, peer: Peer, line: Line) -> Deferred[None]:
        peer.parting += 1

        def gone(_: object) -> None:
            peer.busy -= 1
            peer.parting -= 1
            peer.tell()

        leaving = Deferred.fromCoroutine(line.connection.quit())
        leaving.addErrback(lambda _: line.connection.abort())
        return leaving.addCallback(gone)
