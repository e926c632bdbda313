"""Received and Return-Path: the grammar of RFC 5321 4.4, and nothing that a client says can leave its place."""

from __future__ import annotations

import re

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mailhub.message.address import Address
from mailhub.message.trace import (
    count_received,
    delivered_to,
    delivered_to_fields,
    protocol,
    received,
    received_from,
    return_path,
)

_DATE = "Mon, 23 Nov 2026 06:30:00 +0000"


@attrs.frozen
class Origin:
    each_recipient: bool = False
    peer: str = "192.0.2.1"
    session_id: str = "s1"
    secure: bool = False
    helo: str = "client.example"
    extended: bool = True
    user: str = ""
    tls: str = ""


def trace(origin: Origin, recipient: str | None = None, *, smtputf8: bool = False) -> bytes:
    address = None if recipient is None else Address.parse(recipient)
    return received(hostname="mx.example", origin=origin, date=_DATE, recipient=address, smtputf8=smtputf8)


def unfolded(field: bytes) -> str:
    return field.decode().replace("\r\n\t", " ").removesuffix("\r\n")


def test_received() -> None:
    assert trace(Origin(), "b@yy.example") == (
        b"Received: from client.example ([192.0.2.1]) by mx.example with ESMTP id s1\r\n"
        b"\tfor <b@yy.example>; Mon, 23 Nov 2026 06:30:00 +0000\r\n"
    )


def test_received_says_which_priority_was_asked_for() -> None:
    field = received(hostname="mx.example", origin=Origin(), date=_DATE, recipient=None, priority=-4)
    assert unfolded(field).endswith(f"id s1 PRIORITY -4; {_DATE}")


@pytest.mark.parametrize(
    ("tls", "clause"),
    [
        ("TLSv1.3/TLS_AES_256_GCM_SHA384", " tls TLS_AES_256_GCM_SHA384"),
        ("TLSv1.2/ECDHE-RSA-AES128-GCM-SHA256", " tls TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256"),
        ("TLSv1.2/ECDHE-ECDSA-AES256-GCM-SHA384", " tls TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384"),
        ("TLSv1.2/ECDHE-ECDSA-CHACHA20-POLY1305", " tls TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256"),
        ("TLSv1.2/DHE-RSA-CHACHA20-POLY1305", " tls TLS_DHE_RSA_WITH_CHACHA20_POLY1305_SHA256"),
        ("TLSv1.2/AES128-SHA", ""),
        ("TLS", ""),
        ("", ""),
    ],
)
def test_received_names_the_cipher_as_iana_does(tls: str, clause: str) -> None:
    """RFC 8314 4.3, in the order of RFC 5321 4.4."""
    origin = Origin(secure=bool(tls), tls=tls)
    assert unfolded(trace(origin, "b@yy.example")).endswith(f" for <b@yy.example>{clause}; {_DATE}")
    assert unfolded(trace(origin)).endswith(f" id s1{clause}; {_DATE}")
    field = received(hostname="mx.example", origin=origin, date=_DATE, recipient=None, priority=2)
    assert unfolded(field).endswith(f" id s1{clause} PRIORITY 2; {_DATE}")


def test_what_came_over_no_connection_names_neither_peer_nor_protocol() -> None:
    own = Origin(peer="", session_id="", helo="", user="reports@xx.example")
    field = received(hostname="mx.example", origin=own, date=_DATE, recipient=Address.parse("b@yy.example"), own=True)
    assert field == b"Received: by mx.example for <b@yy.example>; Mon, 23 Nov 2026 06:30:00 +0000\r\n"


@pytest.mark.parametrize(
    ("origin", "said"),
    [
        (Origin(helo="[192.0.2.9]"), "[192.0.2.9] ([192.0.2.1])"),
        (Origin(peer="2001:db8::1%eth0"), "client.example ([IPv6:2001:db8::1])"),
        (Origin(peer=""), "client.example"),
        (Origin(helo="bücher.example"), "xn--bcher-kva.example ([192.0.2.1])"),
        (Origin(helo="not_a domain"), '[192.0.2.1] ([192.0.2.1]) (HELO "not_a domain")'),
        (Origin(helo="x\r\nBcc: y"), '[192.0.2.1] ([192.0.2.1]) (HELO "x??Bcc: y")'),
        (Origin(helo="M\u00fcllers PC"), '[192.0.2.1] ([192.0.2.1]) (HELO "M<U+00FC>llers PC")'),
        (Origin(helo='a") by evil (\\', peer=""), r'unknown (HELO "a\"\) by evil \(\\")'),
        (Origin(helo="-" * 300), f'[192.0.2.1] ([192.0.2.1]) (HELO "{"-" * 255}...")'),
        (Origin(helo=""), "[192.0.2.1] ([192.0.2.1])"),
        (Origin(helo="", peer=""), "unknown"),
        (Origin(helo="", peer="/run/socket\r\n"), "unknown"),
    ],
)
def test_who_sent_it(origin: Origin, said: str) -> None:
    assert unfolded(trace(origin)) == f"Received: from {said} by mx.example with ESMTP id s1; {_DATE}"


def test_recipients_are_named_only_where_they_can_be() -> None:
    assert b"for" not in trace(Origin())
    assert b"for" not in trace(Origin(), "ü@yy.example")
    assert "for <ü@yy.example>;".encode() in trace(Origin(), "ü@yy.example", smtputf8=True)


