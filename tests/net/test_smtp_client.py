"""The outgoing SMTP connection: scripted servers on a transport in memory, time on a Clock."""

from __future__ import annotations

from collections.abc import Coroutine, Sequence
from typing import Any, TypeVar, cast

import attrs
import pytest
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IProtocolFactory
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from zope.interface import implementer

from mailhub.errors import MessageGone, TemporaryError
from mailhub.interfaces import IBlobReader, INetwork
from mailhub.message.address import Address
from mailhub.message.envelope import Mail, Outcome, Recipient, Source, State
from mailhub.message.needs import Needs
from mailhub.net.channel import Channel
from mailhub.net.smtp_client import SessionFailed, SmtpConnection, SmtpTimeouts, connect
from mailhub.testing.waiting import result_of
from mailhub.wire.smtp.client import SmtpClientSettings

T = TypeVar("T")

ANN = Address("ann", "xx.example")
BOB = Address("bob", "yy.example")
EVE = Address("eve", "yy.example")
GREETING = b"220 mx\r\n250-mx\r\n250 PIPELINING\r\n"
BEFORE_BODY = b"250 m\r\n250 b\r\n550 5.1.1 e\r\n354 go\r\n"
TLS = object()


class Transport(StringTransport):
    """A transport in memory that takes part in STARTTLS and remembers how it was ended."""

    tls: object = None
    cut = False

    def startTLS(self, context: object) -> None:
        self.tls = context

    def abortConnection(self) -> None:
        self.cut = True


@implementer(IBlobReader)
@attrs.define
class Reader:
    octets: bytes
    waiting: Deferred[None] | None = None
    error: Exception | None = None
    size: int = 0

    def __attrs_post_init__(self) -> None:
        self.size = len(self.octets)

    async def read(self, offset: int = 0, length: int = -1) -> bytes:
        if self.waiting is not None:
            await self.waiting
        if self.error is not None:
            raise self.error
        return self.octets[offset:] if length < 0 else self.octets[offset : offset + length]

    def close(self) -> None:
        """Nothing is held."""


@implementer(INetwork)
@attrs.define
class Network:
    """Every connection succeeds at once; the test plays the server."""

    clock: Clock = attrs.field(factory=Clock)
    transport: Transport = attrs.field(factory=Transport)
    protocol: Channel | None = None
    refuse: bool = False

    async def connect(self, host: str, port: int, factory: IProtocolFactory, timeout: float, source: str = "") -> Any:
        if self.refuse:
            raise TemporaryError("Connection refused", status="4.4.1")
        self.protocol = cast(Channel, factory.buildProtocol(None))  # type: ignore[arg-type]
        self.protocol.makeConnection(self.transport)
        return self.protocol

    def hear(self, octets: bytes) -> bytes:
        """Let the client hear these octets; what it says to them."""
        assert self.protocol is not None
        self.protocol.dataReceived(octets)
        return self.said()

    def said(self) -> bytes:
        octets: bytes = self.transport.value()  # type: ignore[no-untyped-call]
        self.transport.clear()  # type: ignore[no-untyped-call]
        return octets

    def lose(self) -> None:
        assert self.protocol is not None
        self.protocol.connectionLost(Failure(ConnectionDone()))  # type: ignore[no-untyped-call]

    def connecting(self, **options: Any) -> Deferred[SmtpConnection]:
        client = SmtpClientSettings("hub.example", remote="mx.example", **options.pop("settings", {}))
        return started(connect(self, self.clock, "192.0.2.1", 25, client, **options))

    def connected(self) -> SmtpConnection:
        connecting = self.connecting()
        self.hear(GREETING)
        self.said()
        return now(connecting)


def started(coroutine: Coroutine[Any, Any, T]) -> Deferred[T]:
    return Deferred.fromCoroutine(coroutine)


def now(deferred: Deferred[T]) -> T:
    """The result that is there already."""

    async def wait() -> T:
        return await deferred

    return result_of(wait())


