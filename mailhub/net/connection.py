"""One connection that somebody made to us: events to the session, replies back.

The next event is not looked at before the last one is answered, so replies keep their order; while a handler waits
at most two reads are held, and while the peer does not take what was written no further event is handled. What the
machine has to say leaves in one write. What carries the octets is the channel's (`mailhub.net.channel`).
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from enum import Enum
from typing import TYPE_CHECKING, Any, Protocol

import attrs
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.python.failure import Failure

from mailhub.guard import Guard
from mailhub.log import Logger
from mailhub.net.body import copy
from mailhub.net.channel import Channel, Phase, words_of
from mailhub.net.guest import Host
from mailhub.net.link import Disconnected, Job, Link, Session

if TYPE_CHECKING:
    from mailhub.interfaces import IBlobReader

# Events of one connection handled in one reactor turn before the others have theirs.
TURN = 200

log = Logger(namespace="mailhub.net")


class Stage(Enum):
    """How far the conversation has come. It only goes on, from left to right; a stage may be passed over."""

    TALKING = "events are answered as they come"
    ANSWERING = "the peer has said all: what it asked for is answered, then we close"
    LEAVING = "we say farewell and close as soon as the handler at work has ended"
    OVER = "the session has been told that the connection is gone"


# Up to Python 3.11, to name a member of an Enum is a call; these are asked for with every event.
_OPEN, _LOST, _LEAVING = Phase.OPEN, Phase.LOST, Stage.LEAVING


class SessionHost(Host, Protocol):
    """What it needs besides where the session is one of ours."""

    make_session: Callable[[Link], Session]
    tls: Any
    implicit_tls: bool
    guard: Guard | None


@attrs.define(eq=False, repr=False)
class Connection:
    """The owner of a channel, and the `Link` of a session."""

    _factory: SessionHost
    peer: str
    session_id: str
    local: str = ""
    tls: str = ""
    channel: Channel = attrs.field(init=False)
    _session: Session | None = None
    _stage: Stage = Stage.TALKING
    _handler: Coroutine[Any, Any, None] | None = None
    _waiting: Deferred[Any] | None = None
    _drain: Deferred[None] | None = None
    _jobs: list[Job] = attrs.field(factory=list)
    _idle_seconds: float = 0.0
    _active: float = 0.0
    _abandon: IDelayedCall | None = None
    _pumping: bool = False

    def __attrs_post_init__(self) -> None:
        self.channel = Channel(self, self._factory.clock, self._factory.implicit_tls)

    # --- Link ------------------------------------------------------------------------------------------------------

    @property
    def service(self) -> str:
        return self._factory.service

    @property
    def connected(self) -> bool:
        return self.channel.alive

    @property
    def secure(self) -> bool:
        return self.channel.secure

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
        self.channel.arm(max(0.0, self._active + seconds - self._factory.clock.seconds()))

    def speak_for(self, peer: str, local: str = "") -> bool:
        if not self._factory.moved(self, peer):
            return False
        self.local = local or self.local
        return True

    def start_tls(self) -> None:
        if not self.can_start_tls or self._session is None:
            raise RuntimeError("TLS is on already, or there is no certificate")
        self._collect()
        self.channel.start_tls(self._factory.tls)
        self._session.machine.tls_started()

    def flush(self) -> None:
        self._collect()
        self.channel.flush()

    def write(self, octets: bytes) -> None:
        self._collect()
        if octets:
            self.channel.write(octets)

    async def send(self, octets: bytes = b"") -> None:
        self.write(octets)
        while self.channel.blocked and self.channel.alive:
            self._drain = Deferred()
            await self._drain
        if not self.channel.alive:
            raise Disconnected

    async def write_all(self, reader: IBlobReader, offset: int = 0, length: int = -1) -> None:
        await copy(reader, self.send, offset, length)

    def run(self, job: Job) -> None:
        if self.channel.alive:
            self._jobs.append(job)
            self._pump()

    @property
    def silent_seconds(self) -> float:
        if self._handler is not None and not self.channel.blocked:
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
        if not self.channel.gone:
            function()

    def close(self) -> None:
        if self.channel.alive:
            self._collect()
            self.channel.close(self._factory.limits.linger_seconds)
            self._jobs.clear()

    def abort(self) -> None:
        self.channel.abort()

    # --- Owner of the channel --------------------------------------------------------------------------------------

    def made(self) -> None:
        self.local = address_text(self.channel.transport.getHost())
        self._idle_seconds = self._factory.limits.idle_seconds
        self._active = self._factory.clock.seconds()
        self._factory.opened(self)
        try:
            self._session = self._factory.within("session", self._factory.make_session, self)
        except BaseException:
            self._factory.failed(self, "session", Failure())  # type: ignore[no-untyped-call]
        if self._session is None:
            self.abort()
            return
        self.channel.arm(self._idle_seconds)
        if not self._factory.implicit_tls:
            self._greet(self._session)

    def agreed(self) -> None:
        self.tls = self.channel.tls_name
        self._active = self._factory.clock.seconds()
        if self._factory.implicit_tls and self._session is not None:
            self._greet(self._session)
        else:
            self._pump()

    def _greet(self, session: Session) -> None:
        try:
            self._start(session.connected())
        except BaseException:
            self._broken()
        self._pump()

    def received(self, data: bytes) -> None:
        if self._session is None:
            return
        machine, guard = self._session.machine, self._factory.guard
        try:
            if guard is None:
                machine.receive_data(data)
            else:
                guard.within("receive_data", machine.receive_data, data)
        except BaseException:
            self._broken()
            return
        self._pump()

    def ended(self) -> None:
        """What the peer asked for is answered, then we close."""
        if self._session is None:
            return
        if self._stage is Stage.TALKING:
            self._stage = Stage.ANSWERING
        try:
            self._session.machine.receive_eof()
        except BaseException:
            self._broken()
            return
        self._pump()

    def drained(self) -> None:
        self._active = self._factory.clock.seconds()
        drain, self._drain = self._drain, None
        if drain is not None:
            drain.callback(None)
        else:
            self._pump()

    def rang(self) -> None:
        """The one timer of the connection: set anew only when it rings, not with every octet."""
        now = self._factory.clock.seconds()
        if self._handler is not None and not self.channel.blocked:
            self._active = now
        remaining = self._active + self._idle_seconds - now
        if remaining > 0:
            self.channel.arm(remaining)
        elif self.channel.blocked or self.channel.handshaking or self._session is None:
            self.abort()
        else:
            try:
                self._session.timed_out()
                self.close()
            except BaseException:
                self._broken()

    def lost(self, reason: Failure) -> None:
        self._jobs.clear()
        self._factory.gone(self)
        if self.channel.tls_failed:
            log.info(
                "TLS handshake failed: session={session_id} peer=[{peer}] reason={reason!r}",
                session_id=self.session_id,
                peer=self.peer,
                reason=words_of(reason),
            )
        if self._handler is None:
            self._end()
            return
        # What a handler has begun in the store is best finished; but nothing may wait for ever.
        self._abandon = self._factory.clock.callLater(self._factory.limits.abandon_seconds, self.cancel)
        drain, self._drain = self._drain, None
        if drain is not None:
            drain.callback(None)

    # --- One event after the other ---------------------------------------------------------------------------------

    def _pump(self) -> None:
        """Do what can be done now, then send what there is to say."""
        if self._pumping:
            return
        self._pumping = True
        try:
            self._work()
        except BaseException:
            self._broken()
        finally:
            self._pumping = False
        self.channel.flush()

    def _work(self) -> None:
        """Answer one event after the other, until one has to wait or there are no more.

        All that comes in goes through here; an event that is answered at once costs its handler and little else.
        """
        session, channel = self._session, self.channel
        if session is None:
            return
        machine, now = session.machine, self._factory.clock.seconds()
        for _ in range(TURN):
            if self._handler is not None or channel.phase is not _OPEN or channel.blocked:
                break
            if octets := machine.data_to_send():
                channel.write(octets)
            if machine.closing:
                self.close()
                return
            if self._stage is _LEAVING:
                session.shutting_down()
                self.close()
                return
            if self._jobs:
                self._start(self._jobs.pop(0)())
            elif (event := machine.next_event()) is not None:
                self._active = now
                self._handle(session, event)
            elif self._collect():
                self._active = now
            else:
                self._exhausted(session)
                return
        else:
            self._factory.clock.callLater(0, self._pump)
        self._collect()

    def _handle(self, session: Session, event: object) -> None:
        guard = self._factory.guard
        try:
            handler = session.handle(event) if guard is None else guard.within("handle", session.handle, event)
        except BaseException:
            self._crashed(Failure(), "handle")  # type: ignore[no-untyped-call]
            return
        if handler is not None:
            self._handler = handler
            self._step()

    def _exhausted(self, session: Session) -> None:
        """Every octet received has been dealt with."""
        if session.machine.closing or self._stage is Stage.ANSWERING:
            self.close()
        else:
            self.channel.caught_up()

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
            if self._factory.guard is not None:
                waiting = self._factory.guard.within(_name(handler), _resumed, handler, failure)
            else:
                waiting = handler.send(None) if failure is None else _throw(failure, handler)
        except StopIteration:
            self._handler = None
        except BaseException:
            self._handler = None
            self._crashed(Failure(), _name(handler))  # type: ignore[no-untyped-call]
        else:
            self._waiting = waiting
            waiting.addBoth(self._wake)
            return
        if self.channel.phase is _LOST:
            self._end()

    def _wake(self, result: object) -> None:
        # A result need not be handed over: the awaited Deferred has it.
        self._waiting = None
        self._step(result if isinstance(result, Failure) else None)
        self._pump()

    def _crashed(self, failure: Failure, method: str = "session") -> None:
        told = isinstance(failure.value, Disconnected | CancelledError)
        if self._session is None or (told and not self.channel.alive):
            return
        if self._factory.guard is None:
            log.failure("handler failed: session={session_id}", failure=failure, session_id=self.session_id)
        else:
            self._factory.failed(self, method, failure)
        if not self.channel.alive:
            return
        try:
            self._session.crashed(failure)
        except BaseException:
            self._factory.failed(self, "crashed", Failure())  # type: ignore[no-untyped-call]
            self.abort()

    def _broken(self) -> None:
        """The machine itself failed: nothing it says further can be trusted."""
        self._crashed(Failure())  # type: ignore[no-untyped-call]
        try:
            self.close()
        except BaseException:
            self.abort()

    def cancel(self) -> None:
        """Cancel the handler at work."""
        if self._waiting is not None:
            self._waiting.cancel()

    def leave(self) -> None:
        """Say farewell and close as soon as the handler at work has ended."""
        self._stage = Stage.LEAVING
        if self.channel.handshaking:
            self.abort()
        else:
            self._pump()

    def _end(self) -> None:
        if self._stage is Stage.OVER:
            return
        self._stage = Stage.OVER
        session, self._session = self._session, None
        abandon, self._abandon = self._abandon, None
        if abandon is not None and abandon.active():
            abandon.cancel()
        self._factory.ended(self)
        if session is not None:
            try:
                session.disconnected()
            except BaseException:
                self._factory.failed(self, "disconnected", Failure())  # type: ignore[no-untyped-call]

    def _collect(self) -> bool:
        """Take what the machine has to say; false for nothing."""
        octets = self._session.machine.data_to_send() if self._session is not None else b""
        if octets:
            self.channel.write(octets)
        return bool(octets)


def _resumed(handler: Coroutine[Any, Any, None], failure: Failure | None) -> Any:
    return handler.send(None) if failure is None else _throw(failure, handler)


def _name(handler: object) -> str:
    return str(getattr(handler, "__name__", "handle"))


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
