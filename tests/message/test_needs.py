"""The scan for what a message needs: each thing it notes, and that no way to cut the octets changes it."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mailhub.message.header import fields_end
from mailhub.message.needs import (
    BINARY,
    BODY_8BIT,
    HEADER_8BIT,
    HEADER_LIMIT,
    HEADER_UTF8,
    LONG_LINE,
    NUL,
    Needs,
    NeedsScanner,
    needs_of,
)

_UTF8 = "Grüße".encode()
_LATIN = "Grüße".encode("latin-1")


@pytest.mark.parametrize(
    ("octets", "bits"),
    [
        (b"", 0),
        (b"Subject: x\r\n\r\nplain\r\n", 0),
        (b"Subject: " + _UTF8 + b"\r\n\r\nplain\r\n", HEADER_UTF8),
        (b"Subject: " + _UTF8 + b"\r\n", HEADER_UTF8),
        (b"Subject: " + _UTF8, HEADER_UTF8),
        (b"Subject: " + _LATIN + b"\r\n\r\nplain\r\n", HEADER_8BIT),
        # One field in UTF-8 does not make UTF-8 of the header.
        (b"Subject: " + _LATIN + b"\r\nFrom: " + _UTF8 + b"\r\n\r\n", HEADER_8BIT),
        (b"Subject: x\r\n\r\n" + _UTF8, BODY_8BIT),
        (b"Subject: x\r\n\r\n" + _LATIN, BODY_8BIT),
        (b"Subject: " + _UTF8 + b"\n\n" + _LATIN, HEADER_UTF8 | BODY_8BIT),
        # No empty line: the header ends with the first line that is no field.
        (b"Subject: x\r\n" + _UTF8 + b"\r\n", BODY_8BIT),
        (_UTF8, BODY_8BIT),
        (b"\r\n" + _UTF8, BODY_8BIT),
        (b"\xef\xbb\xbfSubject: x\r\n\r\n", HEADER_UTF8),
        # The header of a part is not the message's.
        (b"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nX: " + _UTF8 + b"\r\n\r\n--b--\r\n", BODY_8BIT),
        (b"Subject: x\r\n\r\na\0b", NUL),
        (b"Subject: a\0b\r\n\r\n", NUL),
        (b"X: " + b"x" * 995 + b"\r\n\r\n", 0),
        (b"X: " + b"x" * 996 + b"\r\n\r\n", LONG_LINE),
        (b"X: y\r\n\r\n" + b"x" * 998 + b"\r\n", 0),
        (b"X: y\r\n\r\n" + b"x" * 998, 0),
        (b"X: y\r\n\r\n" + b"x" * 998 + b"\n", 0),
        (b"X: y\r\n\r\n" + b"x" * 999, LONG_LINE),
        (b"X: y\r\n\r\n" + b"x" * 999 + b"\n", LONG_LINE),
        (b"X: y\r\n\r\n" + b"x" * 999 + b"\r\n", LONG_LINE),
        (b"X: y\r\n\r\n" + b"x" * 998 + b"\r", 0),
        (b"X: y\r\n\r\n" + b"x" * 998 + b"\r\r\n", LONG_LINE),
        (b"X: y\r\n\r\n" + b"x\n" * 3000, 0),
    ],
)
def test_each_thing_is_noted_where_it_is(octets: bytes, bits: int) -> None:
    assert needs_of(octets) == Needs(bits)
    scanner = NeedsScanner()
    for each in octets:
        scanner.feed(bytes((each,)))
    assert scanner.finish() == Needs(bits)


def test_what_follows_from_the_bits() -> None:
    assert Needs(HEADER_UTF8).smtputf8
    assert not Needs(HEADER_8BIT | BODY_8BIT).smtputf8
    assert all(Needs(bit).eight_bit for bit in (HEADER_8BIT, HEADER_UTF8, BODY_8BIT))
    assert not Needs(LONG_LINE | NUL).eight_bit
    assert all(Needs(bit).binary for bit in (LONG_LINE, NUL, BINARY))
    assert not Needs(HEADER_8BIT | BODY_8BIT | HEADER_UTF8).binary


def _plainly(octets: bytes) -> Needs:
    """The same without cunning."""
    end = fields_end(octets, 0, len(octets))
    header, body = octets[:end], octets[end:]
    bits = 0
    if any(each > 127 for each in header):
        bits |= HEADER_8BIT if "\ufffd" in header.decode("utf-8", "replace") else HEADER_UTF8
    if any(each > 127 for each in body):
        bits |= BODY_8BIT
    if any(len(line.removesuffix(b"\r")) > 998 for line in octets.split(b"\n")):
        bits |= LONG_LINE
    if 0 in octets:
        bits |= NUL
    return Needs(bits)


_WORDS = [b"\r\n", b"\n", b"\r", b"a", b"Subject: x", b"\r\n\r\n", b" ", "ü".encode(), b"\xff", b"\0", b":"]
_WORDS += [b"x" * each for each in (400, 997, 998, 999, 1000, 1001, 2500)]


@settings(deadline=None)
@given(st.lists(st.sampled_from(_WORDS), max_size=20).map(b"".join), st.randoms(use_true_random=False))
def test_it_finds_what_a_plain_look_finds_however_the_octets_are_cut(octets: bytes, random: Random) -> None:
    scanner = NeedsScanner()
    position = 0
    while position < len(octets):
        size = random.choice([1, 2, 3, 900, 1000, 1100])
        scanner.feed(octets[position : position + size])
        position += size
    assert scanner.finish() == needs_of(octets) == _plainly(octets)


@pytest.mark.parametrize("size", [1, 1000, 65536, HEADER_LIMIT, HEADER_LIMIT + 5])
@pytest.mark.parametrize("first", [0, 1, 2, 3])
def test_a_header_without_end_is_held_up_to_a_limit(size: int, first: int) -> None:
    """Also where the limit cuts a character in two."""
    octets = b"X: " + b"x" * first + b" " + "ü \r\n ".encode() * (HEADER_LIMIT // 5)
    scanner = NeedsScanner()
    for start in range(0, len(octets), size):
        scanner.feed(octets[start : start + size])
    assert scanner.finish() == Needs(HEADER_UTF8 | BODY_8BIT)
