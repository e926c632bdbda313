"""Runs the wire machine of one service on Twisted transports: makes connections, counts them, ends them.

The contract for sessions and machines is in `mailhub.net.link`, what happens on one connection in
`mailhub.net.connection` and `mailhub.net.channel`.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any, TypeVar

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IAddress, ILoggingContext, IProtocol, IProtocolFactory, IReactorTime
from twisted.protocols.policies import WrappingFactory
from twisted.python.failure import Failure
from zope.interface import implementer

from mailhub.errors import ConfigurationError
from mailhub.guard import Guard
from mailhub.log import Logger
from mailhub.net.connection import Connection, address_text
from mailhub.net.crowd import Crowd, Room
from mailhub.net.guest import Guest
from mailhub.net.link import DriverLimits, Link, Session

log = Logger(namespace="mailhub.net")

T = TypeVar("T")


@implementer(IProtocol)
@attrs.define(eq=False, repr=False)
class RefusedConnection:
    """Turns a connection away that is one too many."""

    _octets: bytes
    transport: Any = None

    def makeConnection(self, transport: Any) -> None:
        self.transport = transport
        if self._octets:
            transport.write(self._octets)
            transport.loseConnection()
        else:
            transport.abortConnection()

    def connectionMade(self) -> None:
        """Part of IProtocol; makeConnection() has done it."""

    def dataReceived(self, data: bytes) -> None:
        """Not listened to."""

    def connectionLost(self, reason: Failure) -> None:
        """That is all."""


@implementer(IProtocolFactory, ILoggingContext)
@attrs.define(eq=False, repr=False)
class DriverFactory:
    """Makes connections of one service, counts them, and ends them in good order.

    `tls` is what `transport.startTLS` takes; with `implicit_tls` the transport speaks TLS already (see
    `mailhub.net.listen`). `refusal` is what a connection too many is told (a whole line) before it is closed.
    `room` is shared by all services. With `guests` it is that factory's protocols that serve the connections, and no
    sessions are made. What is not ours has a `guard`, by which it is called and named.
    """

    make_session: Callable[[Link], Session]
    clock: IReactorTime
    random: Random
    service: str = ""
    tls: Any = None
    implicit_tls: bool = False
    limits: DriverLimits = attrs.field(factory=DriverLimits)
    refusal: bytes = b""
    room: Room = attrs.field(factory=Room)
    guests: IProtocolFactory | None = None
    guard: Guard | None = None
    sessions: set[Connection | Guest] = attrs.field(init=False, factory=set)
    waiting: set[Any] = attrs.field(init=False, factory=set)  # see `mailhub.net.gate`
    _crowd: Crowd = attrs.field(init=False)
    _connections: int = attrs.field(init=False, default=0)
    _prefix: str = attrs.field(init=False, default="")
    _made: int = attrs.field(init=False, default=0)
    _ports: int = attrs.field(init=False, default=0)
    _wrapping: WrappingFactory = attrs.field(init=False)
    _stopping: bool = attrs.field(init=False, default=False)
    _empty: Deferred[None] | None = attrs.field(init=False, default=None)

    def __attrs_post_init__(self) -> None:
        self._crowd = Crowd(self.limits)
        self._wrapping = WrappingFactory(self)  # type: ignore[no-untyped-call]
        self._wrapping.noisy = False
        self._prefix = "".join(self.random.choices("bcdfghjkmnpqrstvwxyz", k=5))

    def adopt(self, new: DriverFactory) -> None:
        """Serve connections from now on as `new` would; those that are open go on as they began. Where there is a
        certificate already, its owner has it replaced: ports with TLS from the first octet hold on to `tls`."""
        self.make_session, self.limits, self.refusal = new.make_session, new.limits, new.refusal
        self._crowd.bound(new.limits)
        before, self.guests = (self.guests, self.guard), new.guests
        self.guard = new.guard
        for _ in range(self._ports):
            if new.guests is not None:
                self._try("doStart", new.guests.doStart, new.guard)
            if before[0] is not None:
                self._try("doStop", before[0].doStop, before[1])
        if self.tls is None or new.tls is None:
            self.tls = new.tls

    def logPrefix(self) -> str:
        """What Twisted says of a port begins with it: "smtp starting on 25"."""
        return self.service

    def doStart(self) -> None:
        """A port listens. Raises ConfigurationError where a foreign factory cannot start."""
        self._ports += 1
        if self.guests is not None:
            try:
                self.guests.doStart()
            except BaseException as error:
                fault = f"{type(error).__name__}: {error}"
                raise ConfigurationError(f"[listen] {self.service}: its factory cannot start: {fault}") from error

    def doStop(self) -> None:
        """A port does not listen any more."""
        self._ports -= 1
        if self.guests is not None:
            self._try("doStop", self.guests.doStop, self.guard)

    def _try(self, method: str, call: Callable[[], object], guard: Guard | None) -> None:
        try:
            call()
        except BaseException as error:
            _told(guard, self.service, method, Failure(error))  # type: ignore[no-untyped-call]

    def within(self, method: str, function: Callable[..., T], *arguments: Any) -> T:
        """See `Host`."""
        return function(*arguments) if self.guard is None else self.guard.within(method, function, *arguments)

    def failed(self, connection: Connection | Guest, method: str, failure: Failure) -> None:
        """See `Host`."""
        _told(self.guard, self.service, method, failure, connection.session_id)

    def buildProtocol(self, addr: IAddress | None) -> IProtocol:
        """A connection, or a refusal when there are too many."""
        peer = address_text(addr)
        if self._stopping or self._full(peer):
            log.info("connection refused: service={service} peer=[{peer}]", service=self.service, peer=peer)
            return RefusedConnection(b"" if self.implicit_tls else self.refusal)
        self._made += 1
        session_id = f"{self._prefix}{self._made}"
        if self.guests is None:
            return Connection(self, peer, session_id).channel
        try:
            protocol = self.within("buildProtocol", self.guests.buildProtocol, addr)
        except BaseException as error:
            failure = Failure(error)  # type: ignore[no-untyped-call]
            _told(self.guard, self.service, "buildProtocol", failure, session_id)
            protocol = None
        return RefusedConnection(b"") if protocol is None else Guest(self, self._wrapping, protocol, peer, session_id)

    def _full(self, peer: str) -> bool:
        return self.room.full or self._connections >= self.limits.connections or not self._crowd.has_room(peer)

    def opened(self, connection: Connection | Guest) -> None:
        """Count it."""
        self.sessions.add(connection)
        self._connections += 1
        self.room.taken += 1
        self._crowd.enter(connection.peer)

    def moved(self, connection: Connection | Guest, peer: str) -> bool:
        """See `Host`."""
        self._crowd.leave(connection.peer)
        has_room = self._crowd.has_room(peer)
        if has_room:
            connection.peer = peer
        self._crowd.enter(connection.peer)
        return has_room

    def gone(self, connection: Connection | Guest) -> None:
        """Its network has room for another."""
        self._connections -= 1
        self.room.taken -= 1
        self._crowd.leave(connection.peer)

    def ended(self, connection: Connection | Guest) -> None:
        """Its session is over; stop() may be waiting for that."""
        self.sessions.discard(connection)
        if not self.sessions and self._empty is not None:
            empty, self._empty = self._empty, None
            empty.callback(None)

    async def stop(self, grace_seconds: float = 5.0) -> None:
        """Turn away newcomers, say farewell to everyone, and wait; after the grace time cut what is left."""
        self._stopping = True
        for waiting in tuple(self.waiting):
            waiting.abort()
        for connection in tuple(self.sessions):
            connection.leave()
        if not self.sessions:
            return
        self._empty = Deferred()
        timer = self.clock.callLater(grace_seconds, self._cut)
        await self._empty
        if timer.active():
            timer.cancel()

    def _cut(self) -> None:
        for connection in tuple(self.sessions):
            connection.abort()
            connection.cancel()
        self.clock.callLater(1.0, self._give_up)

    def _give_up(self) -> None:
        """A handler that cannot even be cancelled must not keep the process from ending."""
        if self._empty is not None:
            log.warn("sessions left at stop: service={service} n={n}", service=self.service, n=len(self.sessions))
            empty, self._empty = self._empty, None
            empty.callback(None)


def _told(guard: Guard | None, service: str, method: str, failure: Failure, session: str = "") -> None:
    """Name what has failed: what is not ours by its guard."""
    if guard is None or failure.value is None:
        log.failure(
            "{service} failed: session={session} method={method}",
            failure,
            service=service,
            session=session,
            method=method,
        )
    else:
        guard.fault_of_one(method, failure.value, {"session": session} if session else {})
