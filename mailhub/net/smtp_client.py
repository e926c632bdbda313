"""One outgoing SMTP or LMTP connection as an async object: the wire machine of `wire/smtp/client.py` on a transport."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import (
    IAddress,
    IDelayedCall,
    IHandshakeListener,
    IProtocol,
    IProtocolFactory,
    IPushProducer,
    IReactorTime,
)
from twisted.python.failure import Failure
from zope.interface import implementer

from mailhub.errors import MailError, TemporaryError
from mailhub.log import Logger
from mailhub.message.address import Address
from mailhub.message.envelope import Mail, Outcome
from mailhub.net.body import copy
from mailhub.wire.smtp.client import (
    ClientEvent,
    Finished,
    OutgoingMessage,
    Phase,
    Ready,
    SendBody,
    SmtpClient,
    SmtpClientSettings,
    StartTls,
    Unusable,
)

if TYPE_CHECKING:
    from mailhub.interfaces import IBlobReader, INetwork

log = Logger(namespace="mailhub.net.smtp")

_READ = 65536  # octets held of a server that talks while nobody listens


@attrs.frozen
class SmtpTimeouts:
    """Seconds to wait for the server (RFC 5321 4.5.3.2). `block` is for it to take one block of the message."""

    connect: float = 30.0
    tls: float = 60.0
    greeting: float = 300.0
    command: float = 300.0
    data: float = 120.0
    block: float = 180.0
    final: float = 600.0
    quit: float = 10.0

    def of(self, phase: Phase) -> float:
        """How long the machine may stay in a phase without a reply."""
        match phase:
            case Phase.GREETING:
                return self.greeting
            case Phase.TLS:
                return self.tls
            case Phase.DATA:
                return self.data
            case Phase.BODY:
                return self.block
            case Phase.FINAL:
                return self.final
            case Phase.QUIT:
                return self.quit
            case _:
                return self.command


class SessionFailed(TemporaryError):
    """The server was reached but serves us not, or not now. Nothing was sent.

    `tls_failed`: the TLS handshake failed, so that an opportunistic client may connect again with `tls="never"`.
    """

    def __init__(self, outcome: Outcome, phase: Phase) -> None:
        super().__init__(outcome.reply, status=outcome.status, detail=f"waiting for {phase.value}")
        self.outcome = outcome
        self.tls_failed = phase is Phase.TLS


class _Interrupted(Exception):
    """The machine has come to an end of its own while the message was being written."""


@implementer(IProtocol, IHandshakeListener, IPushProducer)
class SmtpConnection:
    """One connection. Made by `connect()`; messages are sent one at a time, as many as one likes."""

    def __init__(self, settings: SmtpClientSettings, clock: IReactorTime, tls: Any, timeouts: SmtpTimeouts) -> None:
        self._machine = SmtpClient(settings)
        self._clock = clock
        self._tls = tls
        self._timeouts = timeouts
        self._implicit_tls = settings.secure
        self._handshaking = False
        self._transport: Any = None
        self._waiter: Deferred[None] | None = None
        self._blocked = False
        self._deaf = False
        self._unread = 0
        self._lost = False
        self._closer: IDelayedCall | None = None

    @property
    def usable(self) -> bool:
        """Whether another message can be sent."""
        return self._machine.phase is Phase.READY and not self._machine.closing

    @property
    def secure(self) -> bool:
        """Whether TLS is on."""
        return self._machine.secure

    async def set_up(self) -> None:
        """Greeting, EHLO, STARTTLS and AUTH as the settings want them. Raises SessionFailed."""
        event = await self._next_event()
        if isinstance(event, StartTls):
            await self._start_tls()
            event = await self._next_event()
        if not isinstance(event, Ready):
            self.abort()
            if isinstance(event, Unusable):
                raise SessionFailed(event.outcome, event.phase)
            raise TemporaryError("Connection closed", status="4.4.2")

    async def send(
        self, envelope: Mail, recipients: Sequence[Address], body: IBlobReader, offset: int = 0
    ) -> Mapping[Address, Outcome]:
        """Send the octets of `body` from `offset`. An outcome for every recipient, whatever happens.

        Cancelling aborts the connection; what the server then does with the message is unknown, so that it counts
        as not delivered.
        """
        self._machine.send(OutgoingMessage(envelope, tuple(recipients), body.size - offset))
        try:
            event = await self._next_event()
            if isinstance(event, SendBody):
                event = await self._send_body(body, offset)
        except BaseException:
            self.abort()
            raise
        if self._machine.closing:
            self._cut()
        assert isinstance(event, Finished), f"a message ends with Finished, not {event}"
        return event.outcomes

    async def quit(self) -> None:
        """Say goodbye, wait a little for the answer, and close. Harmless on a connection that is lost."""
        if not self.usable:
            self.abort()
            return
        self._machine.quit()
        await self._next_event()
        if not self._lost and self._closer is None:
            # A registered producer would keep the transport open; a server that never closes its side may not either.
            self._closer = self._clock.callLater(self._timeouts.quit, self._cut)
            self._transport.unregisterProducer()
            self._transport.loseConnection()

    def abort(self) -> None:
        """Cut the connection."""
        self._machine.fail("4.4.2", "Connection given up")
        self._cut()
        self._wake()

    async def _send_body(self, body: IBlobReader, offset: int) -> ClientEvent | None:
        try:
            await copy(body, self._write_block, offset)
        except _Interrupted:
            pass
        except MailError as error:
            # Without the final dot the server takes nothing (RFC 5321 4.1.1.4).
            log.error("message could not be read: {error:text}", error=str(error))
            self._machine.fail("4.3.0", "Message could not be read")
            self._cut()
        else:
            self._machine.end_body()
        return await self._next_event()

    async def _write_block(self, octets: bytes) -> None:
        """Hand a block over and wait until the server's side of the transport has room for more."""
        self._machine.send_body(octets)
        self._flush()
        deadline = self._clock.seconds() + self._timeouts.block
        while self._blocked and not self._over_early():
            await self._wait(deadline)
        if self._over_early():
            raise _Interrupted

    def _over_early(self) -> bool:
        """Whether a premature reply, a time-out or a lost connection has ended the message."""
        if self._machine.phase is Phase.BODY:
            self._machine.look_ahead()
        return self._machine.phase is not Phase.BODY

    # --- Waiting ---------------------------------------------------------------------------------------------------

    async def _next_event(self) -> ClientEvent | None:
        """None when the machine is closing and has nothing more to tell."""
        replies, deadline = -1, 0.0
        while True:
            event = self._machine.next_event()
            self._flush()
            if event is not None or self._machine.closing:
                return event
            self._listen()
            if replies != self._machine.replies:
                # A server that dribbles octets without ever completing a reply gets no more time.
                replies = self._machine.replies
                deadline = self._clock.seconds() + self._timeouts.of(self._machine.phase)
            await self._wait(deadline)

    async def _wait(self, deadline: float) -> None:
        """Until something happens, or the deadline (clock seconds) fails the machine."""
        timer = self._clock.callLater(max(0.0, deadline - self._clock.seconds()), self._timed_out)
        self._waiter = Deferred()
        try:
            await self._waiter
        finally:
            self._waiter = None
            if timer.active():
                timer.cancel()

    def _wake(self) -> None:
        waiter, self._waiter = self._waiter, None
        if waiter is not None:
            waiter.callback(None)

    def _timed_out(self) -> None:
        self._machine.fail("4.4.2", f"Timed out waiting for {self._machine.phase.value}")
        self._cut()
        self._wake()

    async def _start_tls(self) -> None:
        self._handshaking = True
        # The transport registers its producer anew with the TLS layer, which starts out unpaused.
        self._blocked = False
        self._transport.startTLS(self._tls)
        deadline = self._clock.seconds() + self._timeouts.tls
        while self._handshaking and not self._machine.closing:
            await self._wait(deadline)
        if not self._machine.closing:
            self._machine.tls_started()

    # --- Twisted's side --------------------------------------------------------------------------------------------

    def makeConnection(self, transport: Any) -> None:
        self._transport = transport
        setter = getattr(transport, "setTcpNoDelay", None)
        if setter is not None:
            setter(True)
        transport.registerProducer(self, True)
        if self._implicit_tls:
            transport.startTLS(self._tls)

    def connectionMade(self) -> None:
        """Part of IProtocol; makeConnection() has done it."""

    def handshakeCompleted(self) -> None:
        self._handshaking = False
        self._wake()

    def dataReceived(self, data: bytes) -> None:
        if self._machine.closing:
            return
        self._unread += len(data)
        self._machine.receive_data(data)
        if self._waiter is not None:
            self._wake()
        elif self._machine.phase is Phase.READY:
            # Nobody waits: all that can come now is the end (421, or nonsense).
            self._machine.look_ahead()
            self._unread = 0
            if self._machine.closing:
                self._cut()
        if self._unread > _READ and not self._deaf and not self._lost:
            self._deaf = True
            self._transport.pauseProducing()

    def connectionLost(self, reason: Failure) -> None:
        self._lost = True
        if self._closer is not None and self._closer.active():
            self._closer.cancel()
        what = self._machine.phase.value
        text = " ".join(reason.getErrorMessage().split())[:200]
        self._machine.fail("4.4.2", f"Connection lost while waiting for {what}: {text}")
        self._wake()

    def pauseProducing(self) -> None:
        """The transport holds as much as it likes to."""
        self._blocked = True

    def resumeProducing(self) -> None:
        """The transport has written everything out."""
        self._blocked = False
        self._wake()

    def stopProducing(self) -> None:
        """connectionLost() follows."""

    def _flush(self) -> None:
        octets = self._machine.data_to_send()
        if octets and not self._lost:
            self._transport.write(octets)

    def _listen(self) -> None:
        """Everything received has been dealt with."""
        self._unread = 0
        if self._deaf and not self._lost:
            self._deaf = False
            self._transport.resumeProducing()

    def _cut(self) -> None:
        if not self._lost:
            self._transport.abortConnection()


