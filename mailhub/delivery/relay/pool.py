"""What is remembered of servers between messages: open connections, and those that cannot be reached."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable

import attrs
from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.interfaces import IDelayedCall, IReactorTime

from mailhub.message.envelope import Outcome
from mailhub.net.smtp_client import SmtpConnection


@attrs.define(eq=False)
class _Idle:
    key: Hashable
    connection: SmtpConnection
    used: int
    timer: IDelayedCall | None = None


class IdleConnections:
    """Connections between two messages. Each is kept for `seconds`, and there are at most `limit` of them."""

    def __init__(self, clock: IReactorTime, *, seconds: float, limit: int) -> None:
        self._clock = clock
        self._seconds = seconds
        self._limit = limit
        self._idle: list[_Idle] = []

    def __len__(self) -> int:
        return len(self._idle)

    def take(self, key: Hashable) -> tuple[SmtpConnection, int] | None:
        """The connection used last for this server, if it still lives, and the number of messages it has carried."""
        for idle in reversed(self._idle):
            if idle.key == key:
                self._remove(idle)
                if idle.connection.usable:
                    return idle.connection, idle.used
                idle.connection.abort()
                return self.take(key)
        return None

    def keep(self, key: Hashable, connection: SmtpConnection, used: int) -> None:
        """Put a connection by; the oldest makes room."""
        if len(self._idle) >= self._limit:
            self._let_go(self._idle[0])
        idle = _Idle(key, connection, used)
        idle.timer = self._clock.callLater(self._seconds, self._let_go, idle)
        self._idle.append(idle)

    async def close(self) -> None:
        """Say goodbye on all of them."""
        going = [self._let_go(idle) for idle in tuple(self._idle)]
        await DeferredList(going, consumeErrors=True)

    def leave(self, connection: SmtpConnection) -> Deferred[None]:
        """Say goodbye on a connection that is not to be kept."""
        leaving = Deferred.fromCoroutine(connection.quit())
        return leaving.addErrback(lambda _: connection.abort())

    def _let_go(self, idle: _Idle) -> Deferred[None]:
        self._remove(idle)
        return self.leave(idle.connection)

    def _remove(self, idle: _Idle) -> None:
        self._idle.remove(idle)
        if idle.timer is not None and idle.timer.active():
            idle.timer.cancel()


class Unreachable:
    """Servers that could not be reached a moment ago: the next message in line need not wait for them again."""

    def __init__(self, clock: IReactorTime, *, seconds: float, limit: int) -> None:
        self._clock = clock
        self._seconds = seconds
        self._limit = limit
        self._known: OrderedDict[Hashable, tuple[float, Outcome]] = OrderedDict()

    def note(self, key: Hashable, outcome: Outcome) -> None:
        """It could not be reached now."""
        self._known[key] = (self._clock.seconds() + self._seconds, outcome)
        self._known.move_to_end(key)
        while len(self._known) > self._limit:
            self._known.popitem(last=False)

    def forget(self, key: Hashable) -> None:
        """It is to be tried again."""
        self._known.pop(key, None)

    def why(self, key: Hashable) -> Outcome | None:
        """What was said about it, if that was a moment ago."""
        known = self._known.get(key)
        if known is None:
            return None
        until, outcome = known
        if until <= self._clock.seconds():
            del self._known[key]
            return None
        return outcome
