"""XCLIENT and XFORWARD on the server machine."""

from __future__ import annotations

import attrs
import pytest

from mailhub.message.envelope import Mail
from mailhub.wire.smtp.events import Forwarded, MailFrom, SpeaksFor
from mailhub.wire.smtp.replies import reply
from tests.wire.smtp.test_server import ANN, LMTP, SETTINGS, SUBMISSION, Peer, refusing

TRUSTED = attrs.evolve(SETTINGS, speaks_for=True)
GREETING = b"220 mx.example ESMTP mailhub\r\n"


def test_the_session_begins_anew() -> None:
    peer = Peer(TRUSTED)
    assert b"250-XCLIENT NAME ADDR PORT PROTO HELO LOGIN DESTADDR DESTPORT\r\n" in peer.send(b"EHLO a\r\n")
    assert peer.send(b"XCLIENT NAME=c.example ADDR=198.51.100.7\r\n") == GREETING
    assert peer.codes(b"MAIL FROM:<ann@xx.example>\r\n") == ["503 5.5.1"]
    peer.send(b"EHLO b\r\nMAIL FROM:<ann@xx.example>\r\n")
    assert SpeaksFor({"NAME": "c.example", "ADDR": "198.51.100.7"}) in peer.events
    assert peer.events[-1] == MailFrom(Mail(ANN))
    assert peer.codes(b"XCLIENT ADDR=198.51.100.7\r\nRSET\r\n") == ["503 5.5.1", "250 2.0.0"]
    assert peer.send(b"xclient addr=198.51.100.8\r\n") == GREETING


@pytest.mark.parametrize(
    ("argument", "attributes"),
    [
        ("ADDR=IPV6:2001:DB8::7", {"ADDR": "2001:db8::7"}),
        ("ADDR=ipv6:2001:db8::7 PORT=25 PROTO=smtp", {"ADDR": "2001:db8::7", "PORT": "25", "PROTO": "SMTP"}),
        ("NAME=[UNAVAILABLE]  ADDR=[unavailable]", {"NAME": "", "ADDR": ""}),
        ("NAME=[TEMPUNAVAIL] HELO=[UNAVAILABLE] LOGIN=[UNAVAILABLE]", {"NAME": "", "HELO": "", "LOGIN": ""}),
        ("HELO=a+2Bb+3Dc LOGIN=ann+40xx.example", {"HELO": "a+b=c", "LOGIN": "ann@xx.example"}),
        ("HELO=b+C3+BCcher", {"HELO": "b\u00fccher"}),
        ("HELO=b\u00fccher", {"HELO": "b\u00fccher"}),
        ("DESTADDR=192.0.2.25 DESTPORT=0", {"DESTADDR": "192.0.2.25", "DESTPORT": "0"}),
    ],
)
def test_attributes(argument: str, attributes: dict[str, str]) -> None:
    peer = Peer(TRUSTED)
    assert peer.send(f"XCLIENT {argument}\r\n".encode()) == GREETING
    assert peer.events == [SpeaksFor(attributes)]


@pytest.mark.parametrize(
    "argument",
    [
        "",
        "ADDR",
        "=x",
        "FOO=bar",
        "IDENT=x",
        "ADDR=",
        "ADDR=c.example",
        "ADDR=2001:db8::7",
        "ADDR=IPV6:192.0.2.1",
        "ADDR=192.0.2.1 ADDR=192.0.2.2",
        "PORT=x",
        "PORT=65536",
        "PORT=-1",
        "PROTO=LMTP",
        "NAME=a+0Ab",
        "NAME=a+0ab",
        "NAME=a=b",
        "HELO=+FF",
        f"HELO={'x' * 256}",
        "DESTADDR=x",
    ],
)
def test_what_is_no_attribute(argument: str) -> None:
    peer = Peer(TRUSTED)
    assert peer.codes(f"XCLIENT {argument}\r\nNOOP\r\n".encode()) == ["501 5.5.4", "250 2.0.0"]
    assert peer.events == []


def test_a_login_by_the_proxy_and_none_after_the_next() -> None:
    peer = Peer(attrs.evolve(SUBMISSION, speaks_for=True, plaintext_login=True, require_tls=False))
    assert peer.codes(b"EHLO a\r\nMAIL FROM:<ann@xx.example>\r\n")[-1] == "530 5.7.0"
    assert peer.send(b"XCLIENT LOGIN=ann@xx.example\r\nQUIT\r\n") == GREETING
    peer.send(b"EHLO a\r\n")
    assert peer.codes(b"MAIL FROM:<ann@xx.example>\r\nRSET\r\n") == ["250 2.1.0", "250 2.0.0"]
    assert peer.codes(b"AUTH PLAIN =\r\n") == ["503 5.5.1"]
    peer.send(b"XCLIENT LOGIN=[UNAVAILABLE]\r\n")
    peer.send(b"EHLO a\r\n")
    assert peer.codes(b"MAIL FROM:<ann@xx.example>\r\n") == ["530 5.7.0"]


def test_another_client_has_not_spoken_too_early() -> None:
    peer = Peer(TRUSTED)
    peer.send(b"EHLO a\r\nNOOP\r\n")
    assert peer.server.early
    peer.send(b"XCLIENT ADDR=198.51.100.7\r\n")
    assert not peer.server.early


def test_a_client_that_is_not_wanted_ends_the_session() -> None:
    peer = Peer(TRUSTED, refusing(SpeaksFor, reply(554, "5.7.1", "Go away")))
    assert peer.codes(b"XCLIENT ADDR=198.51.100.7\r\nNOOP\r\n") == ["554 5.7.1"]
    assert peer.server.closing


def test_where_the_next_message_came_from_is_noted() -> None:
    peer = Peer(TRUSTED)
    assert b"250-XFORWARD NAME ADDR PORT PROTO HELO IDENT SOURCE\r\n" in peer.send(b"EHLO a\r\n")
    codes = peer.codes(b"XFORWARD NAME=c.example ADDR=198.51.100.7\r\nXFORWARD IDENT=4711 SOURCE=REMOTE\r\n")
    assert codes == ["250 2.0.0"] * 2
    assert peer.events[1:] == [
        Forwarded({"NAME": "c.example", "ADDR": "198.51.100.7"}),
        Forwarded({"IDENT": "4711", "SOURCE": "REMOTE"}),
    ]
    assert peer.codes(b"XFORWARD LOGIN=ann\r\nXFORWARD SOURCE=MARS\r\n") == ["501 5.5.4"] * 2
    assert peer.codes(b"MAIL FROM:<>\r\nXFORWARD ADDR=192.0.2.1\r\n") == ["250 2.1.0", "503 5.5.1"]


@pytest.mark.parametrize("command", [b"XCLIENT ADDR=198.51.100.7\r\n", b"XFORWARD ADDR=198.51.100.7\r\n"])
def test_strangers_speak_for_nobody(command: bytes) -> None:
    peer = Peer()
    assert b"XCLIENT" not in peer.send(b"EHLO a\r\n")
    assert peer.codes(command) == ["502 5.5.1"]
    assert b"XCLIENT" not in peer.send(b"HELP\r\n")
    assert Peer(attrs.evolve(LMTP, speaks_for=True)).codes(command) == ["500 5.5.1"]
