"""What is kept of a message."""

from __future__ import annotations

import email
from email.utils import parsedate_to_datetime

import pytest
from hypothesis import given, settings

from mailhub.message import mime
from mailhub.message.digest import USUAL_FIELDS, digest
from mailhub.message.header import Header, header_end, select
from mailhub.message.preview import PREVIEW_LIMIT, preview
from mailhub.message.structure import bodystructure, envelope
from mailhub.testing.corpus import corpus
from tests.message.test_mime import MESSAGES

_MESSAGE = (
    b"Received: from x\r\nFrom: =?utf-8?q?J=C3=B6rg?= <j@xx.example>, b@yy.example\r\nX-Other: 1\r\nTo: a@b\r\n"
    b"Subject: Re:\r\n =?utf-8?q?Gr=C3=BC=C3=9Fe?=\r\nDate: Mon, 23 Nov 2026 06:30:00 +0000\r\n"
    b"Message-ID: (c) <1@xx.example> x\r\nto: c@d\r\n\r\nHello,\r\n\r\n  this is   the text.\r\n"
)


def test_digest() -> None:
    found = digest(_MESSAGE)
    assert found.size == len(_MESSAGE)
    assert _MESSAGE[found.header_size :].startswith(b"Hello")
    assert found.fields == select(_MESSAGE[: found.header_size], USUAL_FIELDS)[:-2]
    assert found.fields.count(b"\n") == 7
    assert b"X-Other" not in found.fields
    assert found.sent == 1795415400
    assert found.subject == "Re: Grüße"
    assert found.sender == "j@xx.example"
    assert found.message_id == "<1@xx.example>"
    assert found.preview == "Hello, this is the text."
    scan = mime.scan(_MESSAGE)
    assert mime.decode(found.parts) == scan.tree
    assert (found.envelope, found.bodystructure) == (envelope(Header(_MESSAGE)), bodystructure(scan))


def test_a_message_without_anything() -> None:
    found = digest(b"")
    assert (found.size, found.header_size, found.sent, found.fields) == (0, 0, 0, b"")
    assert (found.subject, found.sender, found.message_id, found.preview) == ("", "", "", "")


def test_texts_are_bounded_and_can_be_shown() -> None:
    message = (
        b"Subject: a\0b=?utf-8?q?=0D=0A=00=1B?=" + b"c" * 5000 + b"\r\nFrom: <" + b"d" * 5000 + b"@e>\r\n"
        + b"Message-ID: \x07" + b"f" * 5000 + b"\r\n\r\n\x1b[31m" + b"g" * 5000
    )  # fmt: skip
    found = digest(message)
    assert found.sender == found.message_id == ""  # a part of one would be another
    for shown, limit in ((found.subject, 1000), (found.preview, PREVIEW_LIMIT)):
        assert shown.isprintable()
        assert limit - 10 < len(shown) <= limit


def test_the_corpus_against_the_standard_library() -> None:
    dated = 0
    for message in corpus(15, 84):
        found = digest(message)
        assert found.header_size == header_end(message, 0, len(message))
        theirs = email.message_from_bytes(message)
        if theirs.defects:
            continue
        assert found.message_id == (theirs["Message-ID"] or "")
        if theirs["Date"]:
            dated += 1
            assert found.sent == parsedate_to_datetime(theirs["Date"]).timestamp()
    assert dated > 40


@given(MESSAGES)
@settings(deadline=None, max_examples=200)
def test_anything_has_a_digest(message: bytes) -> None:
    found = digest(message)
    assert len(found.preview) <= PREVIEW_LIMIT
    assert found.preview.isprintable()


@pytest.mark.parametrize(
    ("kind", "body", "words"),
    [
        ("text/plain", "one\r\n\r\n two", "one two"),
        ("text/plain", "> quoted\r\n>> more\r\nanswer", "answer"),
        ("text/plain", "> quoted only", "> quoted only"),
        ("text/plain", "> quoted\r\n" * 500 + "answer", "answer"),
        ("text/plain", "", ""),
        ("text/plain", "\r\n" * 400 + "late", "late"),
        ("text/html", "<html><head><title>t</title><style>p{}</style></head><p>A &amp; B<br>C", "A & B C"),
        ("text/html", "<script>if (a < b) {}</script><!-- > --><p>x", "x"),
        ("text/html", "<style>never closed <p>x", ""),
        ("text/html", "a < b and c", "a < b and c"),
        ("text/html", "zero\u200bwidth\u00adhere", "zerowidthhere"),
        ("image/png", "octets", ""),
    ],
)
def test_preview(kind: str, body: str, words: str) -> None:
    message = f"Content-Type: {kind}; charset=utf-8\r\n\r\n{body}".encode()
    assert preview(message, mime.scan(message).tree) == words


@pytest.mark.parametrize("space", [1, 55, 56, 57, 200, 256, 300])
def test_preview_of_words_behind_much_white_space(space: int) -> None:
    for words in (["ab"] * 66, ["abcdefghi"] * 12):
        body = (" " * space).join(words)[:512].encode()
        message = b"Subject: x\r\n\r\n" + body
        expected = " ".join(body.decode().split())[:PREVIEW_LIMIT].rstrip()
        assert preview(message, mime.scan(message).tree) == expected


def test_preview_takes_plain_text_before_html_and_cuts_no_character() -> None:
    message = (
        "Content-Type: multipart/alternative; boundary=b\r\n\r\n--b\r\nContent-Type: text/html\r\n\r\n"
        "<p>html\r\n--b\r\nContent-Type: text/plain; charset=utf-8\r\n\r\nx" + "€" * 300 + "\r\n--b--\r\n"
    ).encode()
    assert preview(message, mime.scan(message).tree) == "x" + "€" * 170
