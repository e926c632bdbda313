"""Reports on one message: what of its header is told, and what is not."""

from __future__ import annotations

import email

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailhub.message.dmarc_failure import FailedSignature, Failure, failure_message, redacted
from mailhub.message.reporting import Sender

SENDER = Sender("mx.xx.example", "XX", "postmaster@mx.xx.example")


@pytest.mark.parametrize(
    ("field", "told"),
    [
        (b"Received: by b for <ann@xx.example>; x\r\n", "Received: by b for <redacted@xx.example>; x"),
        (b'Received: by b for "ann b"@xx.example\r\n', 'Received: by b for "redacted"redacted@xx.example'),
        (b"DKIM-Signature: v=1; i=ann@yy.example; b=a\r\n", "DKIM-Signature: v=1; i=redacted@yy.example; b=a"),
        (b"Message-ID: <1@yy.example>\r\n", "Message-ID: <1@yy.example>"),
        (b"Date: Mon, 1 Jan 2024 00:00:00 +0000\r\n", "Date: Mon, 1 Jan 2024 00:00:00 +0000"),
        (b"Received: a@b@c\r\n\tby \xc3\xa4\r\n", "Received: redacted@c\n by ?"),
        (b"Subject: secret\r\n", ""),
        (b"To: ann@xx.example\r\n", ""),
        (b"X-Secret: ann\r\n", ""),
    ],
)
def test_what_is_told_of_a_header(field: bytes, told: str) -> None:
    assert redacted(field, "yy.example") == ["From: <redacted@yy.example>", *told.splitlines()]


@given(st.binary(max_size=200))
def test_no_field_of_another_one_is_made(octets: bytes) -> None:
    lines = redacted(b"Received: " + octets.replace(b"\n", b"\n ") + b"\r\n", "yy.example")
    assert all(line.isascii() and line.isprintable() for line in lines)
    assert not any("ann@" in line for line in redacted(b"Received: ann@" + octets, "yy.example"))


def test_a_long_hostile_header_is_cheap_and_short() -> None:
    field = b"Received: " + b'"\\' * 500_000 + b"\r\n"
    assert redacted(field, "yy.example") == ["From: <redacted@yy.example>"]
    many = b"".join(b"Received: " + b'"a' * 500 + b"\r\n" for _ in range(1000))
    assert sum(map(len, redacted(many, "yy.example"))) < 40_000


def test_all_that_is_told() -> None:
    failure = Failure(
        "yy.example",
        "10.8.8.8",
        "zz.example",
        1704067200,
        ("dkim",),
        ['dmarc=fail reason="a\r\nb" header.from=yy.example', "spf=pass"],
        "delivered",
        b"",
        FailedSignature("yy.example", "ann@yy.example", "s1"),
        ("yy.example", 'v=spf1 exp="\\'),
    )
    octets = failure_message(SENDER, "a@yy.example", failure, "mailhub/1", "0123", 1704067200)
    message = email.message_from_bytes(octets)
    _, text, told, fields, header = message.walk()
    assert "from 10.8.8.8 on Mon, 1 Jan 2024 00:00:00 +0000" in str(text.get_payload())
    assert told.get_content_type() == "message/feedback-report"
    assert fields["Authentication-Results"].replace("\r", "").replace("\n", "") == (
        'mx.xx.example; dmarc=fail reason="a?b" header.from=yy.example; spf=pass'
    )
    assert (fields["DKIM-Domain"], fields["DKIM-Identity"], fields["DKIM-Selector"]) == (
        "yy.example",
        "@yy.example",
        "s1",
    )
    assert fields["SPF-DNS"].replace("\r", "").replace("\n", "") == 'txt : yy.example : "v=spf1 exp=\\"\\\\"'
    assert str(header.get_payload()).strip() == "From: <redacted@yy.example>"
