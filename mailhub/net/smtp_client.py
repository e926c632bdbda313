"""One outgoing SMTP or LMTP connection as an async object: the wire machine of `wire/smtp/client.py` on a channel."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IAddress, IProtocol, IProtocolFactory, IReactorTime
from twisted.python.failure import Failure
from zope.interface import implementer

from mailhub.errors import MailError, TemporaryError
from mailhub.keys import limit
from mailhub.log import Logger
from mailhub.message.envelope import Mail, Outcome, Recipient, Source
from mailhub.message.needs import Needs
from mailhub.net.body import copy, whole
from mailhub.net.channel import Channel, words_of
from mailhub.wire.smtp.client import SmtpClient, SmtpClientSettings
from mailhub.wire.smtp.client_events import ClientEvent, Finished, Phase, Ready, SendBody, StartTls, Unusable
from mailhub.wire.smtp.hop import Hop, OutgoingMessage

if TYPE_CHECKING:
    from mailhub.interfaces import IBlobReader, INetwork

log = Logger(namespace="mailhub.net.smtp")

# Octets of a message that go out in one piece with its end: less than makes a transport ask for a pause.
_SMALL = 32768
# A server that is not heard of has so many seconds where others wait for its place; then one looks again for these.
_HURRIED_SECONDS = 30.0
_LOOK_AGAIN_SECONDS = 5.0


@attrs.frozen
class SmtpTimeouts:
    """Seconds to wait for the server, which are those of RFC 5321 4.5.3.2 where it has some. They run until a reply is
    complete, however many octets of it come. `block` is for the server to take one block of the message."""

    connect: float = limit("relay_connect_seconds", 30, 1, 3600)
    tls: float = limit("relay_tls_seconds", 60, 1, 3600)
    greeting: float = limit("relay_greeting_seconds", 300, 1, 3600)
    command: float = limit("relay_command_seconds", 300, 1, 3600)
    mail: float = limit("relay_mail_seconds", 300, 1, 3600)
    recipient: float = limit("relay_recipient_seconds", 300, 1, 3600)
    data: float = limit("relay_data_seconds", 120, 1, 3600)
    block: float = limit("relay_block_seconds", 180, 1, 3600)
    final: float = limit("relay_final_seconds", 600, 1, 7200)
    quit: float = limit("relay_quit_seconds", 10, 1, 3600)

    def of(self, phase: Phase) -> float:
        """How long the machine may stay in a phase without a reply."""
        match phase:
            case Phase.GREETING:
                return self.greeting
            case Phase.TLS:
                return self.tls
            case Phase.MAIL:
                return self.mail
            case Phase.RECIPIENT:
                return self.recipient
            case Phase.DATA:
                return self.data
            case Phase.BODY | Phase.CHUNK:
                return self.block
            case Phase.FINAL:
                return self.final
            case Phase.QUIT:
                return self.quit
            case _:
                return self.command


class SessionFailed(TemporaryError):
    """The server was reached but serves us not, or not now. Nothing was sent.

    `tls_failed`: the TLS handshake failed, or the server fell silent, broke off or talked nonsense at STARTTLS, so that
    an opportunistic client may connect again with `tls="never"`.
    `source`: see `SmtpConnection`; `helo` is what the server calls itself, as far as it has said so.
    """

    def __init__(self, outcome: Outcome, phase: Phase, source: str = "", helo: str = "") -> None:
        super().__init__(outcome.reply, status=outcome.status, detail=f"waiting for {phase.value}")
        self.outcome = outcome
        self.phase = phase
        self.source = source
        self.helo = helo
        speechless = phase is Phase.STARTTLS and outcome.source is not Source.REMOTE
        self.tls_failed = phase is Phase.TLS or speechless

    def because(self, why: str, status: str) -> SessionFailed:
        """The same where it is known what it is due to."""
        return SessionFailed(attrs.evolve(self.outcome, reply=why, status=status), self.phase, self.source, self.helo)


class _Interrupted(Exception):
    """The machine has come to an end of its own while the message was being written."""


def _never() -> bool:
    return False


class SmtpConnection:
    """One connection. Made by `connect()`; messages are sent one at a time, as many as one likes.

    The owner of its channel: whatever the channel tells wakes the one who waits for the server. `source` is the IP
    address that it comes from, "" where it has none.
    """

    def __init__(
        self,
        settings: SmtpClientSettings,
        clock: IReactorTime,
        tls: Any,
        timeouts: SmtpTimeouts,
        yields: Callable[[], bool] = _never,
    ) -> None:
        self._machine = SmtpClient(settings)
        self._clock = clock
        self._tls = tls
        self._timeouts = timeouts
        self._yields = yields
        self._look_at = clock.seconds() + _HURRIED_SECONDS
        self._implicit_tls = settings.secure
        self._waiter: Deferred[None] | None = None
        self._deadline = 0.0
        self.channel = Channel(self, clock)
        self.source = ""

    @property
    def usable(self) -> bool:
        """Whether another message can be sent."""
        return self._machine.phase is Phase.READY and not self._machine.closing

    @property
    def took_recipients(self) -> bool:
        """Whether the server has taken recipients of the last message, be it that it refused the message then."""
        return self._machine.took_recipients

    @property
    def secure(self) -> bool:
        """Whether TLS is on."""
        return self._machine.secure

    @property
    def hop(self) -> Hop:
        """The server, as its last answer to EHLO shows it."""
        return self._machine.hop

    @property
    def in_doubt(self) -> bool:
        """Whether the server may have the last message, although it has not said so to all of its recipients."""
        return self._machine.in_doubt

    @property
    def tls_name(self) -> str:
        """Protocol and cipher, as `TLSv1.3/TLS_AES_256_GCM_SHA384`; "TLS" where that is not told, "" without TLS."""
        return (self.channel.tls_name or "TLS") if self.secure else ""

    async def set_up(self) -> None:
        """Greeting, EHLO, STARTTLS and AUTH as the settings want them. Raises SessionFailed."""
        event = await self._next_event()
        if isinstance(event, StartTls):
            await self._start_tls()
            event = await self._next_event()
        if not isinstance(event, Ready):
            helo = self.hop.name
            await self.quit()
            if isinstance(event, Unusable):
                raise SessionFailed(event.outcome, event.phase, self.source, helo)
            raise TemporaryError("Connection closed", status="4.4.2")

    async def send(
        self,
        mail: Mail,
        recipients: Sequence[Recipient],
        body: IBlobReader,
        *,
        needs: Needs,
    ) -> Sequence[Outcome]:
        """Send a message. The recipients' outcomes in order, whatever happens.

        Cancelling aborts the connection; what the server then does with the message is unknown, so that it counts
        as not delivered.
        """
        self._machine.send(OutgoingMessage(mail, tuple(recipients), body.size, needs))
        try:
            event = await self._next_event()
            if isinstance(event, SendBody):
                event = await self._send_body(body)
        except BaseException:
            self.abort()
            raise
        if self._machine.closing:
            self.channel.abort()
        assert isinstance(event, Finished), f"a message ends with Finished, not {event}"
        return event.outcomes

    async def quit(self) -> None:
        """Say goodbye, wait a little for the answer, and close. Harmless on a connection that is lost."""
        if not self.usable:
            self.abort()
            return
        self._machine.quit()
        await self._next_event()
        # A server that never closes its side may not keep the transport open.
        self.channel.close(self._timeouts.quit)

    def abort(self) -> None:
        """Cut the connection."""
        self._give_up("4.4.2", "Connection given up")

    async def _send_body(self, body: IBlobReader) -> ClientEvent | None:
        try:
            if body.size <= _SMALL and not self.channel.blocked:
                self._machine.send_body(await whole(body))
                if self._over_early():
                    raise _Interrupted
            else:
                await copy(body, self._write_block)
        except _Interrupted:
            pass
        except MailError as error:
            # Without the final dot the server takes nothing (RFC 5321 4.1.1.4).
            log.error("message could not be read: {error:text}", error=str(error))
            self._give_up("4.3.0", "Message could not be read")
        else:
            self._machine.end_body()
        return await self._next_event()

    async def _write_block(self, octets: bytes) -> None:
        """Hand a block over and wait until the server's side of the transport has room for more."""
        self._machine.send_body(octets)
        if self._machine.gathering:
            return
        self._flush()
        deadline = self._clock.seconds() + self._timeouts.block
        while not self._over_early():
            if not (self.channel.blocked or self._machine.full):
                return
            await self._wait(deadline)
        raise _Interrupted

    def _over_early(self) -> bool:
        """Whether a refusal, a premature reply, a time-out or a lost connection has ended the message."""
        if self._machine.wants_body:
            self._machine.look_ahead()
            self.channel.caught_up()
        return not self._machine.wants_body

    # --- Waiting ---------------------------------------------------------------------------------------------------

    async def _next_event(self) -> ClientEvent | None:
        """None when the machine is closing and has nothing more to tell."""
        replies, deadline = -1, 0.0
        while True:
            event = self._machine.next_event()
            if not isinstance(event, SendBody):  # where an envelope waits, the message goes out with it
                self._flush()
            if event is not None or self._machine.closing:
                return event
            self.channel.caught_up()
            if replies != self._machine.replies:
                # A server that dribbles octets without ever completing a reply gets no more time.
                replies = self._machine.replies
                deadline = self._clock.seconds() + self._timeouts.of(self._machine.phase)
            await self._wait(deadline)

    async def _wait(self, deadline: float) -> None:
        """Until something happens, or the deadline (clock seconds) fails the machine."""
        self._deadline = deadline
        self.channel.arm(max(0.0, self._until_look()))
        self._waiter = Deferred()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def _until_look(self) -> float:
        """Seconds until the deadline, or until one has to look whether others wait: before the greeting alone, where
        nothing would be lost."""
        until = self._deadline
        if self._machine.phase is Phase.GREETING:
            until = min(until, self._look_at)
        return until - self._clock.seconds()

    def _is_hurried(self) -> bool:
        now = self._clock.seconds()
        if self._machine.phase is not Phase.GREETING or now < self._look_at:
            return False
        self._look_at = now + _LOOK_AGAIN_SECONDS
        return self._yields()

    def _wake(self) -> None:
        waiter, self._waiter = self._waiter, None
        if waiter is not None:
            waiter.callback(None)

    def _give_up(self, status: str, text: str) -> None:
        """What is open is delayed for this reason, and the connection is cut."""
        self._machine.fail(status, text)
        self.channel.abort()
        self._wake()

    async def _start_tls(self) -> None:
        self.channel.start_tls(self._tls)
        deadline = self._clock.seconds() + self._timeouts.tls
        while self.channel.handshaking and not self._machine.closing:
            await self._wait(deadline)
        if not self._machine.closing:
            self._machine.tls_started()

    def _flush(self) -> None:
        octets = self._machine.data_to_send()
        if octets:
            self.channel.write(octets)
            self.channel.flush()

    # --- Owner of the channel --------------------------------------------------------------------------------------

    def made(self) -> None:
        """With TLS from the first octet, the handshake begins."""
        self.source = getattr(self.channel.transport.getHost(), "host", "")
        if self._implicit_tls:
            self.channel.start_tls(self._tls)

    def agreed(self) -> None:
        """The handshake is done."""
        self._wake()

    def received(self, data: bytes) -> None:
        """Replies, or a part of one."""
        if self._machine.closing:
            return
        self._machine.receive_data(data)
        if self._waiter is not None:
            self._wake()
        elif self._machine.phase is Phase.READY:
            # Nobody waits: all that can come now is the end (421, or nonsense).
            self._machine.look_ahead()
            self.channel.caught_up()
            if self._machine.closing:
                self.channel.abort()

    def ended(self) -> None:
        """A server that says no more takes no more either: there are no half-closed connections in SMTP."""
        self.lost(Failure(ConnectionDone()))  # type: ignore[no-untyped-call]
        self.channel.close(self._timeouts.quit)

    def drained(self) -> None:
        """There is room for the next block."""
        self._wake()

    def rang(self) -> None:
        """The server has had its time, unless it has answered since the channel was armed: a timer that is not set anew
        for each reply costs nothing."""
        if self._waiter is None:
            return
        if self._deadline > self._clock.seconds() and not self._is_hurried():
            self.channel.arm(self._until_look())
            return
        self._give_up("4.4.2", f"Timed out waiting for {self._machine.phase.value}")

    def lost(self, reason: Failure) -> None:
        """What is open is delayed."""
        what = self._machine.phase.value
        self._machine.fail("4.4.2", f"Connection lost while waiting for {what}: {words_of(reason)}")
        self._wake()


