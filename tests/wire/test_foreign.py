"""Other protocols are told from ours by their first line, and a machine that hears one obeys nothing more."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailhub.wire.foreign import is_foreign, is_foreign_octet
from mailhub.wire.imap.server import ImapServer
from mailhub.wire.imap.server_settings import ImapSettings
from mailhub.wire.imap.state import ALLOWED
from mailhub.wire.pop3.commands import NAMES as POP3
from mailhub.wire.pop3.server import Pop3Server, Pop3Settings
from mailhub.wire.smtp.extensions import SmtpSettings
from mailhub.wire.smtp.server import SmtpServer
from mailhub.wire.smtp.verbs import NAMES as SMTP
from tests.wire.imap.talk import Talk

IMAP = frozenset(name.encode() for name in ALLOWED)

FOREIGN_EVERYWHERE = [
    b"GET / HTTP/1.1",
    b"POST /a?b HTTP/1.1",
    b"get / http/1.0",
    b"OPTIONS * HTTP/1.1",
    b"CONNECT mx.example:25 HTTP/1.1",
    b"PRI * HTTP/2.0",
    b"WHATEVER /x HTTP/1.1",
    b"HTTP/1.1 200 OK",
    b"Host: mx.example",
    b"X-Any:",
    b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2",
    b"SSH-2.0-client",
    b"INVITE sip:x@example SIP/2.0",
    b"PASV",
    b"PORT 192,0,2,1,0,25",
    b"cwd /pub",
    b"STOR a1",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    b"\x80\x2e\x01\x00\x02",
    b"\x00",
]


@pytest.mark.parametrize("line", FOREIGN_EVERYWHERE)
def test_no_mail_protocol_has_such_a_line(line: bytes) -> None:
    assert is_foreign(line, SMTP)
    assert is_foreign(line, POP3)
    assert is_foreign(line, IMAP, tagged=True)


@pytest.mark.parametrize("line", [b"EHLO mx.example", b"MAIL FROM:<a@b.example>", b"data"])
def test_smtp_is_foreign_to_the_others(line: bytes) -> None:
    assert is_foreign(line, POP3)
    assert is_foreign(line, IMAP, tagged=True)


@pytest.mark.parametrize("line", [b"USER ann", b"CAPA", b"stls", b"LIST", b"list 1"])
def test_pop3_is_foreign_to_the_others(line: bytes) -> None:
    assert is_foreign(line, SMTP)
    assert is_foreign(line, IMAP, tagged=True)


@pytest.mark.parametrize(
    "line", [b"a1 LOGIN ann x", b". capability", b"7 UID FETCH 1 FLAGS", b"a2 STARTTLS", b"a noop"]
)
def test_imap_is_foreign_to_the_others(line: bytes) -> None:
    assert is_foreign(line, SMTP)
    assert is_foreign(line, POP3)


@pytest.mark.parametrize(
    ("line", "own", "tagged"),
    [
        (b"AUTH LOGIN", SMTP, False),
        (b"HELP LOGIN", SMTP, False),
        (b"XYZZY", SMTP, False),
        (b"", SMTP, False),
        (b"USER a HTTP/1.1", POP3, False),
        (b"AUTH LOGIN", POP3, False),
        (b"pass select", POP3, False),
        # A tag may be any word.
        (b"GET LOGIN ann x", IMAP, True),
        (b"DATA SELECT HTTP/1.1", IMAP, True),
        (b"a SELECT HTTP/1.1", IMAP, True),
        (b"NOOP", IMAP, True),
        (b'LIST LIST "" *', IMAP, True),
        (b"QUIT", IMAP, True),
        (b"QUIT", POP3, False),
        (b"NOOP id", SMTP, False),
        (b"EXPN list", SMTP, False),
        (b"LIST 1", POP3, False),
        (b"a XYZZY", IMAP, True),
        (b" a NOOP", IMAP, True),
    ],
)
def test_what_may_be_ours_is_not_foreign(line: bytes, own: frozenset[bytes], tagged: bool) -> None:
    assert not is_foreign(line, own, tagged=tagged)


@given(st.binary(max_size=80))
def test_any_octets_can_be_judged(line: bytes) -> None:
    is_foreign(line, SMTP)
    is_foreign(line, IMAP, tagged=True)


def test_only_printable_ascii_begins_a_command() -> None:
    assert [octet for octet in range(256) if not is_foreign_octet(octet)] == [9, 10, 13, *range(32, 127)]


# --- The machines ----------------------------------------------------------------------------------------------------

POST = b"POST / HTTP/1.1\r\nHost: mx\r\n\r\n"
CLIENT_HELLO = b"\x16\x03\x01\x02\x00\x01\x00"


@pytest.mark.parametrize("octets", [POST + b"EHLO x\r\nQUIT\r\n", CLIENT_HELLO])
def test_smtp_ends_at_once(octets: bytes) -> None:
    machine = SmtpServer(SmtpSettings("mx.example", "mx.example"))
    machine.greet()
    machine.data_to_send()
    machine.receive_data(octets)
    assert machine.next_event() is None
    assert machine.data_to_send() == b"554 5.5.1 This is a mail server\r\n"
    assert machine.closing


@pytest.mark.parametrize("octets", [POST + b"USER ann\r\nPASS x\r\n", CLIENT_HELLO])
def test_pop3_ends_at_once(octets: bytes) -> None:
    machine = Pop3Server(Pop3Settings(plaintext_login=True))
    machine.receive_data(octets)
    assert machine.next_event() is None
    assert machine.data_to_send() == b"-ERR This is a POP3 server\r\n"
    assert machine.closing


@pytest.mark.parametrize("octets", [POST + b"a LOGIN ann x\r\n", CLIENT_HELLO])
def test_imap_ends_at_once(octets: bytes) -> None:
    machine = ImapServer(ImapSettings("mx.example", plaintext_login=True))
    machine.receive_data(octets)
    assert machine.next_event() is None
    assert machine.data_to_send() == b"* BYE This is an IMAP server\r\n"
    assert machine.closing


def test_content_is_not_judged() -> None:
    machine = ImapServer(ImapSettings("mx.example", plaintext_login=True))
    machine.receive_data(b"a LOGIN {3+}\r\nGET {5+}\r\nHost:\r\n")
    assert machine.next_event() is not None
    assert not machine.closing


def test_after_an_imap_login_a_refused_message_that_was_sent_all_the_same_ends_nothing() -> None:
    talk = Talk().login()
    refused = b"Host: x\r\n\r\nGET / HTTP/1.1\r\n\x80\r\n"
    assert talk.send(refused + b"b NOOP\r\n").endswith(b"\r\nb OK Completed\r\n")
    assert not talk.machine.closing