def test_lines_are_short() -> None:
    field = trace(Origin(helo="h" * 60 + ".example"), '"' + "l o" * 15 + '"@' + "d" * 60 + ".example")
    assert max(map(len, field.split(b"\r\n"))) <= 1 + 64 + 80
    assert all(len(line) <= 78 for line in field.split(b"\r\n") if b"@" not in line and b"hhh" not in line)


@pytest.mark.parametrize(
    ("lmtp", "extended", "secure", "authenticated", "smtputf8", "keyword"),
    [
        (False, False, False, False, False, "SMTP"),
        (False, True, False, False, False, "ESMTP"),
        (False, True, True, False, False, "ESMTPS"),
        (False, True, False, True, False, "ESMTPA"),
        (False, True, True, True, False, "ESMTPSA"),
        (True, True, False, False, False, "LMTP"),
        (True, True, True, True, False, "LMTPSA"),
        (False, True, False, False, True, "UTF8SMTP"),
        (False, True, True, True, True, "UTF8SMTPSA"),
        (True, True, True, False, True, "UTF8LMTPS"),
    ],
)
def test_protocol(lmtp: bool, extended: bool, secure: bool, authenticated: bool, smtputf8: bool, keyword: str) -> None:
    assert keyword == protocol(
        lmtp=lmtp, extended=extended, secure=secure, authenticated=authenticated, smtputf8=smtputf8
    )


def test_protocol_of_a_session() -> None:
    assert b" with LMTPSA " in trace(Origin(each_recipient=True, secure=True, user="a"))
    assert b" with SMTP " in trace(Origin(extended=False))


@given(st.text(max_size=30), st.text(max_size=30), st.text(max_size=30))
@settings(deadline=None, max_examples=200)
def test_nothing_said_leaves_its_place(helo: str, peer: str, session_id: str) -> None:
    field = trace(Origin(helo=helo, peer=peer, session_id=session_id))
    assert field.isascii()
    client = r"[^\s()]+(?: \(\[[0-9A-Fa-f.:IPv]+\]\))?(?: \(HELO \"(?:[^()\\\"]|\\.)*\"\))?"
    server = rf"by mx\.example with ESMTP(?: id [\w.+=-]+)?; {re.escape(_DATE)}"
    assert re.fullmatch(f"Received: from {client} {server}", unfolded(field), re.ASCII)


def test_return_path() -> None:
    assert return_path(None) == b"Return-Path: <>\r\n"
    assert return_path(Address.parse('"a b"@x.example')) == b'Return-Path: <"a b"@x.example>\r\n'
    assert return_path(Address.parse("ü@x.example")) == "Return-Path: <ü@x.example>\r\n".encode()


def test_count_received() -> None:
    header = b"Received: 1\r\n\tReceived: folded\r\nRECEIVED : 2\r\nX-Received: 3\r\n"
    header += b"Subject: Received: 4\r\nreceived: 5\r\n\r\n"
    assert count_received(header) == 3
    assert count_received(b"") == 0
    assert count_received(trace(Origin()) * 100) == 100


def test_delivered_to() -> None:
    header = (
        b"Delivered-To: Ann@XX.example\r\nSubject: Delivered-To: x@xx.example\r\n"
        b"DELIVERED-TO :\r\n <bob@yy.example>\r\nDelivered-To: nobody\r\nX-Delivered-To: y@xx.example\r\n"
        b"Delivered-To: \xff@xx.example\r\n"
    )
    assert delivered_to(header) == {"ann@xx.example", "bob@yy.example"}
    names = ["list@xx.example", "a b@xx.example", "list@xx.example", "\u00e4@xn--bcher-kva.example"]
    fields = delivered_to_fields(names)
    assert fields.endswith(b"Delivered-To: list@xx.example\r\n")
    assert delivered_to(fields) == set(names)
    assert delivered_to_fields([]) == b""


@pytest.mark.parametrize(
    ("origin", "told"),
    [
        (Origin(), "client.example ([192.0.2.1])"),
        (Origin(helo="Client.Example"), "client.example ([192.0.2.1])"),
        (Origin(peer="2001:db8::1"), "client.example ([IPv6:2001:db8::1])"),
        (Origin(helo="a (b"), "[192.0.2.1] ([192.0.2.1])"),
        (Origin(peer="unix:/run/lmtp"), "client.example"),
        (Origin(peer="unix:/run/lmtp", helo="a b"), ""),
        (Origin(helo="x" * 60 + "." + "y" * 60 + ".example"), f"{'x' * 60}.{'y' * 60}.example ([192.0.2.1])"),
    ],
)
def test_who_sent_it_is_read_from_our_own_field_on_top(origin: Origin, told: str) -> None:
    """RFC 3464 2.2.4."""
    field = trace(origin, "b@yy.example")
    others = b"Return-Path: <>\r\n", b"Received: from evil.example ([198.51.100.1]) by mx.example with SMTP; x\r\n"
    assert received_from(others[0] + field + others[1], "MX.example") == told
    assert received_from(field, "mx.other.example") == ""


@given(st.binary(max_size=300))
def test_nobody_can_be_named_by_a_field_of_another_kind(octets: bytes) -> None:
    told = received_from(b"Received: from " + octets + b"\r\n", "mx.example")
    assert told.isascii()
    assert told.isprintable()
