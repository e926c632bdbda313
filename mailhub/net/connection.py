"""One connection: octets into the wire machine, events to the session, replies back.

The next event is not looked at before the last one is answered, so replies keep their order; while a handler waits
at most two reads are held, and while the peer does not take what was written no further event is handled. What the
machine has to say leaves in one write.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, Protocol

import attrs
from OpenSSL import SSL
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import (
    IDelayedCall,
    IHalfCloseableProtocol,
    IHandshakeListener,
    IProtocol,
    IPushProducer,
    IReactorTime,
)
from twisted.python.failure import Failure
from zope.interface import implementer

from mailhub.log import Logger
from mailhub.net.body import copy
from mailhub.net.link import Disconnected, DriverLimits, Job, Link, Session

if TYPE_CHECKING:
    from mailhub.interfaces import IBlobReader

# What Twisted reads at a time, and the mark at which its TCP transport asks a producer to pause, in octets.
READ = 65536

# Events of one connection handled in one reactor turn before the others have theirs.
TURN = 200

log = Logger(namespace="mailhub.net")


class Host(Protocol):
    """What a connection needs of the factory that made it."""

    make_session: Callable[[Link], Session]
    service: str
    clock: IReactorTime
    tls: Any
    implicit_tls: bool
    limits: DriverLimits

    def opened(self, connection: Connection) -> None:
        """The transport is there."""

    def gone(self, connection: Connection) -> None:
        """The transport is lost."""

    def ended(self, connection: Connection) -> None:
        """No handler runs any more."""


@implementer(IProtocol, IHalfCloseableProtocol, IHandshakeListener, IPushProducer)
@attrs.define(eq=False, repr=False)
class Connection:
    """One connection: Twisted's protocol on one side, `Link` on the other."""

    _factory: Host
    peer: str
    session_id: str
    local: str = ""
    secure: bool = False
    tls: str = ""
    transport: Any = None
    _session: Session | None = None
    _handler: Coroutine[Any, Any, None] | None = None
    _waiting: Deferred[Any] | None = None
    _drain: Deferred[None] | None = None
    _jobs: list[Job] = attrs.field(factory=list)
    _out: list[bytes] = attrs.field(factory=list)
    _out_size: int = 0
    _unread: int = 0
    _idle_seconds: float = 0.0
    _active: float = 0.0
    _timer: IDelayedCall | None = None
    _pumping: bool = False
    _blocked: bool = False
    _deaf: bool = False
    _handshaking: bool = False
    _eof: bool = False
    _leaving: bool = False
    _closed: bool = False  # no more events
    _cut: bool = False  # and nothing goes out any more: aborted or lost
    _lost: bool = False
    _over: bool = False

    # --- Link ------------------------------------------------------------------------------------------------------

    @property
    def service(self) -> str:
        return self._factory.service

    @property
    def connected(self) -> bool:
        return not self._closed

    @property
    def can_start_tls(self) -> bool:
        return not self.secure and self._factory.tls is not None

    @property
    def idle_seconds(self) -> float:
        """Seconds without an event after which the session times out."""
        return self._idle_seconds

    @idle_seconds.setter
    def idle_seconds(self, seconds: float) -> None:
        self._idle_seconds = seconds
        if self._timer is not None and not self._closed:
            remaining = max(0.0, self._active + seconds - self._factory.clock.seconds())
            if self._timer.getTime() > self._factory.clock.seconds() + remaining:
                self._timer.reset(remaining)

    def start_tls(self) -> None:
        if not self.can_start_tls or self._session is None:
            raise RuntimeError("TLS is on already, or there is no certificate")
        self.flush()
        self._handshaking = True
        self.secure = True
        # The transport registers its producer anew with the TLS layer, which starts out unpaused.
        self._blocked = False
        self.transport.startTLS(self._factory.tls)
        self._session.machine.tls_started()
        self._unread = 0

    def flush(self) -> None:
        if not self._cut:
            self._collect()
            self._write_out()

    def write(self, octets: bytes) -> None:
        if not self._cut:
            self._collect()
            self._append(octets)

    async def send(self, octets: bytes = b"") -> None:
        self.write(octets)
        while self._blocked and not self._cut:
            self._drain = Deferred()
            await self._drain
        if self._cut:
            raise Disconnected

    async def write_all(self, reader: IBlobReader, offset: int = 0, length: int = -1) -> None:
        await copy(reader, self.send, offset, length)

    def run(self, job: Job) -> None:
        if not self._closed:
            self._jobs.append(job)
            self._pump()

    @property
    def silent_seconds(self) -> float:
        if self._handler is not None and not self._blocked:
            return 0.0
        return max(0.0, self._factory.clock.seconds() - self._active)

    def expel(self, farewell: Callable[[], None], seconds: float = 5.0) -> None:
        async def leave() -> None:
            farewell()
            self.close()

        self.call_later(seconds, self.abort)
        self.run(leave)

    def call_later(self, seconds: float, function: Callable[[], None]) -> IDelayedCall:
        return self._factory.clock.callLater(seconds, self._call, function)

    def _call(self, function: Callable[[], None]) -> None:
        if not self._cut:
            function()

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        self.flush()
        self._jobs.clear()
        self._arm(self._factory.limits.linger_seconds)
        # A registered producer would keep the transport open after loseConnection().
        self.transport.unregisterProducer()
        self.transport.loseConnection()

    def abort(self) -> None:
        self._closed = self._cut = True
        if not self._lost:
            self.transport.abortConnection()

    # --- Twisted's side --------------------------------------------------------------------------------------------

    def makeConnection(self, transport: Any) -> None:
        self.transport = transport
        self.local = address_text(transport.getHost())
        self._idle_seconds = self._factory.limits.idle_seconds
        self._active = self._factory.clock.seconds()
        self._factory.opened(self)
        _tune(transport)
        transport.registerProducer(self, True)
        self._arm(self._idle_seconds)
        self.secure = self._handshaking = self._factory.implicit_tls
        try:
            self._session = self._factory.make_session(self)
        except Exception:
            log.failure("no session could be made: session={session_id}", session_id=self.session_id)
            self.abort()
            return
        if not self._handshaking:
            self._greet(self._session)

    def connectionMade(self) -> None:
        """Part of IProtocol; makeConnection() has done it."""

    def _greet(self, session: Session) -> None:
        self._start(session.connected())
        self._pump()

    def handshakeCompleted(self) -> None:
        self._handshaking = False
        self.tls = _tls_of(self.transport)
        self._active = self._factory.clock.seconds()
        if self._factory.implicit_tls and self._session is not None:
            self._greet(self._session)

    def dataReceived(self, data: bytes) -> None:
        if self._closed or self._session is None:
            return
        self._unread += len(data)
        try:
            self._session.machine.receive_data(data)
        except Exception:
            self._broken()
            return
        self._pump()
        if self._unread > READ and not self._closed and not self._deaf:
            self._deaf = True
            self.transport.pauseProducing()

    def readConnectionLost(self) -> None:
        """The peer will send no more but may still read: what it asked for is answered, then we close."""
        self._eof = True
        if self._session is None or self._closed:
            return
        try:
            self._session.machine.receive_eof()
        except Exception:
            self._broken()
            return
        self._pump()

    def writeConnectionLost(self) -> None:
        """Never: the driver does not close one direction alone."""

    def pauseProducing(self) -> None:
        """The transport holds as much as it likes to."""
        self._blocked = True

    def resumeProducing(self) -> None:
        """The transport has written everything out."""
        self._blocked = False
        self._active = self._factory.clock.seconds()
        drain, self._drain = self._drain, None
        if drain is not None:
            drain.callback(None)
        else:
            self._pump()

    def stopProducing(self) -> None:
        """connectionLost() follows."""

    def connectionLost(self, reason: Failure) -> None:
        if self._lost:
            return
        self._closed = self._cut = self._lost = True
        self._disarm()
        self._jobs.clear()
        self._out.clear()
        self._factory.gone(self)
        if self._handshaking:
            log.info(
                "TLS handshake failed: session={session_id} peer=[{peer}] reason={reason!r}",
                session_id=self.session_id,
                peer=self.peer,
                reason=_one_line(reason),
            )
        drain, self._drain = self._drain, None
        if drain is not None:
            drain.callback(None)
        if self._handler is not None:
            # What a handler has begun in the store is best finished; but nothing may wait for ever.
            self._timer = self._factory.clock.callLater(self._factory.limits.abandon_seconds, self.cancel)
        else:
            self._end()

    # --- One event after the other ---------------------------------------------------------------------------------

    def _pump(self) -> None:
        """Do what can be done now, then send what there is to say."""
        if self._pumping:
            return
        self._pumping = True
        turns = TURN
        try:
            while self._handler is None and not self._blocked and not self._closed:
                if not turns:
                    self._factory.clock.callLater(0, self._pump)
                    break
                turns -= 1
                if not self._turn():
                    break
        except Exception:
            self._broken()
        finally:
            self._pumping = False
        self.flush()

    def _turn(self) -> bool:
        """One step; false when there is nothing to do before more octets come."""
        session = self._session
        if session is None or (self._handshaking and self._factory.implicit_tls):
            return False
        self._collect()
        if session.machine.closing:
            self.close()
            return False
        if self._leaving:
            session.shutting_down()
            self.close()
            return False
        if self._jobs:
            self._start(self._jobs.pop(0)())
            return True
        event = session.machine.next_event()
        if event is not None:
            self._active = self._factory.clock.seconds()
            self._start(session.handle(event))
            return True
        if self._collect():
            self._active = self._factory.clock.seconds()
            return True
        self._exhausted(session)
        return False

    def _exhausted(self, session: Session) -> None:
        """Every octet received has been dealt with."""
        if session.machine.closing or self._eof:
            self.close()
            return
        self._unread = 0
        if self._deaf:
            self._deaf = False
            self.transport.resumeProducing()

    def _start(self, handler: Coroutine[Any, Any, None]) -> None:
        self._handler = handler
        self._step()

    def _step(self, failure: Failure | None = None) -> None:
        """Run the handler until it ends or waits. `failure` is raised where it waits now.

        Twisted's `Deferred.fromCoroutine` would do, at several times the price for a handler that never waits.
        """
        handler = self._handler
        assert handler is not None
        try:
            waiting = handler.send(None) if failure is None else _throw(failure, handler)
        except StopIteration:
            self._handler = None
        except Exception:
            self._handler = None
            self._crashed(Failure())  # type: ignore[no-untyped-call]
        else:
            self._waiting = waiting
            waiting.addBoth(self._wake)
            return
        if self._lost:
            self._end()

    def _wake(self, result: object) -> None:
        # A result need not be handed over: the awaited Deferred has it.
        self._waiting = None
        self._step(result if isinstance(result, Failure) else None)
        self._pump()

    def _crashed(self, failure: Failure) -> None:
        if self._session is None or (self._cut and isinstance(failure.value, Disconnected | CancelledError)):
            return
        log.failure("handler failed: session={session_id}", failure=failure, session_id=self.session_id)
        if self._cut:
            return
        try:
            self._session.crashed(failure)
        except Exception:
            log.failure("no answer to a failure: session={session_id}", session_id=self.session_id)
            self.abort()

    def _broken(self) -> None:
        """The machine itself failed: nothing it says further can be trusted."""
        self._crashed(Failure())  # type: ignore[no-untyped-call]
        self.close()

    def cancel(self) -> None:
        """Cancel the handler at work."""
        if self._waiting is not None:
            self._waiting.cancel()

    def leave(self) -> None:
        """Say farewell and close as soon as the handler at work has ended."""
        self._leaving = True
        if self._handshaking:
            self.abort()
        else:
            self._pump()

    def _end(self) -> None:
        if self._over:
            return
        self._over = True
        session, self._session = self._session, None
        self._disarm()
        self._factory.ended(self)
        if session is not None:
            try:
                session.disconnected()
            except Exception:
                log.failure("session did not end cleanly: session={session_id}", session_id=self.session_id)

    # --- Out -------------------------------------------------------------------------------------------------------

    def _collect(self) -> bool:
        """Take what the machine has to say; false for nothing."""
        octets = self._session.machine.data_to_send() if self._session is not None else b""
        self._append(octets)
        return bool(octets)

    def _append(self, octets: bytes) -> None:
        if octets:
            self._out.append(octets)
            self._out_size += len(octets)
            if self._out_size >= READ:
                self._write_out()

    def _write_out(self) -> None:
        if self._out:
            octets = b"".join(self._out) if len(self._out) > 1 else self._out[0]
            self._out.clear()
            self._out_size = 0
            self.transport.write(octets)

    # --- Time ------------------------------------------------------------------------------------------------------

    def _arm(self, seconds: float) -> None:
        self._disarm()
        self._timer = self._factory.clock.callLater(seconds, self._ring)

    def _disarm(self) -> None:
        timer, self._timer = self._timer, None
        if timer is not None and timer.active():
            timer.cancel()

    def _ring(self) -> None:
        """The one timer of the connection: set anew only when it rings, not with every octet."""
        self._timer = None
        if self._closed:
            self.abort()
            return
        now = self._factory.clock.seconds()
        if self._handler is not None and not self._blocked:
            self._active = now
        remaining = self._active + self._idle_seconds - now
        if remaining > 0:
            self._arm(remaining)
        elif self._blocked or self._handshaking or self._session is None:
            self.abort()
        else:
            self._session.timed_out()
            self.close()