@implementer(IProtocolFactory)
@attrs.frozen
class _Factory:
    connection: SmtpConnection

    def buildProtocol(self, addr: IAddress | None) -> IProtocol:
        return self.connection

    def doStart(self) -> None:
        """Part of IProtocolFactory."""

    def doStop(self) -> None:
        """Part of IProtocolFactory."""


async def connect(
    network: INetwork,
    clock: IReactorTime,
    host: str,
    port: int,
    settings: SmtpClientSettings,
    tls: Any = None,
    timeouts: SmtpTimeouts | None = None,
) -> SmtpConnection:
    """Connect to an IP address (or `unix:/path`) and set the session up.

    `tls` is what `transport.startTLS` takes (see `mailhub.net.tls.ClientTls`); without it, `settings.tls` counts as
    "never". With `settings.secure`, TLS is spoken from the first octet. Raises TemporaryError when the server cannot
    be reached, SessionFailed when it does not serve us.
    """
    if tls is None:
        if settings.secure or settings.tls == "required":
            raise TemporaryError("TLS is required but not configured", status="4.7.4")
        settings = attrs.evolve(settings, tls="never")
    timeouts = timeouts or SmtpTimeouts()
    connection = SmtpConnection(settings, clock, tls, timeouts)
    await network.connect(host, port, _Factory(connection), timeouts.connect)
    try:
        await connection.set_up()
    except BaseException:
        connection.abort()
        raise
    return connection
