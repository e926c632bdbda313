"""Decoding for SEARCH: any cut gives the same text, mistakes are survived, nothing large is held."""

from __future__ import annotations

import base64
import quopri
from collections.abc import Callable
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mailhub.message import text
from mailhub.message.mime import scan
from mailhub.message.text import TextDecoder, body_text, contains, field_contains, fold, part_text
from mailhub.testing.corpus import corpus


def decoded(octets: bytes, encoding: str, charset: str = "utf-8", *cuts: int) -> str:
    decoder = TextDecoder(encoding, charset)
    edges = [0, *sorted(cuts), len(octets)]
    pieces = [decoder.feed(octets[start:end]) for start, end in pairwise(edges)]
    return "".join(pieces) + decoder.finish()


@pytest.mark.parametrize(
    ("octets", "encoding", "charset", "expected"),
    [
        (b"gr\xc3\xbcn", "8bit", "utf-8", "grün"),
        (b"gr\xfcn", "8bit", "iso-8859-1", "grün"),
        (b"gr\xfcn", "x-unknown", "none", "grün"),
        (b"gr=C3=BCn =\r\nx=", "quoted-printable", "utf-8", "grün x"),
        (b"a=ZZb = c", "quoted-printable", "utf-8", "a=ZZb = c"),
        (b"Z3LDvG4=", "base64", "utf-8", "grün"),
        (b"Z3\r\nLD!vG4", "base64", "utf-8", "grün"),
        (b"Z3LDvG4=\r\n-- \r\nfooter", "base64", "utf-8", "grün"),
        (b"Z", "base64", "utf-8", ""),
        (b"", "base64", "utf-8", ""),
    ],
)
def test_transfer_encodings(octets: bytes, encoding: str, charset: str, expected: str) -> None:
    assert decoded(octets, encoding, charset) == expected


_ENCODERS: dict[str, Callable[[bytes], bytes]] = {
    "base64": base64.encodebytes,
    "quoted-printable": quopri.encodestring,
    "8bit": bytes,
}


@given(st.text(max_size=60), st.sampled_from(sorted(_ENCODERS)), st.lists(st.integers(0, 200), max_size=5))
@settings(deadline=None, max_examples=200)
def test_any_cut_gives_the_text(words: str, encoding: str, cuts: list[int]) -> None:
    words = words.replace("\r", "")
    octets = _ENCODERS[encoding](words.encode())
    assert decoded(octets, encoding, "utf-8", *[min(cut, len(octets)) for cut in cuts]) == words


@given(
    st.binary(max_size=60), st.sampled_from(["base64", "quoted-printable"]), st.lists(st.integers(0, 60), max_size=4)
)
@settings(deadline=None, max_examples=200)
def test_any_octets_give_the_same_text_however_they_are_cut(octets: bytes, encoding: str, cuts: list[int]) -> None:
    cut = decoded(octets, encoding, "koi8-r", *[min(cut, len(octets)) for cut in cuts])
    assert cut == decoded(octets, encoding, "koi8-r")


def test_lines_without_end_are_not_held_back() -> None:
    decoder = TextDecoder("quoted-printable", "us-ascii")
    given_back = sum(len(decoder.feed(b"x=41" * 1000)) for _ in range(100))
    assert given_back >= 2 * 100_000 - text._LONG_LINE
    assert given_back + len(decoder.finish()) == 2 * 100_000


def test_part_text_over_several_blocks() -> None:
    words = "wörter und mehr wörter\n" * 10_000
    message = b"Content-Transfer-Encoding: base64\r\n\r\n" + base64.encodebytes(words.encode())
    (part,) = scan(message).tree
    assert len(message) > 3 * text.BLOCK
    assert "".join(part_text(message, part)) == words


@pytest.mark.parametrize(
    ("one", "other"),
    [("ABC", "abc"), ("STRASSE", "straße"), ("e\u0301", "É"), ("ﬁn", "FIN"), ("ΑΘΉΝΑΣ", "Αθήνας"), ("", "")],
)
def test_fold(one: str, other: str) -> None:
    assert fold(one) == fold(other)
    assert fold(fold(one)) == fold(one)


_MESSAGE = (
    b"Subject: =?utf-8?q?Gr=C3=BC=C3=9Fe?= an\r\n alle\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n"
    b"Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\nStra=C3=9Fen=\r\n"
    b"bahn\r\n--b\r\nContent-Type: message/rfc822\r\n\r\nSubject: inner secret\r\n\r\nnested text\r\n--b\r\n"
    b"Content-Type: application/pdf; name=attached.pdf\r\n\r\nbinary words\r\n--b--\r\n"
)


@pytest.mark.parametrize(
    ("needle", "in_text", "in_body"),
    [
        ("strassenbahn", True, True),
        ("GRÜSSE AN ALLE", True, False),
        ("subject: grüße", True, False),
        ("inner SECRET", True, True),
        ("nested text", True, True),
        ("attached.pdf", True, True),
        ("binary words", False, False),
        ("absent", False, False),
        ("", True, True),
    ],
)
def test_contains(needle: str, in_text: bool, in_body: bool) -> None:
    tree = scan(_MESSAGE).tree
    assert contains(_MESSAGE, tree, needle, header=True) is in_text
    assert contains(_MESSAGE, tree, needle, header=False) is in_body


def test_a_needle_across_blocks_is_found() -> None:
    for offset in range(-6, 3):
        message = b"\r\n" + b"x" * (text.BLOCK + offset) + b"needle" + b"y" * 100
        assert contains(message, scan(message).tree, "NEEDLE", header=False)


def test_field_contains() -> None:
    assert field_contains(b"=?utf-8?q?J=C3=B6rg?= <J@xx.example>", "jörg")
    assert field_contains(b"=?utf-8?q?J=C3=B6rg?= <J@xx.example>", "j@XX")
    assert field_contains(b"=?utf-8?q?J=C3=B6rg?= <J@xx.example>", "j=c3=b6rg")
    assert not field_contains(b"a@b", "c")


def test_body_text_is_bounded() -> None:
    message = b"\r\n" + b"word " * 100_000
    assert sum(map(len, body_text(message, scan(message).tree, 1000))) == 1000
    assert "".join(body_text(_MESSAGE, scan(_MESSAGE).tree, 10_000)) == "Straßenbahnnested text"


def test_the_corpus_can_be_searched() -> None:
    for message in corpus(14, 42):
        assert not contains(message, scan(message).tree, "\ue000 never there", header=True)
