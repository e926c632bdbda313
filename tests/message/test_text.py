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
from mailhub.message.text import TextDecoder, fold


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
        (b"Z3LDvG5l\r\n-- \r\nfooter", "base64", "utf-8", "grüne"),
        (b"Z3LDvG5l\r\n\r\n____________\r\nMailing list\r\nx=\r\n", "base64", "utf-8", "grüne"),
        (b"\x1b$B%F%9%H\x1b(B", "7bit", "us-ascii", "テスト"),
        (b"SGFsbG8=!!garbage", "base64", "utf-8", "Hallo"),
        (b"a=ZZb=3", "quoted-printable", "none", "a=ZZb=3"),
        (b"Z", "base64", "utf-8", ""),
        (b"", "base64", "utf-8", ""),
        (b"Z3LDvG4=IHg=\r\nIHk=IHo=\r\n", "base64", "utf-8", "grün x y z"),
        (b"Z3LDvG4=\r\nIGFiYyBh\r\nYmMg\r\nYWI=\r\n-- \r\nlist\r\n", "base64", "utf-8", "grün abc abc ab"),
        (b"Z3LDvG4=\r\nthis is a list\r\nIHg=", "base64", "utf-8", "grün"),
        (b"Z3LDvG4=\r\n\r\nMailing\r\n", "base64", "utf-8", "grün"),
        (b"jum= \r\nped =\t \nover= ", "quoted-printable", "utf-8", "jumped over"),
        (b"gr=c3=bcn  \t\r\nx \t", "quoted-printable", "utf-8", "grün\r\nx"),
    ],
)
def test_transfer_encodings(octets: bytes, encoding: str, charset: str, expected: str) -> None:
    assert decoded(octets, encoding, charset) == expected


@pytest.mark.parametrize("cut", range(1, 16))
def test_a_footer_is_found_wherever_it_is_cut(cut: int) -> None:
    assert decoded(b"Z3LDvG5l\r\n-- \r\nlist", "base64", "utf-8", cut) == "grüne"


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


@pytest.mark.parametrize(
    ("one", "other"),
    [("ABC", "abc"), ("STRASSE", "straße"), ("e\u0301", "É"), ("ﬁn", "FIN"), ("ΑΘΉΝΑΣ", "Αθήνας"), ("", "")],
)
def test_fold(one: str, other: str) -> None:
    assert fold(one) == fold(other)
    assert fold(fold(one)) == fold(one)


def test_base64_in_blocks_without_a_line_end_is_not_held_back() -> None:
    block = base64.b64encode(b"x" * 10)  # it ends with padding
    octets = block * 5000
    decoder = TextDecoder("base64", "utf-8")
    assert decoder.feed(octets) + decoder.feed(octets) + decoder.finish() == "x" * 100_000
    assert decoded(octets, "base64", "utf-8", 1, 7001, 40_003) == "x" * 50_000
