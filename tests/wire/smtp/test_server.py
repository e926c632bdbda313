"""The SMTP and LMTP server machine, driven with octets."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable, Iterable

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mailhub.credentials import PlainCredentials
from mailhub.message.address import Address
from mailhub.message.envelope import Mail, Recipient
from mailhub.wire.smtp.events import (
    BodyAborted,
    BodyChunk,
    BodyEnd,
    DataStart,
    Event,
    Hello,
    Login,
    MailFrom,
    Quit,
    RcptTo,
    SpeaksFor,
    StartTls,
    Turn,
)
from mailhub.wire.smtp.extensions import SmtpSettings
from mailhub.wire.smtp.replies import Reply, reply
from mailhub.wire.smtp.server import SmtpServer
from mailhub.wire.stream import ENDLESS, BareLines

ANN = Address("ann", "xx.example")
BOB = Address("bob", "yy.example")
PLAIN = b64encode(b"\0ann\0s3cret")
SETTINGS = SmtpSettings("mx.example", "mx.example")
SUBMISSION = attrs.evolve(
    SETTINGS,
    starttls=True,
    require_tls=True,
    require_login=True,
    mechanisms=("PLAIN", "LOGIN"),
    bare_lines=BareLines.NORMALISE,
)
BEFORE = b"EHLO client.example\r\nMAIL FROM:<ann@xx.example>\r\nRCPT TO:<bob@yy.example>\r\n"
NEEDS_ANSWER = (Hello, StartTls, SpeaksFor, Turn, Login, MailFrom, RcptTo, DataStart, BodyEnd)

Answer = Callable[[SmtpServer, Event], None]


def accept_all(server: SmtpServer, event: Event) -> None:
    if isinstance(event, NEEDS_ANSWER):
        server.accept()
    if isinstance(event, StartTls):
        server.tls_started()


def refusing(kind: type, refusal: Reply) -> Answer:
    def answer(server: SmtpServer, event: Event) -> None:
        if isinstance(event, kind):
            server.refuse(refusal)
        else:
            accept_all(server, event)

    return answer


class Peer:
    """A connection to the machine that works off all events at once."""

    def __init__(self, smtp: SmtpSettings = SETTINGS, answer: Answer = accept_all) -> None:
        self.server = SmtpServer(smtp)
        self.answer = answer
        self.events: list[Event] = []
        self.server.greet()
        self.server.data_to_send()

    def send(self, octets: bytes) -> bytes:
        """The replies to these octets."""
        self.server.receive_data(octets)
        while (event := self.server.next_event()) is not None:
            self.events.append(event)
            self.answer(self.server, event)
        return self.server.data_to_send()

    def codes(self, octets: bytes) -> list[str]:
        """Code and status of the last line of each reply."""
        lines = self.send(octets).decode().split("\r\n")[:-1]
        return [" ".join(line.split(" ")[:2]) if line[4:5].isdigit() else line[:3] for line in lines if line[3] == " "]

    @property
    def body(self) -> bytes:
        return b"".join(event.octets for event in self.events if isinstance(event, BodyChunk))


def joined(events: Iterable[Event]) -> list[Event]:
    """Events with adjacent body chunks made one; how much is given out of a message that is refused is left open."""
    result: list[Event] = []
    for event in events:
        if isinstance(event, BodyAborted) and result and isinstance(result[-1], BodyChunk):
            result.pop()
        if isinstance(event, BodyChunk) and result and isinstance(result[-1], BodyChunk):
            result[-1] = BodyChunk(result[-1].octets + event.octets)
        else:
            result.append(event)
    return result


# --- A whole session ------------------------------------------------------------------------------------------------


def test_a_session() -> None:
    peer = Peer()
    assert peer.send(b"EHLO client.example\r\n") == (
        b"250-mx.example\r\n250-PIPELINING\r\n250-SIZE 52428800\r\n250-8BITMIME\r\n250-BINARYMIME\r\n"
        b"250-CHUNKING\r\n250-SMTPUTF8\r\n250-ENHANCEDSTATUSCODES\r\n250-DSN\r\n250-DELIVERBY\r\n250-MT-PRIORITY\r\n"
        b"250-RRVS\r\n250-LIMITS RCPTMAX=1000 MAILMAX=100000\r\n250 HELP\r\n"
    )
    assert peer.send(b"MAIL FROM:<ann@xx.example> SIZE=20\r\n") == b"250 2.1.0 Sender OK\r\n"
    assert peer.send(b"RCPT TO:<bob@yy.example>\r\n") == b"250 2.1.5 Recipient OK\r\n"
    assert peer.send(b"DATA\r\n") == b"354 End data with <CR><LF>.<CR><LF>\r\n"
    assert peer.send(b"Subject: x\r\n\r\n..\r\n.\r\n") == b"250 2.0.0 Message accepted\r\n"
    assert peer.send(b"QUIT\r\n") == b"221 2.0.0 Bye\r\n"
    assert peer.server.closing
    assert joined(peer.events) == [
        Hello("client.example", extended=True),
        MailFrom(Mail(ANN, size=20)),
        RcptTo(Recipient(BOB)),
        DataStart(),
        BodyChunk(b"Subject: x\r\n\r\n.\r\n"),
        BodyEnd(),
        Quit(),
    ]


def test_the_greeting() -> None:
    server = SmtpServer(SETTINGS)
    server.receive_data(b"NOOP\r\n")
    assert server.next_event() is None
    server.greet()
    assert server.next_event() is None
    assert server.data_to_send() == b"220 mx.example ESMTP mailhub\r\n250 2.0.0 OK\r\n"
    with pytest.raises(RuntimeError):
        server.greet()


def refused_at_once(refusal: Reply) -> SmtpServer:
    server = SmtpServer(SETTINGS)
    server.greet(refusal)
    return server


def heard(server: SmtpServer, octets: bytes) -> bytes:
    server.receive_data(octets)
    assert server.next_event() is None
    return server.data_to_send()


def test_a_refusal_instead_of_the_greeting_and_then_all_but_quit_is_out_of_order() -> None:
    """RFC 5321 3.1."""
    server = refused_at_once(reply(554, "5.7.1", "Go away"))
    assert server.data_to_send() == b"554 5.7.1 Go away\r\n"
    assert not server.closing
    out_of_order = b"503 5.5.1 This connection was refused\r\n"
    assert heard(server, b"EHLO a\r\nMAIL FROM:<ann@xx.example>\r\nRC") == 2 * out_of_order
    assert heard(server, b"PT\r\n" + b"x" * 100_000 + b"\r\n") == 2 * out_of_order
    assert heard(server, b"quit \r\nNOOP\r\n") == b"221 2.0.0 Bye\r\n"
    assert server.closing


@pytest.mark.parametrize("said", [b"NOOP\r\n" * 1000, b"x" * (ENDLESS + 100_000)])
def test_who_was_refused_does_not_go_on_for_ever(said: bytes) -> None:
    server = refused_at_once(reply(554, "5.7.1", "Go away"))
    assert b"\r\n421 4.7.0 " in heard(server, said)
    assert server.closing


def test_who_was_refused_and_has_gone_is_gone() -> None:
    server = refused_at_once(reply(554, "5.7.1", "Go away"))
    server.receive_eof()
    assert heard(server, b"NOOP\r\n").endswith(b"\r\n503 5.5.1 This connection was refused\r\n")
    assert server.closing


def test_a_refusal_for_now_ends_it() -> None:
    server = refused_at_once(reply(421, "4.3.2", "Later"))
    assert server.data_to_send() == b"421 4.3.2 Later\r\n"
    assert server.closing


MESSAGES = st.lists(st.sampled_from([b"x\r\n", b"..\r\n", b"\r\n", b".x\r\n", b"Subject: a\r\n"]), max_size=6)
SESSION_PARTS = st.lists(
    st.one_of(
        st.sampled_from(
            [
                b"EHLO a\r\n",
                b"HELO a\n",
                b"MAIL FROM:<ann@xx.example>\r\n",
                b"RCPT TO:<bob@yy.example>\r\n",
                b"RCPT TO:<refuse@yy.example>\r\n",
                b"RSET\r\n",
                b"NOOP\r\n",
                b"BAD\r\n",
                b"STARTTLS\r\n",
                b"AUTH PLAIN " + PLAIN + b"\r\n",
                b"AUTH LOGIN\r\n" + b64encode(b"ann") + b"\r\n*\r\n",
                b"x" * 13000 + b"\r\n",
                b"\0\r\n",
                b"QUIT\r\n",
            ]
        ),
        MESSAGES.map(lambda lines: BEFORE + b"DATA\r\n" + b"".join(lines) + b".\r\n"),
        st.just(BEFORE + b"DATA\r\na\nb\r\n.\r\n"),
    ),
    max_size=8,
)


@settings(deadline=None, max_examples=150)
@given(SESSION_PARTS, st.lists(st.integers(1, 40), max_size=40))
def test_a_session_does_not_depend_on_the_split(parts: list[bytes], sizes: list[int]) -> None:
    def answer(server: SmtpServer, event: Event) -> None:
        if event == RcptTo(Recipient(Address("refuse", "yy.example"))):
            server.refuse(reply(550, "5.1.1", "No"))
        elif isinstance(event, StartTls):
            server.refuse(reply(454, "4.7.0", "No"))  # What follows is dropped otherwise, and so depends on the split.
        else:
            accept_all(server, event)

    smtp = attrs.evolve(SETTINGS, starttls=True, mechanisms=("PLAIN", "LOGIN"), plaintext_login=True)
    whole, pieces = Peer(smtp, answer), Peer(smtp, answer)
    octets = b"".join(parts)
    replies = whole.send(octets)
    split_replies = b""
    for size in sizes:
        split_replies += pieces.send(octets[:size])
        octets = octets[size:]
    split_replies += pieces.send(octets)
    assert split_replies == replies
    assert joined(pieces.events) == joined(whole.events)
    assert pieces.server.closing == whole.server.closing


@settings(deadline=None, max_examples=100)
@given(
    st.lists(
        st.one_of(st.binary(max_size=40), st.sampled_from([b"\r\n", BEFORE, b"DATA\r\n", b"\r\n.\r\n"])), max_size=20
    )
)
def test_random_octets_raise_nothing(pieces: list[bytes]) -> None:
    peer = Peer()
    for piece in pieces:
        for line in peer.send(piece).split(b"\r\n")[:-1]:
            assert line[:3].isdigit()


# --- Order ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("octets", "codes"),
    [
        (b"MAIL FROM:<ann@xx.example>\r\n", ["503 5.5.1"]),
        (b"RCPT TO:<bob@yy.example>\r\n", ["503 5.5.1"]),
        (b"DATA\r\n", ["503 5.5.1"]),
        (b"AUTH PLAIN\r\n", ["503 5.5.1"]),
        (b"STARTTLS\r\n", ["503 5.5.1"]),
        (b"HELO a\r\nRCPT TO:<bob@yy.example>\r\n", ["250", "503 5.5.1"]),
        (b"HELO a\r\nDATA\r\n", ["250", "503 5.5.1"]),
        (b"HELO a\r\nMAIL FROM:<>\r\nDATA\r\n", ["250", "250 2.1.0", "503 5.5.1"]),
        (b"HELO a\r\nMAIL FROM:<>\r\nMAIL FROM:<>\r\n", ["250", "250 2.1.0", "503 5.5.1"]),
        (BEFORE + b"RSET\r\nDATA\r\n", ["250", "250 2.1.0", "250 2.1.5", "250 2.0.0", "503 5.5.1"]),
        (BEFORE + b"EHLO a\r\nDATA\r\n", ["250", "250 2.1.0", "250 2.1.5", "250", "503 5.5.1"]),
        (b"NOOP\r\nnoop x\r\nRSET\r\nHELP\r\nVRFY ann\r\n", ["250 2.0.0"] * 3 + ["214 2.0.0", "252 2.1.5"]),
        (b"EXPN list\r\n", ["502 5.5.1"]),
        (b"\r\nWHAT\r\nEHLO\r\nRSET x\r\nVRFY\r\n", ["500 5.5.1"] * 2 + ["501 5.5.4"] * 3),
        (b"LHLO a\r\n", ["500 5.5.1"]),
        (b"EHLO a\r\nSTARTTLS\r\n", ["250", "502 5.5.1"]),
        (b"EHLO a\r\nAUTH PLAIN\r\n", ["250", "502 5.5.1"]),
        (b"EHLO a\r\nMAIL FROM:<> SIZE=52428801\r\n", ["250", "552 5.3.4"]),
        (b"NO\0OP\r\n", ["500 5.5.2"]),
        (b"NOOP " + b"x" * 506 + b"\r\n", ["500 5.5.2"]),
        (b"NOOP " + b"x" * 505 + b"\r\n", ["250 2.0.0"]),
        (b"VRFY " + b"x" * 5000 + b"\r\nNOOP\r\n", ["500 5.5.2", "250 2.0.0"]),
    ],
)
def test_commands_the_machine_answers_alone(octets: bytes, codes: list[str]) -> None:
    assert Peer().codes(octets) == codes


def test_an_event_needs_its_answer_before_the_next() -> None:
    server = SmtpServer(SETTINGS)
    server.greet()
    with pytest.raises(RuntimeError):
        server.accept()
    server.receive_data(b"EHLO a\r\nQUIT\r\n")
    assert server.next_event() == Hello("a", extended=True)
    with pytest.raises(RuntimeError):
        server.next_event()
    server.refuse(reply(550, "5.7.1", "No"))
    assert server.next_event() == Quit()


def test_a_refused_hello_changes_nothing() -> None:
    peer = Peer(answer=refusing(Hello, reply(550, "5.7.1", "Not you")))
    assert peer.codes(b"EHLO a\r\nMAIL FROM:<>\r\n") == ["550 5.7.1", "503 5.5.1"]


def test_data_when_all_recipients_were_refused() -> None:
    peer = Peer(answer=refusing(RcptTo, reply(550, "5.1.1", "No such user here")))
    assert peer.codes(BEFORE + b"DATA\r\n") == ["250", "250 2.1.0", "550 5.1.1", "554 5.5.1"]
    assert DataStart() not in peer.events


def test_data_refused_leaves_the_following_lines_commands() -> None:
    peer = Peer(answer=refusing(DataStart, reply(451, "4.3.0", "Not now")))
    assert peer.codes(BEFORE + b"DATA\r\nRSET\r\n")[3:] == ["451 4.3.0", "250 2.0.0"]


def test_pipelined_messages_in_one_write() -> None:
    peer = Peer()
    message = BEFORE[len(b"EHLO client.example\r\n") :] + b"DATA\r\nx\r\n.\r\n"
    codes = ["250 2.1.0", "250 2.1.5", "354", "250 2.0.0"]
    assert peer.codes(b"EHLO a\r\n" + message * 3 + b"QUIT\r\nNOOP\r\n") == ["250", *codes * 3, "221 2.0.0"]
    assert peer.body == b"x\r\n" * 3


def test_end_of_input_works_off_what_is_complete_and_closes() -> None:
    peer = Peer()
    peer.server.receive_eof()
    assert peer.codes(BEFORE + b"DATA\r\nhalf") == ["250", "250 2.1.0", "250 2.1.5", "354"]
    assert peer.server.closing
    assert BodyEnd() not in peer.events


# --- Limits ---------------------------------------------------------------------------------------------------------


def test_too_many_bad_commands() -> None:
    peer = Peer()
    assert peer.codes(b"WHAT\r\n" * 30) == ["500 5.5.1"] * 20 + ["421 4.7.0"]
    assert peer.server.closing


def test_too_many_commands_without_a_message() -> None:
    peer = Peer()
    assert peer.codes(b"NOOP\r\n" * 99 + BEFORE)[-2:] == ["250", "421 4.7.0"]
    assert peer.server.closing


@pytest.mark.parametrize(("status", "is_ours"), [("4.3.1", True), ("4.7.1", False), ("5.7.1", False)])
def test_what_follows_a_refusal_for_a_reason_of_ours_is_no_error(status: str, is_ours: bool) -> None:
    """The client had sent it before it knew, and has to say RSET."""
    settings = attrs.evolve(SETTINGS, bad_command_limit=5, idle_command_limit=5)
    refusal = reply(452 if status[0] == "4" else 550, status, "No")
    peer = Peer(settings, refusing(MailFrom, refusal))
    for _ in range(6):
        peer.send(BEFORE + b"DATA\r\nRSET\r\n")
    assert peer.server.closing is not is_ours


def test_not_everything_is_forgiven() -> None:
    settings = attrs.evolve(SETTINGS, bad_command_limit=5, recipient_limit=10)
    peer = Peer(settings, refusing(MailFrom, reply(452, "4.3.1", "Full")))
    peer.send(BEFORE + b"RCPT TO:<bob@yy.example>\r\n" * 11)
    assert not peer.server.closing
    peer.send(b"DATA\r\n" * 10)
    assert peer.server.closing


def test_an_accepted_message_starts_the_count_again() -> None:
    peer = Peer()
    for _ in range(5):
        assert peer.codes(b"NOOP\r\n" * 90 + BEFORE + b"DATA\r\n.\r\n")[-1] == "250 2.0.0"


def test_too_many_recipients() -> None:
    peer = Peer(attrs.evolve(SETTINGS, recipient_limit=3))
    codes = peer.codes(BEFORE + b"RCPT TO:<bob@yy.example>\r\n" * 4)
    assert codes[2:] == ["250 2.1.5"] * 3 + ["452 4.5.3"] * 2
    assert peer.server.transaction is not None
    assert peer.server.transaction.recipients == 3
    # As many above the limit as it allows, in a session and not for ever; a message begins anew.
    assert peer.codes(b"DATA\r\n.\r\n")[-1] == "250 2.0.0"
    again = peer.codes(BEFORE.partition(b"\r\n")[2] + b"RCPT TO:<bob@yy.example>\r\n" * 9)
    assert again[-5:] == ["452 4.5.3"] * 4 + ["421 4.7.0"]


def test_too_many_messages_on_one_connection() -> None:
    peer = Peer(attrs.evolve(SETTINGS, mail_limit=3))
    assert b"LIMITS RCPTMAX=1000 MAILMAX=3\r\n" in peer.send(b"EHLO a\r\n")
    message = b"MAIL FROM:<>\r\nRCPT TO:<bob@yy.example>\r\nDATA\r\n.\r\n"
    assert peer.codes(b"MAIL FROM:x y z\r\n" + message)[-1] == "250 2.0.0"
    peer.send(b"EHLO a\r\n")
    assert peer.codes(message * 2)[3:] == ["250 2.0.0", "421 4.5.3"]
    assert peer.server.closing


@pytest.mark.parametrize("first_line", [b"GET / HTTP/1.1", b"CONNECT mx:25 HTTP/1.1", b"Host: mx", b"POST / HTTP/1.0"])
def test_other_protocols_are_cut_off(first_line: bytes) -> None:
    peer = Peer()
    assert peer.codes(first_line + b"\r\n" + BEFORE) == ["554 5.5.1"]
    assert peer.server.closing
    assert peer.events == []


def test_an_endless_line_ends_the_session() -> None:
    peer = Peer()
    replies = b"".join(peer.send(b"x" * 65536) for _ in range(20))
    assert replies == b"421 4.7.0 Line too long\r\n"
    assert peer.server.closing


def test_a_message_at_the_size_limit_and_one_over_it() -> None:
    peer = Peer(attrs.evolve(SETTINGS, message_size_limit=1000))
    assert peer.codes(BEFORE + b"DATA\r\n" + b"..x\r\n" * 250 + b".\r\n")[-1] == "250 2.0.0"
    assert peer.codes(BEFORE + b"DATA\r\n" + b"..x\r\n" * 250 + b"\r\n.\r\nNOOP\r\n")[-2:] == ["552 5.3.4", "250 2.0.0"]
    assert peer.events[-1] == BodyAborted()
    assert peer.server.transaction is None


def test_endless_data_is_consumed_only_so_far() -> None:
    peer = Peer(attrs.evolve(SETTINGS, message_size_limit=1000))
    peer.send(BEFORE + b"DATA\r\n")
    replies = b"".join(peer.send(b"x" * 10000) for _ in range(10))
    assert replies == b"552 5.3.4 Message is too large\r\n"
    assert peer.server.closing


# --- The message ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("bare", "name"), [(b"\n", "bare LF"), (b"\r", "bare CR"), (b"\0", "NUL")])
def test_bare_line_endings_are_refused_at_the_end_of_data(bare: bytes, name: str) -> None:
    peer = Peer()
    smuggled = b"a" + bare + b"." + bare + b"\nMAIL FROM:<x@xx.example>\r\n"
    replies = peer.send(BEFORE + b"DATA\r\n" + smuggled + b".\r\nNOOP\r\n")
    assert replies.decode().split("\r\n")[-3:-1] == [
        f"554 5.6.0 Message has a {name}; its lines must end with CRLF and have no NUL",
        "250 2.0.0 OK",
    ]
    assert sum(isinstance(event, MailFrom) for event in peer.events) == 1
    assert peer.events[-1] == BodyAborted()


def test_bare_line_endings_are_normalised_where_settings_say_so() -> None:
    peer = Peer(attrs.evolve(SETTINGS, bare_lines=BareLines.NORMALISE))
    assert peer.codes(BEFORE + b"DATA\r\na\nb\rc\0\r\n.\r\n")[-1] == "250 2.0.0"
    assert peer.body == b"a\r\nb\r\nc\r\n"


def test_the_session_refuses_while_the_message_arrives() -> None:
    def answer(server: SmtpServer, event: Event) -> None:
        if isinstance(event, BodyChunk):
            server.refuse_body(reply(452, "4.3.1", "Disk full"))
            server.internal_error()  # The first refusal counts.
        else:
            accept_all(server, event)

    peer = Peer(answer=answer)
    peer.send(BEFORE + b"DATA\r\nfirst\r\n")
    assert peer.send(b"second\r\n") == b""
    assert peer.send(b".\r\n") == b"452 4.3.1 Disk full\r\n"
    assert peer.body == b"first"
    assert peer.events[-1] == BodyAborted()
    with pytest.raises(RuntimeError):
        peer.server.refuse_body(reply(452, "4.3.1", "Disk full"))


def test_the_final_refusal_ends_the_transaction() -> None:
    peer = Peer(answer=refusing(BodyEnd, reply(554, "5.7.1", "Spam")))
    assert peer.codes(BEFORE + b"DATA\r\n.\r\nDATA\r\n")[3:] == ["354", "554 5.7.1", "503 5.5.1"]


def test_replies_are_in_ascii_although_the_client_knows_utf8() -> None:
    """RFC 6531 3.7.4.2: but for those that name another mailbox, which are not given."""
    peer = Peer(answer=refusing(RcptTo, reply(550, "5.1.1", "No \u00fc")))
    peer.send(b"EHLO a\r\nMAIL FROM:<ann@xx.example>\r\n")
    assert peer.send(b"RCPT TO:<u@yy.example>\r\n") == b"550 5.1.1 No ?\r\n"
    peer.send(b"RSET\r\nMAIL FROM:<ann@xx.example> SMTPUTF8\r\n")
    assert peer.send("RCPT TO:<\u00fc@yy.example>\r\n".encode()) == b"550 5.1.1 No ?\r\n"


# --- Failure of the session -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [Hello, MailFrom, RcptTo, DataStart, BodyChunk, BodyEnd])
def test_a_crash_is_answered_451_and_the_session_goes_on(kind: type) -> None:
    def crash(server: SmtpServer, event: Event) -> None:
        if isinstance(event, kind):
            server.internal_error()
        else:
            accept_all(server, event)

    peer = Peer(answer=crash)
    replies = peer.codes(BEFORE + b"DATA\r\nx\r\n.\r\n")
    assert replies.count("451 4.3.0") == 1
    peer.answer = accept_all
    assert peer.codes(BEFORE + b"DATA\r\nx\r\n.\r\n")[-1] == "250 2.0.0"


def test_a_crash_after_the_answer_says_nothing_more() -> None:
    peer = Peer()
    peer.send(b"EHLO a\r\n")
    peer.server.internal_error()
    assert peer.send(b"NOOP\r\n") == b"250 2.0.0 OK\r\n"


def test_a_crash_before_the_greeting_closes() -> None:
    server = SmtpServer(SETTINGS)
    server.internal_error()
    assert server.data_to_send().startswith(b"421 4.3.0 ")
    assert server.closing


def test_421_from_the_session_closes() -> None:
    peer = Peer(answer=refusing(MailFrom, reply(421, "4.3.2", "Going down")))
    assert peer.codes(BEFORE) == ["250", "421 4.3.2"]
    assert peer.server.closing


def test_a_farewell_is_said_once() -> None:
    peer = Peer()
    for _ in range(2):
        peer.server.close_with(reply(421, "4.4.2", "Idle for too long"))
    assert peer.send(b"NOOP\r\n") == b"421 4.4.2 Idle for too long\r\n"


# --- TLS and login --------------------------------------------------------------------------------------------------


def keywords(replies: bytes) -> set[str]:
    return {line[4:] for line in replies.decode().split("\r\n")[1:-1]}


def test_starttls_forgets_everything_said_before() -> None:
    peer = Peer(attrs.evolve(SETTINGS, starttls=True))
    assert "STARTTLS" in keywords(peer.send(b"EHLO a\r\n"))
    replies = peer.send(b"MAIL FROM:<ann@xx.example>\r\nSTARTTLS\r\nRCPT TO:<evil@yy.example>\r\nNO")
    assert replies == b"250 2.1.0 Sender OK\r\n220 2.0.0 Ready to start TLS\r\n"
    assert peer.server.secure
    assert peer.codes(b"MAIL FROM:<ann@xx.example>\r\n") == ["503 5.5.1"]
    assert "STARTTLS" not in keywords(peer.send(b"EHLO a\r\n"))
    assert peer.codes(b"STARTTLS\r\n") == ["503 5.5.1"]


def test_no_command_is_read_between_starttls_and_tls() -> None:
    server = SmtpServer(attrs.evolve(SETTINGS, starttls=True))
    server.greet()
    server.receive_data(b"EHLO a\r\nSTARTTLS\r\nNOOP\r\n")
    for _ in range(2):
        server.next_event()
        server.accept()
    server.data_to_send()
    assert server.next_event() is None
    server.tls_started()
    assert server.next_event() is None
    assert server.data_to_send() == b""
    with pytest.raises(RuntimeError):
        server.tls_started()


def test_submission_wants_tls_and_then_a_login() -> None:
    peer = Peer(SUBMISSION)
    assert not any(word.startswith("AUTH") for word in keywords(peer.send(b"EHLO a\r\n")))
    assert peer.codes(b"MAIL FROM:<>\r\nAUTH PLAIN\r\nRSET\r\nVRFY a\r\nNOOP\r\n") == ["530 5.7.0"] * 4 + ["250 2.0.0"]
    peer.send(b"STARTTLS\r\n")
    assert "AUTH PLAIN LOGIN" in keywords(peer.send(b"EHLO a\r\n"))
    assert peer.codes(b"MAIL FROM:<>\r\nVRFY a\r\nRSET\r\n") == ["530 5.7.0"] * 2 + ["250 2.0.0"]
    assert peer.codes(b"AUTH PLAIN " + PLAIN + b"\r\n") == ["235 2.7.0"]
    assert peer.events[-1] == Login(PlainCredentials("", "ann", "s3cret"))
    assert not any(word.startswith("AUTH") for word in keywords(peer.send(b"EHLO a\r\n")))
    assert peer.codes(b"AUTH PLAIN\r\nMAIL FROM:<ann@xx.example> AUTH=<>\r\n") == ["503 5.5.1", "250 2.1.0"]


def test_no_login_in_plaintext() -> None:
    peer = Peer(attrs.evolve(SETTINGS, mechanisms=("PLAIN",)))
    assert peer.codes(b"EHLO a\r\nAUTH PLAIN " + PLAIN + b"\r\n") == ["250", "538 5.7.11"]
    assert peer.events == [Hello("a", extended=True)]


LOGIN_SETTINGS = attrs.evolve(SETTINGS, secure=True, mechanisms=("PLAIN", "LOGIN"))


def test_a_login_step_by_step_and_pipelined() -> None:
    peer = Peer(LOGIN_SETTINGS)
    peer.send(b"EHLO a\r\n")
    assert peer.send(b"AUTH LOGIN\r\n") == b"334 VXNlcm5hbWU6\r\n"
    assert peer.send(b64encode(b"ann") + b"\r\n") == b"334 UGFzc3dvcmQ6\r\n"
    assert (
        peer.send(b64encode(b"s3cret") + b"\r\nNOOP\r\n") == b"235 2.7.0 Authentication successful\r\n250 2.0.0 OK\r\n"
    )


@pytest.mark.parametrize(
    ("octets", "codes"),
    [
        (b"AUTH PLAIN\r\n*\r\n", ["334", "501 5.7.0"]),
        (b"AUTH PLAIN\r\n!!\r\n", ["334", "501 5.5.2"]),
        (b"AUTH PLAIN =\r\n", ["501 5.5.2"]),
        (b"AUTH PLAIN !!\r\n", ["501 5.5.2"]),
        (b"AUTH PLAIN *\r\n", ["501 5.5.2"]),
        (b"AUTH PLAIN AGE=AGE\r\n", ["501 5.5.2"]),
        (b"AUTH LOGIN \xc3\xa4\r\n", ["501 5.5.2"]),
        (b"R\xc5\xbfET\r\n", ["500 5.5.1"]),
        (b"AUTH SCRAM-SHA-1\r\n", ["504 5.5.4"]),
        (b"AUTH PLAIN\r\n" + b"A" * 13000 + b"\r\nNOOP\r\n", ["334", "500 5.5.6", "250 2.0.0"]),
        (b"MAIL FROM:<>\r\nAUTH PLAIN\r\n", ["250 2.1.0", "503 5.5.1"]),
    ],
)
def test_broken_logins(octets: bytes, codes: list[str]) -> None:
    peer = Peer(LOGIN_SETTINGS)
    peer.send(b"EHLO a\r\n")
    assert peer.codes(octets) == codes
    assert not peer.server.authenticated


def test_refused_logins_are_counted() -> None:
    peer = Peer(LOGIN_SETTINGS, refusing(Login, reply(535, "5.7.8", "Authentication failed")))
    peer.send(b"EHLO a\r\n")
    assert peer.codes((b"AUTH PLAIN " + PLAIN + b"\r\n") * 9) == ["535 5.7.8"] * 5 + ["421 4.7.0"]
    assert not peer.server.authenticated


# --- LMTP -----------------------------------------------------------------------------------------------------------

LMTP = attrs.evolve(SETTINGS, lmtp=True)
LMTP_BEFORE = (
    b"LHLO a\r\nMAIL FROM:<ann@xx.example>\r\n" + b"RCPT TO:<bob@yy.example>\r\n" * 2 + b"RCPT TO:<ann@xx.example>\r\n"
)


def test_lmtp_gives_a_reply_for_each_recipient_in_order() -> None:
    def answer(server: SmtpServer, event: Event) -> None:
        if isinstance(event, BodyEnd):
            server.finish([reply(250, "2.0.0", "1"), reply(452, "4.2.2", "2"), reply(550, "5.2.1", "3")])
        else:
            accept_all(server, event)

    peer = Peer(LMTP, answer)
    assert peer.codes(LMTP_BEFORE + b"DATA\r\n.\r\n")[-3:] == ["250 2.0.0", "452 4.2.2", "550 5.2.1"]


@pytest.mark.parametrize(
    ("message", "answer", "code"),
    [
        (b"x\r\n", accept_all, "250 2.0.0"),
        (b"x\n", accept_all, "554 5.6.0"),
        (b"x\r\n", refusing(BodyEnd, reply(451, "4.3.0", "No")), "451 4.3.0"),
    ],
)
def test_lmtp_gives_one_answer_to_all_recipients(message: bytes, answer: Answer, code: str) -> None:
    peer = Peer(LMTP, answer)
    assert peer.codes(LMTP_BEFORE + b"DATA\r\n" + message + b"\r\n.\r\n")[6:] == [code] * 3


def test_lmtp_has_no_helo_and_503_without_recipients() -> None:
    peer = Peer(LMTP, refusing(RcptTo, reply(550, "5.1.1", "No")))
    assert peer.codes(b"EHLO a\r\nHELO a\r\n") == ["500 5.5.1"] * 2
    assert peer.codes(LMTP_BEFORE + b"DATA\r\n")[-1] == "503 5.5.1"


def test_finish_is_for_lmtp_only() -> None:
    peer = Peer()
    with pytest.raises(RuntimeError):
        peer.server.finish([reply(250, "2.0.0", "")])
