"""Connections of Twisted protocols that are not ours: counted, bounded and ended as our own sessions are."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Protocol, TypeVar

from twisted.internet.interfaces import IDelayedCall, IProtocol, IReactorTime
from twisted.internet.protocol import connectionDone
from twisted.protocols.policies import ProtocolWrapper, WrappingFactory
from twisted.python.failure import Failure

from mailhub.log import Logger
from mailhub.net.link import DriverLimits

log = Logger(namespace="mailhub.net")

T = TypeVar("T")


class Host(Protocol):
    """What a connection, of ours or of a guest, needs of the factory that made it."""

    service: str
    clock: IReactorTime
    limits: DriverLimits

    def opened(self, connection: Any) -> None:
        """The transport is there."""

    def moved(self, connection: Any, peer: str) -> bool:
        """Count it as one of that peer; false, and as before, when there is no room."""

    def gone(self, connection: Any) -> None:
        """The transport is lost."""

    def ended(self, connection: Any) -> None:
        """The session is over: no handler runs any more."""

    def within(self, method: str, function: Callable[..., T], *arguments: Any) -> T:
        """Call a method of whoever serves the connection. Raises what that raises."""

    def failed(self, connection: Any, method: str, failure: Failure) -> None:
        """It raised this: named in the log."""


class Guest(ProtocolWrapper):
    """One connection of a foreign protocol, which has the transport to itself. What it raises ends this connection
    alone. When nothing comes and nothing goes for `DriverLimits.idle_seconds` it is closed: who serves it may know no
    other end."""

    def __init__(
        self, host: Host, wrapping: WrappingFactory[Any], protocol: IProtocol, peer: str, session_id: str
    ) -> None:
        super().__init__(wrapping, protocol)
        self.peer = peer
        self.session_id = session_id
        self._host = host
        self._timer: IDelayedCall | None = None

    def makeConnection(self, transport: Any) -> None:
        """See `IProtocol`."""
        self._host.opened(self)
        self._timer = self._host.clock.callLater(self._host.limits.idle_seconds, self._idle)
        if not self._call("makeConnection", super().makeConnection, transport):
            self.abort()

    def dataReceived(self, data: bytes) -> None:
        """See `IProtocol`."""
        self._stir()
        if not self._call("dataReceived", super().dataReceived, data):
            self.abort()

    def write(self, data: bytes) -> None:
        """See `ITransport`."""
        self._stir()
        super().write(data)  # type: ignore[no-untyped-call]

    def writeSequence(self, data: Iterable[bytes]) -> None:
        """See `ITransport`."""
        self.write(b"".join(data))

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """See `IProtocol`."""
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._timer = None
        self._call("connectionLost", super().connectionLost, reason)
        self._host.gone(self)
        self._host.ended(self)

    def leave(self) -> None:
        """The server stops: close when what was written has gone out."""
        self.loseConnection()  # type: ignore[no-untyped-call]

    def abort(self) -> None:
        """Cut the connection."""
        transport: Any = self.transport
        transport.abortConnection()

    def cancel(self) -> None:
        """There is no handler of ours."""

    def _call(self, method: str, function: Callable[..., object], *arguments: object) -> bool:
        """Whether it has done it. Even sys.exit() is an end of this connection alone."""
        try:
            self._host.within(method, function, *arguments)
        except BaseException:
            self._host.failed(self, method, Failure())  # type: ignore[no-untyped-call]
            return False
        return True

    def _stir(self) -> None:
        if self._timer is not None and self._timer.active():
            self._timer.reset(self._host.limits.idle_seconds)

    def _idle(self) -> None:
        log.info("idle: service={service} session={session}", service=self._host.service, session=self.session_id)
        self.abort()
