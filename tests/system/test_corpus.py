"""Two hundred and more varied messages go in by SMTP and come out by IMAP and POP3 octet for octet."""

from __future__ import annotations

import imaplib
import poplib
import smtplib

import pytest

from mailhub.message.header import fields_end
from mailhub.testing.corpus import corpus
from mailhub.testing.process import DEADLINE, ServerProcess, insecure_tls
from tests.system.octets import split_trace

pytestmark = pytest.mark.system

USER = "a@xx.example"
COUNT = 220


def pop_octets(client: poplib.POP3_SSL, number: int) -> bytes:
    _, lines, _ = client.retr(number)
    return b"".join(line + b"\r\n" for line in lines)


def test_what_goes_in_comes_out(one_hub: ServerProcess) -> None:
    sent = list(corpus(2026, COUNT))
    with smtplib.SMTP("127.0.0.1", one_hub.ports["smtp"], timeout=DEADLINE) as client:
        client.ehlo("sender.example")
        for message in sent:
            client.mail("s@else.example", ["BODY=8BITMIME", f"SIZE={len(message)}"])
            client.rcpt(USER)
            code, reply = client.data(message)
            assert code == 250, reply

    stored = one_hub.messages(USER)
    assert len(stored) == COUNT
    for original, octets in zip(sent, stored, strict=True):
        top, message = split_trace_once(octets, original)
        assert message == with_empty_line(original)
        assert top.count(b"\r\nReceived: ") == 1
        assert top.startswith(b"Return-Path: <s@else.example>\r\n")

    imap_sees_every_part(one_hub, stored)
    pop = poplib.POP3_SSL("127.0.0.1", one_hub.ports["pop3s"], context=insecure_tls(), timeout=DEADLINE)
    poplib._MAXLINE = 1 << 16  # type: ignore[attr-defined]
    pop.user(USER)
    pop.pass_(one_hub.accounts[USER])
    assert pop.stat() == (COUNT, sum(len(m) for m in stored))
    for number, octets in enumerate(stored, 1):
        assert pop_octets(pop, number) == octets
    pop.quit()


def with_empty_line(message: bytes) -> bytes:
    """What is stored of a message: between its fields and a line that is none an empty one is put."""
    end = fields_end(message, 0, len(message))
    missing = message[end:] and not message.startswith(b"\r\n", end)
    return message[:end] + b"\r\n" + message[end:] if missing else message


def split_trace_once(octets: bytes, original: bytes) -> tuple[bytes, bytes]:
    """Our own trace fields and the rest; a message may begin with trace fields of its own."""
    top, message = split_trace(octets)
    extra = len(original) - len(message)
    return (top[: len(top) - extra], octets[len(top) - extra :]) if extra > 0 else (top, message)


def imap_sees_every_part(hub: ServerProcess, stored: list[bytes]) -> None:
    """Header and text sections, sizes and partials agree with the whole."""
    with hub.imap(USER) as client:
        assert isinstance(client, imaplib.IMAP4_SSL)
        client.select("INBOX", readonly=True)
        _, data = client.fetch("1:*", "(RFC822.SIZE ENVELOPE BODYSTRUCTURE BODY.PEEK[HEADER] BODY.PEEK[TEXT])")
        pieces = [part[1] for part in data if isinstance(part, tuple) and b"BODY[" in part[0].upper()]
        joined = b"".join(pieces)
        assert joined == b"".join(stored)
        for number in (1, len(stored) // 2, len(stored)):
            _, answer = client.fetch(str(number), "(BODY.PEEK[]<10.100>)")
            assert isinstance(answer[0], tuple)
            assert answer[0][1] == stored[number - 1][10:110]