def address_text(address: object) -> str:
    """The IP address of a Twisted address, "" for a local socket."""
    if not isinstance(address, IPv4Address | IPv6Address):
        return ""
    host = str(address.host)
    return host[7:] if host.startswith("::ffff:") and "." in host else host


def _throw(failure: Failure, handler: Coroutine[Any, Any, None]) -> Any:
    assert failure.value is not None
    traceback = failure.getTracebackObject()  # type: ignore[no-untyped-call]
    return handler.throw(failure.value.with_traceback(traceback))


def _tls_of(transport: Any) -> str:
    """What TLS a transport speaks; "" where it is played."""
    handle: Any = transport.getHandle() if hasattr(transport, "getHandle") else None
    if not hasattr(handle, "get_cipher_name"):
        return ""
    return f"{handle.get_protocol_version_name()}/{handle.get_cipher_name()}"


def _one_line(reason: Failure) -> str:
    errors = reason.value.args[0] if isinstance(reason.value, SSL.Error) and reason.value.args else ()
    if isinstance(errors, list):
        # OpenSSL's: library, function, and what is wrong.
        return ", ".join(what for _, _, what in errors)[:200]
    return " ".join(reason.getErrorMessage().split())[:200]


def _tune(transport: Any) -> None:
    """Replies go out at once, and a peer that vanished in IDLE is noticed in the end."""
    for name in ("setTcpNoDelay", "setTcpKeepAlive"):
        setter = getattr(transport, name, None)
        if setter is not None:
            setter(1)
