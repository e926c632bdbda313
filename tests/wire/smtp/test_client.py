"""The SMTP and LMTP client machine, against scripted servers and against our own server machine."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Sequence
from typing import Any

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mailhub.credentials import PlainCredentials
from mailhub.message.address import Address
from mailhub.message.envelope import (
    DeliverBy,
    FutureRelease,
    Mail,
    OriginalRecipient,
    Outcome,
    Recipient,
    Source,
    State,
    ValidSince,
)
from mailhub.message.needs import BODY_8BIT, HEADER_8BIT, HEADER_UTF8, LONG_LINE, NUL, Needs
from mailhub.wire.smtp import events as server_events
from mailhub.wire.smtp.client import SmtpClient, SmtpClientSettings
from mailhub.wire.smtp.client_events import ClientEvent, Finished, Phase, Ready, SendBody, StartTls, Unusable
from mailhub.wire.smtp.extensions import SmtpSettings
from mailhub.wire.smtp.hop import OutgoingMessage
from mailhub.wire.smtp.replies import reply
from mailhub.wire.smtp.server import SmtpServer

ANN = Address("ann", "xx.example")
BOB = Address("bob", "yy.example")
EVE = Address("eve", "yy.example")
UTF8 = Address("\u00fc", "yy.example")
SETTINGS = SmtpClientSettings("hub.example", remote="mx.example")
MESSAGE = OutgoingMessage(Mail(ANN), (Recipient(BOB), Recipient(EVE)), 9)
BODY = b".Hi\r\nfolks"
FULL = b"220 mx\r\n250-mx\r\n250-PIPELINING\r\n250-SIZE 1000\r\n250-8BITMIME\r\n250 SMTPUTF8\r\n"
PLAIN = b"220 mx\r\n250 mx\r\n"


class Talk:
    """A client whose events are answered the usual way."""

    def __init__(self, client: SmtpClientSettings = SETTINGS) -> None:
        self.machine = SmtpClient(client)
        self.events: list[ClientEvent] = []

    def hear(self, octets: bytes) -> bytes:
        """What the client says to these octets of the server."""
        self.machine.receive_data(octets)
        while (event := self.machine.next_event()) is not None:
            self.events.append(event)
            if isinstance(event, SendBody):
                self.machine.send_body(BODY)
                self.machine.end_body()
        return self.machine.data_to_send()

    def send(self, message: OutgoingMessage = MESSAGE) -> bytes:
        """What the client says to begin the message."""
        self.machine.send(message)
        return self.hear(b"")

    @property
    def outcomes(self) -> Sequence[Outcome]:
        """Of the last message."""
        event = self.events[-1]
        assert isinstance(event, Finished)
        return event.outcomes

    def states(self) -> list[State]:
        return [outcome.state for outcome in self.outcomes]


def ready(octets: bytes = FULL, client: SmtpClientSettings = SETTINGS) -> Talk:
    talk = Talk(client)
    talk.hear(octets)
    assert talk.events == [Ready()]
    return talk


# --- Setting up -----------------------------------------------------------------------------------------------------


def test_the_session_is_set_up_step_by_step() -> None:
    talk = Talk()
    phases = [talk.machine.phase]
    assert talk.hear(b"220-mx\r\n220 hi\r\n") == b"EHLO hub.example\r\n"
    phases.append(talk.machine.phase)
    assert phases == [Phase.GREETING, Phase.HELLO]
    assert talk.hear(b"250-mx\r\n250-size 10\r\n250 Help\r\n") == b""
    assert talk.events == [Ready()]
    assert talk.send() == b"MAIL FROM:<ann@xx.example> SIZE=9\r\n"
    talk.hear(b"550 no\r\n")
    assert talk.send(attrs.evolve(MESSAGE, size=11)) == b""
    assert talk.outcomes[0].status == "5.3.4"
    talk.machine.quit()
    assert talk.hear(b"") == b"QUIT\r\n"
    talk.hear(b"221 bye\r\n")
    assert talk.machine.closing


def test_a_banner_without_end_is_not_listened_to_for_ever() -> None:
    talk = Talk()
    for _ in range(20):
        assert talk.hear(b"x" * 65536) == b""
    (event,) = talk.events
    assert isinstance(event, Unusable)
    assert event.outcome.status == "4.5.0"
    assert talk.machine.closing


def test_helo_for_servers_without_ehlo() -> None:
    talk = Talk()
    talk.hear(b"220 mx\r\n")
    assert talk.hear(b"502 what\r\n") == b"HELO hub.example\r\n"
    talk.hear(b"250-mx\r\n250 PIPELINING\r\n")
    assert talk.events == [Ready()]
    assert talk.send() == b"MAIL FROM:<ann@xx.example>\r\n"


@pytest.mark.parametrize(
    ("octets", "phase", "status"),
    [
        (b"554 5.7.1 go away\r\n", Phase.GREETING, "4.7.1"),
        (b"421 busy\r\n", Phase.GREETING, "4.3.2"),
        (b"450 4.7.1 later\r\n", Phase.GREETING, "4.7.1"),
        (b"220 mx\r\n450 no\r\n", Phase.HELLO, "4.0.0"),
        (b"220 mx\r\n500 what\r\n550 no\r\n", Phase.HELLO, "4.0.0"),
        (b"HTTP/1.1 400 Bad Request\r\n", Phase.GREETING, "4.5.0"),
        (b"220-a\r\n221 b\r\n", Phase.GREETING, "4.5.0"),
        (b"2" * 3000 + b"\r\n", Phase.GREETING, "4.5.0"),
        (b"220-x\r\n" * 200, Phase.GREETING, "4.5.0"),
    ],
)
def test_servers_that_do_not_serve(octets: bytes, phase: Phase, status: str) -> None:
    talk = Talk()
    talk.hear(octets)
    (event,) = talk.events
    assert isinstance(event, Unusable)
    assert event.phase is phase
    assert (event.outcome.state, event.outcome.status, event.outcome.remote) == (State.DELAYED, status, "mx.example")
    if status not in ("4.3.2", "4.5.0"):
        # RFC 5321 4.1.1.10: who has answered as it should is taken leave of.
        talk.machine.quit()
        assert talk.hear(b"") == b"QUIT\r\n"
        talk.hear(b"221 bye\r\n")
    assert talk.machine.closing


def test_starttls_and_everything_anew() -> None:
    talk = Talk()
    talk.hear(b"220 mx\r\n")
    assert talk.hear(b"250-mx\r\n250-SIZE 5\r\n250 STARTTLS\r\n") == b"STARTTLS\r\n"
    # What stands behind the 220 came without TLS and must not be taken for a reply.
    assert talk.hear(b"220 go\r\n250-evil\r\n250 PIPELINING\r\n") == b""
    assert talk.events == [StartTls()]
    assert talk.machine.phase is Phase.TLS
    talk.machine.tls_started()
    assert talk.hear(b"") == b"EHLO hub.example\r\n"
    talk.hear(b"250-mx\r\n250 8BITMIME\r\n")
    assert talk.events[1:] == [Ready()]
    assert talk.machine.secure
    # Neither the SIZE of the answer before TLS nor the PIPELINING that was slipped in.
    eight_bit = attrs.evolve(MESSAGE, needs=Needs(BODY_8BIT))
    assert talk.send(eight_bit) == b"MAIL FROM:<ann@xx.example> BODY=8BITMIME\r\n"


@pytest.mark.parametrize(
    ("tls", "octets", "usable"),
    [
        ("never", b"250-mx\r\n250 STARTTLS\r\n", True),
        ("opportunistic", b"250 mx\r\n", True),
        ("opportunistic", b"250-mx\r\n250 STARTTLS\r\n454 4.7.0 no\r\n", True),
        ("required", b"250 mx\r\n", False),
        ("required", b"250-mx\r\n250 STARTTLS\r\n454 4.7.0 no\r\n", False),
    ],
)
def test_tls_policies(tls: Any, octets: bytes, usable: bool) -> None:
    talk = Talk(attrs.evolve(SETTINGS, tls=tls))
    talk.hear(b"220 mx\r\n" + octets)
    assert [isinstance(event, Ready) for event in talk.events] == [usable]


SMARTHOST = attrs.evolve(SETTINGS, credentials=PlainCredentials("", "ann", "s3cret"), secure=True)


def test_login_with_plain() -> None:
    talk = Talk(SMARTHOST)
    octets = talk.hear(b"220 mx\r\n250-mx\r\n250 AUTH LOGIN PLAIN\r\n")
    assert octets.endswith(b"AUTH PLAIN " + b64encode(b"\0ann\0s3cret") + b"\r\n")
    assert talk.machine.phase is Phase.LOGIN
    talk.hear(b"235 ok\r\n")
    assert talk.events == [Ready()]


def test_login_with_login() -> None:
    talk = Talk(SMARTHOST)
    assert talk.hear(b"220 mx\r\n250-mx\r\n250 AUTH LOGIN\r\n").endswith(b"AUTH LOGIN\r\n")
    assert talk.hear(b"334 VXNlcm5hbWU6\r\n") == b64encode(b"ann") + b"\r\n"
    assert talk.hear(b"334 UGFzc3dvcmQ6\r\n") == b64encode(b"s3cret") + b"\r\n"
    # A server that keeps asking gets no more of it.
    assert talk.hear(b"334 TW9yZTo=\r\n") == b"*\r\n"
    talk.hear(b"501 cancelled\r\n")
    assert isinstance(talk.events[-1], Unusable)


@pytest.mark.parametrize(
    ("client", "octets"),
    [
        (SMARTHOST, b"250 mx\r\n"),
        (SMARTHOST, b"250-mx\r\n250 AUTH SCRAM-SHA-1\r\n"),
        (SMARTHOST, b"250-mx\r\n250 AUTH PLAIN\r\n535 5.7.8 no\r\n"),
        (attrs.evolve(SMARTHOST, secure=False), b"250-mx\r\n250 AUTH PLAIN\r\n"),
    ],
)
def test_no_login_no_session(client: SmtpClientSettings, octets: bytes) -> None:
    talk = Talk(client)
    said = talk.hear(b"220 mx\r\n" + octets)
    assert client.secure or b"AUTH" not in said
    (event,) = talk.events
    assert isinstance(event, Unusable)
    assert event.outcome.state is State.DELAYED


# --- A message ------------------------------------------------------------------------------------------------------


def test_a_pipelined_message() -> None:
    talk = ready()
    assert talk.send() == (
        b"MAIL FROM:<ann@xx.example> SIZE=9\r\nRCPT TO:<bob@yy.example>\r\nRCPT TO:<eve@yy.example>\r\nDATA\r\n"
    )
    assert talk.hear(b"250 ok\r\n250 ok\r\n550 5.1.1 who\r\n") == b""
    assert talk.hear(b"354 go\r\n") == b"..Hi\r\nfolks\r\n.\r\n"
    assert talk.machine.phase is Phase.FINAL
    talk.hear(b"250 2.6.0 taken\r\n")
    assert talk.outcomes == (
        Outcome(State.DELIVERED, "2.6.0", "250 2.6.0 taken", "mx.example", Source.REMOTE),
        Outcome(State.FAILED, "5.1.1", "550 5.1.1 who", "mx.example", Source.REMOTE),
    )


def test_one_command_at_a_time_without_pipelining() -> None:
    talk = ready(PLAIN)
    assert talk.send() == b"MAIL FROM:<ann@xx.example>\r\n"
    assert talk.hear(b"250 ok\r\n") == b"RCPT TO:<bob@yy.example>\r\n"
    assert talk.hear(b"250 ok\r\n") == b"RCPT TO:<eve@yy.example>\r\n"
    assert talk.hear(b"250 ok\r\n") == b"DATA\r\n"
    assert talk.hear(b"354 go\r\n").endswith(b"\r\n.\r\n")
    talk.hear(b"250 ok\r\n")
    assert talk.states() == [State.DELIVERED] * 2


@pytest.mark.parametrize("extensions", [FULL, PLAIN])
@pytest.mark.parametrize(
    ("replies", "states"),
    [
        (["550", "503", "503", "503"], "FF"),
        (["450", "503", "503", "503"], "DD"),
        (["550", "250", "250", "554"], "FF"),
        (["250", "550", "450", "554"], "FD"),
        (["250", "552", "552 5.2.2", "503"], "DF"),
        (["250", "250", "550", "451"], "DF"),
        (["250", "250", "250", "554"], "FF"),
        (["250", "250", "250", "250"], "DD"),
        (["250", "250", "250", "354", "451"], "DD"),
        (["250", "250", "450", "354", "552"], "FD"),
        (["250", "250", "250", "354", "354"], "DD"),
    ],
)
def test_refusals(extensions: bytes, replies: list[str], states: str) -> None:
    talk = ready(extensions)
    talk.send()
    for code in replies:
        if isinstance(talk.events[-1], Finished):
            break  # Without pipelining the rest is never asked for.
        talk.hear(f"{code} x\r\n".encode())
    names = {"F": State.FAILED, "D": State.DELAYED}
    assert talk.states() == [names[letter] for letter in states]
    # Who takes DATA by a reply for something else is out of step.
    assert talk.machine.closing is (replies[3] == "250" == replies[-1])


def test_a_server_that_takes_data_for_nobody_gets_an_empty_message() -> None:
    talk = ready()
    talk.send()
    assert talk.hear(b"250 ok\r\n550 no\r\n550 no\r\n354 go\r\n") == b".\r\n"
    talk.hear(b"250 thanks\r\n")
    assert talk.states() == [State.FAILED] * 2


def test_the_next_message_on_the_same_connection() -> None:
    talk = ready()
    for _ in range(2):
        assert talk.send().startswith(b"MAIL")
        talk.hear(b"250 a\r\n250 b\r\n250 c\r\n354 d\r\n")
        talk.hear(b"250 e\r\n")
    # After a transaction that was left open, RSET comes first.
    talk.send()
    talk.hear(b"250 a\r\n550 b\r\n550 c\r\n503 d\r\n")
    assert talk.send().startswith(b"RSET\r\nMAIL")
    talk.hear(b"250 r\r\n250 a\r\n250 b\r\n250 c\r\n354 d\r\n")
    talk.hear(b"250 e\r\n")
    assert talk.states() == [State.DELIVERED] * 2
    assert talk.send().startswith(b"MAIL")


def test_a_refused_rset_ends_the_session() -> None:
    talk = ready()
    talk.send()
    talk.hear(b"250 a\r\n550 b\r\n550 c\r\n503 d\r\n")
    talk.send()
    talk.hear(b"500 what\r\n")
    assert talk.states() == [State.DELAYED] * 2
    assert talk.machine.closing


@pytest.mark.parametrize(
    ("message", "extensions", "status"),
    [
        (attrs.evolve(MESSAGE, size=1001), FULL, "5.3.4"),
        (attrs.evolve(MESSAGE, needs=Needs(BODY_8BIT)), PLAIN, "5.6.3"),
        (attrs.evolve(MESSAGE, needs=Needs(HEADER_8BIT)), PLAIN, "5.6.3"),
        (attrs.evolve(MESSAGE, needs=Needs(HEADER_UTF8)), PLAIN, "5.6.9"),
        (attrs.evolve(MESSAGE, needs=Needs(HEADER_UTF8)), PLAIN.replace(b"250 mx", b"250-mx\r\n250 8BITMIME"), "5.6.9"),
        (attrs.evolve(MESSAGE, needs=Needs(HEADER_UTF8)), PLAIN.replace(b"250 mx", b"250-mx\r\n250 SMTPUTF8"), "5.6.3"),
        (attrs.evolve(MESSAGE, mail=Mail(UTF8)), PLAIN, "5.6.7"),
        (attrs.evolve(MESSAGE, recipients=(Recipient(UTF8), Recipient(UTF8))), PLAIN, "5.6.7"),
        (attrs.evolve(MESSAGE, recipients=(Recipient(Address("a\r\nDATA", "yy.example")),)), FULL, "5.6.7"),
    ],
)
def test_what_a_server_cannot_take_is_failed_not_mangled(
    message: OutgoingMessage, extensions: bytes, status: str
) -> None:
    talk = ready(extensions)
    assert talk.send(message) == b""
    assert {(outcome.state, outcome.status) for outcome in talk.outcomes} == {(State.FAILED, status)}
    assert talk.send().startswith(b"MAIL")


def test_parameters_and_addresses() -> None:
    talk = ready()
    recipients = (Recipient(UTF8), Recipient(Address("a b", "yy.example")))
    utf8 = OutgoingMessage(Mail(None), recipients, 5, Needs(BODY_8BIT))
    octets = talk.send(utf8)
    assert octets == (
        b"MAIL FROM:<> SIZE=5 BODY=8BITMIME SMTPUTF8\r\n"
        b'RCPT TO:<\xc3\xbc@yy.example>\r\nRCPT TO:<"a b"@yy.example>\r\nDATA\r\n'
    )


@pytest.mark.parametrize(
    ("mail", "needs", "parameters"),
    [
        (Mail(ANN, "8BITMIME", smtputf8=True), Needs(), b""),
        (Mail(ANN), Needs(BODY_8BIT), b" BODY=8BITMIME"),
        (Mail(ANN), Needs(HEADER_8BIT), b" BODY=8BITMIME"),
        (Mail(ANN), Needs(HEADER_UTF8), b" BODY=8BITMIME SMTPUTF8"),
        (Mail(ANN, "8BITMIME", smtputf8=True), Needs(LONG_LINE | NUL), b""),
        (Mail(Address("ann", "b\u00fccher.example"), smtputf8=True), Needs(), b""),
        (Mail(UTF8), Needs(), b" SMTPUTF8"),
    ],
)
def test_what_a_message_needs_is_declared_and_not_what_its_client_declared(
    mail: Mail, needs: Needs, parameters: bytes
) -> None:
    line, _, _ = ready().send(attrs.evolve(MESSAGE, mail=mail, needs=needs)).partition(b"\r\n")
    assert line.partition(b" SIZE=9")[2] == parameters
    if not needs.eight_bit and mail.reverse_path != UTF8:
        assert (
            ready(PLAIN).send(attrs.evolve(MESSAGE, mail=mail, needs=needs)) == line.replace(b" SIZE=9", b"") + b"\r\n"
        )


def test_a_domain_with_u_labels_is_sent_with_a_labels() -> None:
    talk = ready(PLAIN.replace(b"250 mx", b"250-mx\r\n250 PIPELINING"))
    recipients = (Recipient(Address("bob", "b\u00fccher.example")), Recipient(UTF8))
    octets = talk.send(attrs.evolve(MESSAGE, recipients=recipients))
    assert b"RCPT TO:<bob@xn--bcher-kva.example>\r\nDATA\r\n" in octets


# --- The connection ends --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("heard", [0, 1, 2, 3, 4])
def test_a_lost_connection_delays_what_is_open(heard: int) -> None:
    talk = ready()
    talk.send()
    replies = [b"250 a\r\n", b"250 b\r\n", b"550 c\r\n", b"354 d\r\n"]
    talk.hear(b"".join(replies[:heard]))
    talk.machine.fail("4.4.2", "Connection lost")
    talk.hear(b"")
    assert talk.states() == [State.DELAYED, State.FAILED if heard > 2 else State.DELAYED]
    assert talk.machine.closing
    assert talk.machine.phase is Phase.CLOSED


@pytest.mark.parametrize(
    ("octets", "states"),
    [
        (b"421 4.3.2 bye\r\n", [State.DELAYED] * 2),
        (b"250 a\r\n421 bye\r\n", [State.DELAYED] * 2),
        (b"250 a\r\n250 b\r\n250 c\r\n354 d\r\n421 bye\r\n", [State.DELAYED] * 2),
        (b"250 a\r\n250 b\r\n250 c\r\nwhat\r\n", [State.DELAYED] * 2),
        (b"250 a\r\n250 b\r\n550 c\r\n354 d\r\nwhat\r\n", [State.DELAYED, State.FAILED]),
    ],
)
def test_servers_that_break_off(octets: bytes, states: list[State]) -> None:
    talk = ready()
    talk.send()
    talk.hear(octets)
    assert talk.states() == states
    assert talk.machine.closing


@pytest.mark.parametrize(
    ("answer", "state"),
    [(b"552 too big\r\n", State.FAILED), (b"452 full\r\n", State.DELAYED), (b"250 ok\r\n", State.DELAYED)],
)
def test_a_verdict_in_the_middle_of_the_message(answer: bytes, state: State) -> None:
    machine = SmtpClient(SETTINGS)
    machine.receive_data(FULL)
    assert machine.next_event() == Ready()
    machine.send(MESSAGE)
    machine.receive_data(b"250 a\r\n250 b\r\n250 c\r\n354 d\r\n")
    assert machine.next_event() == SendBody()
    machine.send_body(b"half")
    machine.receive_data(answer)
    event = machine.next_event()
    assert isinstance(event, Finished)
    assert {outcome.state for outcome in event.outcomes} == {state}
    assert machine.closing
    machine.data_to_send()
    machine.end_body()
    assert machine.data_to_send() == b""


@pytest.mark.parametrize("octets", [b"421 idle\r\n", b"250 what\r\n", b"x" * 3000 + b"\r\n"])
def test_an_idle_session_that_ends(octets: bytes) -> None:
    talk = ready()
    talk.hear(octets)
    assert talk.events == [Ready()]
    assert talk.machine.closing
    with pytest.raises(RuntimeError):
        talk.machine.send(MESSAGE)


# --- LMTP -----------------------------------------------------------------------------------------------------------

LMTP = attrs.evolve(SETTINGS, lmtp=True)


def test_lmtp_has_an_outcome_for_each_recipient() -> None:
    talk = Talk(LMTP)
    assert talk.hear(b"220 mx\r\n") == b"LHLO hub.example\r\n"
    talk.hear(FULL[8:])
    talk.send(attrs.evolve(MESSAGE, recipients=(Recipient(ANN), Recipient(BOB), Recipient(EVE))))
    talk.hear(b"250 m\r\n250 a\r\n550 b\r\n250 c\r\n354 go\r\n")
    talk.hear(b"250 2.0.0 stored\r\n")
    assert talk.machine.phase is Phase.FINAL
    talk.hear(b"452 4.2.2 full\r\n")
    assert talk.states() == [State.DELIVERED, State.FAILED, State.DELAYED]
    assert talk.send().startswith(b"MAIL")


def test_lmtp_lost_between_the_replies() -> None:
    talk = ready(FULL, LMTP)
    talk.send()
    talk.hear(b"250 m\r\n250 a\r\n250 b\r\n354 go\r\n")
    talk.hear(b"250 stored\r\n421 bye\r\n")
    assert talk.states() == [State.DELIVERED, State.DELAYED]


# --- Both machines --------------------------------------------------------------------------------------------------


def exchange(client: SmtpClientSettings, server: SmtpSettings, message: OutgoingMessage, sizes: list[int]) -> Talk:
    """Let the two machines talk, the octets cut into pieces of these sizes; everyone but EVE is accepted."""
    talk, peer = Talk(client), SmtpServer(server)
    peer.greet()
    upward, downward, begun = b"", b"", False
    for turn in range(10_000):
        size = sizes[turn % len(sizes)]
        downward += peer.data_to_send()
        upward += talk.hear(downward[:size])
        downward = downward[size:]
        if talk.events and isinstance(talk.events[-1], Ready) and not begun:
            begun = True
            upward += talk.send(message)
        if talk.events and isinstance(talk.events[-1], Finished):
            return talk
        peer.receive_data(upward[:size])
        upward = upward[size:]
        while (event := peer.next_event()) is not None:
            if event == server_events.RcptTo(Recipient(EVE)):
                peer.refuse(reply(550, "5.1.1", "No such user here"))
            elif not isinstance(event, server_events.BodyChunk):
                peer.accept()
    raise AssertionError("the machines never came to an end")


@settings(deadline=None, max_examples=40)
@given(
    st.booleans(),
    st.lists(st.sampled_from([ANN, BOB, EVE, Address("x y", "zz.example")]), min_size=1, max_size=5),
    st.lists(st.integers(1, 60), min_size=1, max_size=10),
)
def test_client_and_server_agree(lmtp: bool, recipients: list[Address], sizes: list[int]) -> None:
    talk = exchange(
        attrs.evolve(SETTINGS, lmtp=lmtp),
        SmtpSettings("mx.example", "mx.example", lmtp=lmtp),
        OutgoingMessage(Mail(ANN), tuple(map(Recipient, recipients)), len(BODY)),
        sizes,
    )
    for recipient, outcome in zip(recipients, talk.outcomes, strict=True):
        assert outcome.state is (State.FAILED if recipient == EVE else State.DELIVERED)


@settings(deadline=None, max_examples=100)
@given(
    st.lists(
        st.one_of(st.binary(max_size=30), st.sampled_from([FULL, b"250 x\r\n", b"354 x\r\n", b"550 x\r\n"])),
        max_size=15,
    )
)
def test_random_servers_never_get_a_message_lost_or_raise(pieces: list[bytes]) -> None:
    talk = Talk()
    for piece in pieces:
        talk.hear(piece)
        if talk.machine.phase is Phase.READY and not talk.machine.closing:
            talk.send()
    talk.machine.fail("4.4.2", "Connection lost")
    talk.hear(b"")
    for event in talk.events:
        if isinstance(event, Finished):
            assert len(event.outcomes) == 2


@pytest.mark.parametrize(("code", "state"), [(b"250", State.DELIVERED), (b"550", State.FAILED)])
def test_a_reply_counts_however_long_its_text_is(code: bytes, state: State) -> None:
    talk = ready()
    talk.send()
    talk.hear(b"250 ok\r\n250 ok\r\n250 ok\r\n354 go on\r\n")
    talk.hear(code + b" " + b"x" * 3000 + b"\r\n")
    assert talk.states() == [state, state]
    assert not talk.machine.closing


@pytest.mark.parametrize("lmtp", [False, True])
def test_lines_too_long_for_smtp_are_broken_on_the_way_out(lmtp: bool) -> None:
    talk = Talk(attrs.evolve(SETTINGS, lmtp=lmtp))
    talk.hear(PLAIN)
    message = attrs.evolve(MESSAGE, size=3000)
    talk.send(message)
    talk.events.clear()
    machine = talk.machine
    for answer in (b"250 ok\r\n", *[b"250 ok\r\n" for _ in message.recipients], b"354 go on\r\n"):
        machine.receive_data(answer)
        machine.data_to_send()
        machine.next_event()
        machine.data_to_send()
    machine.send_body(b"word " * 150)
    machine.send_body(b"word " * 150 + b"\r\nend\r\n")
    machine.end_body()
    lines = machine.data_to_send().split(b"\r\n")
    assert b"".join(lines) == b"word " * 300 + b"end."
    assert (max(map(len, lines)) <= 998) is not lmtp


# --- What MAIL and RCPT said goes on ---------------------------------------------------------------------------------

ASKED = Mail(
    ANN,
    ret="HDRS",
    envid="a+b",
    by=DeliverBy(120, "N"),
    hold=FutureRelease(60, "FOR"),
    priority=3,
    auth="ann@xx.example",
)
WATCHED = Recipient(
    BOB, frozenset({"SUCCESS", "FAILURE"}), OriginalRecipient("rfc822", "Bob@zz.example"), ValidSince(60, "C")
)


def hop(*keywords: str) -> bytes:
    return (
        b"220 mx\r\n" + "".join(f"250-{word}\r\n" for word in ("mx", "PIPELINING", *keywords)).encode() + b"250 X\r\n"
    )


@pytest.mark.parametrize(
    ("keywords", "mail", "rcpt"),
    [
        ([], "", ""),
        (["DSN"], " RET=HDRS ENVID=a+2Bb", " NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;Bob@zz.example"),
        (["deliverby 60"], " BY=120;N", ""),
        (["FUTURERELEASE 1000 2030-01-01T00:00:00Z"], " HOLDFOR=60", ""),
        (["MT-PRIORITY MIXER"], " MT-PRIORITY=3", ""),
        (["RRVS"], "", " RRVS=1970-01-01T00:01:00Z;C"),
        (["AUTH PLAIN"], " AUTH=ann@xx.example", ""),
        (
            ["AUTH PLAIN", "RRVS", "MT-PRIORITY", "DSN"],
            " RET=HDRS ENVID=a+2Bb MT-PRIORITY=3 AUTH=ann@xx.example",
            " NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;Bob@zz.example RRVS=1970-01-01T00:01:00Z;C",
        ),
    ],
)
def test_a_hop_is_told_what_it_knows_and_no_more(keywords: list[str], mail: str, rcpt: str) -> None:
    talk = ready(hop(*keywords))
    lines = talk.send(OutgoingMessage(ASKED, (WATCHED,), 9))
    assert lines.decode() == f"MAIL FROM:<ann@xx.example>{mail}\r\nRCPT TO:<bob@yy.example>{rcpt}\r\nDATA\r\n"


@pytest.mark.parametrize(
    ("mail", "keyword", "parameter", "status"),
    [
        (Mail(ANN, requiretls=True), "REQUIRETLS", b" REQUIRETLS", "5.7.30"),
        (Mail(ANN, by=DeliverBy(120, "R")), "DELIVERBY", b" BY=120;R", "5.3.3"),
    ],
)
def test_what_cannot_be_left_out_fails_where_a_hop_does_not_know_it(
    mail: Mail, keyword: str, parameter: bytes, status: str
) -> None:
    secure = attrs.evolve(SETTINGS, secure=True)
    message = attrs.evolve(MESSAGE, mail=mail)
    talk = ready(hop("DSN"), secure)
    assert talk.send(message) == b""
    assert [(outcome.state, outcome.status) for outcome in talk.outcomes] == [(State.FAILED, status)] * 2
    assert ready(hop(keyword), secure).send(message).startswith(b"MAIL FROM:<ann@xx.example>" + parameter + b"\r\n")


def test_requiretls_is_not_believed_without_tls() -> None:
    talk = ready(hop("REQUIRETLS"))
    assert talk.send(attrs.evolve(MESSAGE, mail=Mail(ANN, requiretls=True))) == b""
    assert talk.outcomes[0].status == "5.7.30"


def test_a_recipient_that_must_be_valid_since_fails_alone() -> None:
    talk = ready(hop())
    strict = attrs.evolve(WATCHED, rrvs=ValidSince(60))
    assert talk.send(OutgoingMessage(Mail(ANN), (strict, Recipient(EVE)), 9)).count(b"RCPT") == 1
    talk.hear(b"250 a\r\n250 b\r\n354 c\r\n")
    talk.hear(b"250 d\r\n")
    assert [(outcome.state, outcome.status) for outcome in talk.outcomes] == [
        (State.FAILED, "5.7.19"),
        (State.DELIVERED, "2.0.0"),
    ]


def test_a_recipient_that_is_there_twice_is_said_twice_only_where_it_asks_for_something_else() -> None:
    recipients = (Recipient(BOB), WATCHED, Recipient(BOB), WATCHED, Recipient(EVE))
    talk = ready(hop("DSN"))
    lines = talk.send(OutgoingMessage(Mail(ANN), recipients, 9))
    assert lines.count(b"RCPT TO:<bob@yy.example>\r\n") == 1
    assert lines.count(b"RCPT TO:<bob@yy.example> NOTIFY") == 1
    talk.hear(b"250 a\r\n250 b\r\n550 c\r\n450 d\r\n354 e\r\n")
    talk.hear(b"250 f\r\n")
    letters = {State.DELIVERED: "+", State.FAILED: "F", State.DELAYED: "D"}
    assert "".join(letters[state] for state in talk.states()) == "+F+FD"
    # A hop without DSN hears both in the same words.
    assert ready(hop()).send(OutgoingMessage(Mail(ANN), recipients, 9)).count(b"RCPT") == 2