def sending(connection: SmtpConnection, body: Reader | None = None) -> Deferred[Sequence[Outcome]]:
    recipients = (Recipient(BOB), Recipient(EVE))
    return started(connection.send(Mail(ANN), recipients, body or Reader(b"Hi\r\n"), needs=Needs()))


def states(outcomes: Sequence[Outcome]) -> list[State]:
    return [outcome.state for outcome in outcomes]


# --- Setting up -----------------------------------------------------------------------------------------------------


def test_connecting_and_leaving() -> None:
    network = Network()
    connecting = network.connecting()
    assert network.hear(b"220 mx\r\n") == b"EHLO hub.example\r\n"
    assert not connecting.called
    network.hear(b"250 mx\r\n")
    connection = now(connecting)
    assert connection.usable
    assert not connection.secure
    leaving = started(connection.quit())
    assert network.said() == b"QUIT\r\n"
    network.hear(b"221 bye\r\n")
    now(leaving)
    assert network.transport.disconnecting
    network.lose()
    assert network.clock.getDelayedCalls() == []


def test_a_server_that_does_not_close_after_quit_is_cut() -> None:
    network = Network()
    leaving = started(network.connected().quit())
    network.hear(b"221 bye\r\n")
    now(leaving)
    network.clock.advance(10)
    assert network.transport.cut


def test_a_server_that_cannot_be_reached() -> None:
    with pytest.raises(TemporaryError, match=r"4\.4\.1"):
        now(Network(refuse=True).connecting())


def test_a_server_that_does_not_serve_us() -> None:
    network = Network()
    connecting = network.connecting()
    assert network.hear(b"554 5.7.1 go away\r\n") == b"QUIT\r\n"
    network.hear(b"221 bye\r\n")
    with pytest.raises(SessionFailed) as caught:
        now(connecting)
    assert caught.value.outcome == Outcome.delayed(
        "554 5.7.1 go away", status="4.7.1", remote="mx.example", source=Source.REMOTE
    )
    assert not caught.value.tls_failed
    assert network.transport.cut


def test_a_server_that_is_left_and_says_nothing_to_that_is_not_waited_for() -> None:
    network = Network()
    connecting = network.connecting(settings={"tls": "required"}, tls=object())
    network.hear(b"220 mx\r\n")
    assert network.hear(b"250 mx\r\n") == b"QUIT\r\n"
    network.clock.advance(10)
    with pytest.raises(SessionFailed, match=r"4\.7\.4") as caught:
        now(connecting)
    assert caught.value.helo == "mx"
    assert network.transport.cut


@pytest.mark.parametrize(
    ("heard", "seconds"), [([], 300), ([b"220 mx\r\n"], 300), ([b"220-m\r\n", b"220-m\r\n", b"220-m\r\n"], 30)]
)
def test_a_silent_or_dribbling_server_runs_into_its_time_out(heard: list[bytes], seconds: float) -> None:
    network = Network()
    connecting = network.connecting()
    for octets in heard:
        network.hear(octets)
        network.clock.advance(90 if seconds == 30 else 0)
    network.clock.advance(seconds - 1)
    assert not connecting.called
    network.clock.advance(1)
    with pytest.raises(SessionFailed, match="Timed out"):
        now(connecting)
    assert network.transport.cut


@pytest.mark.parametrize(("wanted_at", "seconds"), [(0, 30), (29, 30), (33, 35), (298, 300), (1000, 300)])
@pytest.mark.parametrize("dribbles", [False, True])
def test_before_the_greeting_it_gives_way_after_half_a_minute(wanted_at: int, seconds: int, dribbles: bool) -> None:
    network = Network()
    connecting = network.connecting(yields=lambda: network.clock.seconds() >= wanted_at)
    for _ in range(seconds):
        assert not connecting.called
        if dribbles:
            network.hear(b"2")
        network.clock.advance(1)
    with pytest.raises(SessionFailed, match="Timed out waiting for the greeting"):
        now(connecting)
    assert network.transport.cut


def test_after_the_greeting_it_gives_way_to_nobody() -> None:
    network = Network()
    connecting = network.connecting(yields=lambda: True)
    network.clock.advance(29)
    network.hear(b"220 mx\r\n")
    network.clock.advance(299)
    network.hear(b"250 mx\r\n")
    assert now(connecting).usable