@implementer(IProtocolFactory)
@attrs.frozen
class _Factory:
    connection: SmtpConnection

    def buildProtocol(self, addr: IAddress | None) -> IProtocol:
        return self.connection.channel

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
    source: str = "",
    yields: Callable[[], bool] = _never,
) -> SmtpConnection:
    """Connect to an IP address (or `unix:/path`) and set the session up.

    `tls` is what `transport.startTLS` takes (see `mailhub.net.tls.ClientTls`); without it, `settings.tls` counts as
    "never". With `settings.secure`, TLS is spoken from the first octet. `source`: the IP address to come from.
    `yields`: see `Delivery`; it is asked before the greeting, when that has been waited for half a minute. Raises
    TemporaryError when the server cannot be reached, SessionFailed when it does not serve us.
    """
    if tls is None:
        if settings.secure or settings.tls == "required":
            raise TemporaryError("TLS is required but not configured", status="4.7.4")
        settings = attrs.evolve(settings, tls="never")
    timeouts = timeouts or SmtpTimeouts()
    connection = SmtpConnection(settings, clock, tls, timeouts, yields)
    # Networks of others may be older than `source`.
    more = {"source": source} if source else {}
    await network.connect(host, port, _Factory(connection), timeouts.connect, **more)
    try:
        await connection.set_up()
    except BaseException:
        connection.abort()
        raise
    return connection
