"""What looks like the end of the data, or like a command, and is content; and commands that are none."""

from __future__ import annotations

import attrs
import pytest

from mailhub.wire.smtp.events import BodyAborted, BodyEnd, MailFrom
from mailhub.wire.smtp.extensions import SmtpSettings
from mailhub.wire.stream import BareLines
from tests.wire.smtp.test_server import BEFORE, LOGIN_SETTINGS, SETTINGS, Peer

NORMALISE = attrs.evolve(SETTINGS, bare_lines=BareLines.NORMALISE)
LOOK_ALIKES = [
    b"\n.\n",
    b"\n.\r\n",
    b"\r\n.\n",
    b"\r.\r",
    b"\r.\r\n",
    b"\r\n.\r",
    b"\r.\n",
    b"\n.\r",
    b"\r\n.\r\r\n",
    b"\r\n\r.\r\n",
    b"\r\n\0.\r\n",
    b"\r\n.\0\r\n",
    b"\0\r\n.\n",
    b"\r\r\n.\r\r\n",
    b"\n\n.\n\n",
    b"\r\n.\n\r\n",
    b"\r\n. \r\n",
    b"\r\n..\r\n",
]
CLEAN = (b"\r\n. \r\n", b"\r\n..\r\n")
SMUGGLED = b"MAIL FROM:<evil@xx.example>\r\nRCPT TO:<bob@yy.example>\r\nDATA\r\n"


@pytest.mark.parametrize("smtp", [SETTINGS, NORMALISE], ids=["reject", "normalise"])
@pytest.mark.parametrize("step", [1, 3, 1000])
@pytest.mark.parametrize("look_alike", LOOK_ALIKES)
def test_nothing_but_crlf_dot_crlf_ends_the_data(look_alike: bytes, step: int, smtp: SmtpSettings) -> None:
    peer = Peer(smtp)
    codes = peer.codes(BEFORE)
    content = b"DATA\r\nSubject: x\r\n\r\na" + look_alike + SMUGGLED + b"b\r\n.\r\nNOOP\r\n"
    for start in range(0, len(content), step):
        codes += peer.codes(content[start : start + step])
    rejected = smtp is SETTINGS and look_alike not in CLEAN
    assert codes[3:] == ["354", "554 5.6.0" if rejected else "250 2.0.0", "250 2.0.0"]
    assert sum(isinstance(event, MailFrom) for event in peer.events) == 1
    assert peer.events[-1] == (BodyAborted() if rejected else BodyEnd())
    if not rejected:
        assert SMUGGLED in peer.body
        assert b"\r" not in peer.body.replace(b"\r\n", b"")
        assert b"\n" not in peer.body.replace(b"\r\n", b"")
        assert b"\0" not in peer.body


@pytest.mark.parametrize(
    ("line", "code"),
    [
        (b"NO\0OP\r\n", "500 5.5.2"),
        (b"NOOP\0\r\n", "500 5.5.2"),
        (b"NOOP \x07\r\n", "500 5.5.2"),
        (b"NOOP\t\r\n", "500 5.5.2"),
        (b"MAIL FROM:<a@b.example>\rRCPT TO:<c@d.example>\r\n", "500 5.5.2"),
        (b"VRFY \xff\r\n", "500 5.5.2"),
        (b"MAIL FROM:<\xff@xx.example>\r\n", "500 5.5.2"),
        ("MAIL FROM:<\u00fc@xx.example>\r\n".encode(), "550 5.6.7"),
        ("MAIL FROM:<ann@xx.example> ENVID=\u00fc\r\n".encode(), "501 5.5.4"),
        ("A\u00c4C\r\n".encode(), "500 5.5.1"),
        (b"x" * 600 + b"\r\n", "500 5.5.1"),
        (b"x" * 60000 + b"\r\n", "500 5.5.2"),
        (b"RSET" + b" " * 509 + b"\r\n", "500 5.5.2"),
        (b"\x00\r\n", "554 5.5.1"),
        (b"\x16\x03\x01\r\n", "554 5.5.1"),
    ],
)
def test_lines_that_are_no_commands(line: bytes, code: str) -> None:
    peer = Peer()
    peer.send(b"EHLO a\r\n")
    assert peer.codes(line) == [code]
    assert peer.server.closing == code.startswith("554")
    if not peer.server.closing:
        assert peer.codes(b"NOOP\r\n") == ["250 2.0.0"]


def test_lines_of_a_message_have_no_limit_of_their_own() -> None:
    peer = Peer()
    line = b"x" * 200_000 + b"\r\n"
    assert peer.codes(BEFORE + b"DATA\r\n" + line + b"." + line + b".\r\n")[-1] == "250 2.0.0"
    assert peer.body == line + line


@pytest.mark.parametrize("step", [1, 1000])
def test_a_login_in_pieces_is_no_command(step: int) -> None:
    peer = Peer(LOGIN_SETTINGS)
    peer.send(b"EHLO a\r\n")
    octets = b"AUTH PLAIN\r\nMAIL FROM:<evil@xx.example>\r\nNOOP\r\n"
    codes: list[str] = []
    for start in range(0, len(octets), step):
        codes += peer.codes(octets[start : start + step])
    assert codes == ["334", "501 5.5.2", "250 2.0.0"]