def test_giving_up_while_connecting() -> None:
    network = Network()
    connecting = network.connecting()
    connecting.cancel()
    with pytest.raises(CancelledError):
        now(connecting)
    assert network.transport.cut
    assert network.clock.getDelayedCalls() == []


# --- TLS ------------------------------------------------------------------------------------------------------------


def test_starttls() -> None:
    network = Network()
    connecting = network.connecting(tls=TLS)
    assert network.hear(b"220 mx\r\n250-mx\r\n250 STARTTLS\r\n").endswith(b"STARTTLS\r\n")
    assert network.hear(b"220 go\r\n") == b""
    assert network.transport.tls is TLS
    assert network.protocol is not None
    network.protocol.handshakeCompleted()
    assert network.said() == b"EHLO hub.example\r\n"
    network.hear(b"250 mx\r\n")
    assert now(connecting).secure


@pytest.mark.parametrize("end", ["lose", "time"])
def test_a_failed_handshake_is_told_apart(end: str) -> None:
    network = Network()
    connecting = network.connecting(tls=TLS)
    network.hear(b"220 mx\r\n250-mx\r\n250 STARTTLS\r\n220 go\r\n")
    if end == "lose":
        network.lose()
    else:
        network.clock.advance(60)
    with pytest.raises(SessionFailed) as caught:
        now(connecting)
    assert caught.value.tls_failed


def test_without_a_context_there_is_no_tls() -> None:
    network = Network()
    connecting = network.connecting()
    assert b"STARTTLS" not in network.hear(b"220 mx\r\n250-mx\r\n250 STARTTLS\r\n")
    assert now(connecting).usable
    with pytest.raises(TemporaryError, match=r"4\.7\.4"):
        now(Network().connecting(settings={"tls": "required"}))


def test_implicit_tls_begins_before_the_greeting() -> None:
    network = Network()
    network.connecting(tls=TLS, settings={"secure": True})
    assert network.transport.tls is TLS


# --- Messages -------------------------------------------------------------------------------------------------------


def test_a_message() -> None:
    network = Network()
    connection = network.connected()
    result = sending(connection, Reader(b"Hi\r\n.\r\n"))
    assert network.said().endswith(b"RCPT TO:<eve@yy.example>\r\nDATA\r\n")
    assert network.hear(BEFORE_BODY) == b"Hi\r\n..\r\n.\r\n"
    network.hear(b"250 2.0.0 taken\r\n")
    assert states(now(result)) == [State.DELIVERED, State.FAILED]
    assert connection.usable
    again = sending(connection)
    assert network.said().startswith(b"MAIL")
    network.hear(BEFORE_BODY)
    network.hear(b"451 no\r\n")
    assert states(now(again)) == [State.DELAYED, State.FAILED]


def test_a_slow_server_gets_the_message_block_by_block() -> None:
    network = Network()
    connection = network.connected()
    result = sending(connection, Reader((b"x" * 98 + b"\r\n") * 2000))
    network.said()
    connection.channel.pauseProducing()
    first = network.hear(BEFORE_BODY)
    assert 65536 - 100 < len(first) <= 65536  # whole lines
    network.clock.advance(179)
    connection.channel.resumeProducing()
    rest = network.said()
    assert len(first + rest) == 200_000 + len(b".\r\n")
    network.hear(b"250 ok\r\n")
    assert states(now(result)) == [State.DELIVERED, State.FAILED]


@pytest.mark.parametrize(("blocked", "seconds"), [(True, 180), (False, 600)])
def test_time_outs_in_and_after_the_message(blocked: bool, seconds: float) -> None:
    network = Network()
    connection = network.connected()
    result = sending(connection)
    if blocked:
        connection.channel.pauseProducing()
    network.hear(BEFORE_BODY)
    network.clock.advance(seconds - 1)
    assert not result.called
    network.clock.advance(1)
    assert states(now(result)) == [State.DELAYED, State.FAILED]
    assert network.transport.cut
    assert not connection.usable


@pytest.mark.parametrize("octets", [b"", BEFORE_BODY[:16], BEFORE_BODY])
def test_a_lost_connection_delays(octets: bytes) -> None:
    network = Network()
    connection = network.connected()
    result = sending(connection)
    network.hear(octets)
    network.lose()
    assert now(result)[0].state is State.DELAYED
    assert not connection.usable
    assert network.clock.getDelayedCalls() == []


@pytest.mark.parametrize(("answer", "state"), [(b"552 too much\r\n", State.FAILED), (b"421 bye\r\n", State.DELAYED)])
def test_a_verdict_in_the_middle_of_the_message(answer: bytes, state: State) -> None:
    network = Network()
    connection = network.connected()
    result = sending(connection, Reader((b"x" * 98 + b"\r\n") * 2000))
    network.said()
    connection.channel.pauseProducing()
    network.hear(BEFORE_BODY)
    assert network.hear(answer) == b""
    assert now(result)[0].state is state
    assert network.transport.cut


def test_a_message_that_cannot_be_read_is_never_ended() -> None:
    network = Network()
    result = sending(network.connected(), Reader(b"Hi\r\n", error=MessageGone()))
    assert network.hear(BEFORE_BODY).endswith(b"DATA\r\n")
    assert now(result)[0].state is State.DELAYED
    assert network.said() == b""
    assert network.transport.cut


def test_a_bug_in_the_reader_is_not_hidden_and_cuts_the_connection() -> None:
    network = Network()
    result = sending(network.connected(), Reader(b"Hi\r\n", error=ZeroDivisionError()))
    network.hear(BEFORE_BODY)
    with pytest.raises(ZeroDivisionError):
        now(result)
    assert network.transport.cut


def test_cancelling_cuts_the_connection() -> None:
    network = Network()
    result = sending(network.connected())
    network.hear(BEFORE_BODY)
    result.cancel()
    with pytest.raises(CancelledError):
        now(result)
    assert network.transport.cut


@pytest.mark.parametrize(("heard", "when"), [(b"", "reply to MAIL"), (BEFORE_BODY, "reply to the message")])
def test_a_server_that_says_no_more_is_not_waited_for(heard: bytes, when: str) -> None:
    network = Network()
    connection = network.connected()
    result = sending(connection)
    network.hear(heard)
    assert network.protocol is not None
    network.protocol.readConnectionLost()
    outcome = now(result)[0]
    assert (outcome.state, when in outcome.reply, "closed cleanly" in outcome.reply) == (State.DELAYED, True, True)
    assert network.transport.cut
    network.lose()
    assert network.clock.getDelayedCalls() == []


def test_an_idle_connection_whose_server_says_no_more_is_closed() -> None:
    network = Network()
    connection = network.connected()
    assert network.protocol is not None
    network.protocol.readConnectionLost()
    assert not connection.usable
    assert (network.transport.disconnecting, network.transport.cut) == (True, False)
    network.clock.advance(10)
    assert network.transport.cut


# --- Nobody waits ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("octets", [b"421 idle\r\n", b"250 what\r\n"])
def test_a_server_that_ends_an_idle_connection(octets: bytes) -> None:
    network = Network()
    connection = network.connected()
    network.hear(octets)
    assert not connection.usable
    assert network.transport.cut
    now(started(connection.quit()))


def test_a_server_that_talks_while_the_store_reads_is_not_listened_to() -> None:
    network = Network()
    reader = Reader(b"Hi\r\n", waiting=Deferred())
    result = sending(network.connected(), reader)
    network.hear(BEFORE_BODY)
    network.hear(b"250-x\r\n" * 10_000)
    assert network.transport.producerState == "paused"
    waiting, reader.waiting = reader.waiting, None
    assert waiting is not None
    waiting.callback(None)
    assert now(result)[0].state is State.DELAYED


def test_time_outs_are_those_of_the_rfc() -> None:
    limits = SmtpTimeouts()
    assert (limits.greeting, limits.command, limits.data, limits.block, limits.final) == (300, 300, 120, 180, 600)
