"""No line over 998 octets, however the octets are cut, and nothing lost but the line."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mailhub.message.header import Header
from mailhub.message.long_lines import LINE_LIMIT, LineWrapper


def wrapped(octets: bytes, *cuts: int) -> bytes:
    wrapper = LineWrapper()
    edges = [0, *sorted(cuts), len(octets)]
    return b"".join([wrapper.feed(octets[start:end]) for start, end in pairwise(edges)]) + wrapper.finish()


@pytest.mark.parametrize(
    "octets",
    [
        b"",
        b"a\r\n",
        b"x" * 998 + b"\r\n",
        (b"x" * 998 + b"\r\n") * 3,
        b"x" * 998,
        b"\r\n" * 2000,
        b"x" * 500 + b"\n" + b"y" * 998,
    ],
)
def test_lines_within_the_limit_stay(octets: bytes) -> None:
    assert wrapped(octets) == octets


def test_a_header_is_folded_at_white_space() -> None:
    value = b" ".join(b"<%d@xx.example>" % number for number in range(500))
    octets = wrapped(b"References: " + value + b"\r\n\r\n")
    assert max(map(len, octets.split(b"\r\n"))) <= LINE_LIMIT
    assert Header(octets).first(b"references") == value


def test_characters_are_not_cut_in_two() -> None:
    for offset in range(4):
        octets = wrapped(b"x" * offset + "\u20ac\U0001f600".encode() * 1000)
        assert octets.decode().replace("\r\n ", "") == "x" * offset + "\u20ac\U0001f600" * 1000


_LINES = st.lists(
    st.builds(
        lambda word, times, end: word * times + end,
        st.sampled_from([b"x", b"ab ", b"\xc3\xbc", b"\t", b"."]),
        st.integers(0, 2500),
        st.sampled_from([b"\r\n", b"\n", b""]),
    ),
    max_size=6,
).map(b"".join)


@given(_LINES, st.lists(st.integers(0, 12000), max_size=5))
@settings(deadline=None, max_examples=200)
def test_any_cut_gives_the_same(octets: bytes, cuts: list[int]) -> None:
    once = wrapped(octets)
    assert wrapped(octets, *[min(cut, len(octets)) for cut in cuts]) == once
    assert max(len(line.rstrip(b"\r")) for line in once.split(b"\n")) <= LINE_LIMIT + 1
    assert once.translate(None, b" \r\n") == octets.translate(None, b" \r\n")
    assert wrapped(once) == once


@pytest.mark.parametrize("space", [b" ", b"x"])
def test_a_last_line_without_an_end_is_broken_too(space: bytes) -> None:
    octets = b"y" * 900 + space + b"z" * 98
    once = wrapped(octets)
    assert max(map(len, once.split(b"\r\n"))) <= LINE_LIMIT
    assert once.translate(None, b" \r\n") == octets.translate(None, b" ")
    wrapper = LineWrapper()
    assert wrapper.feed(octets) + wrapper.finish() == once
    assert (wrapper.wrapped, wrapper.torn) == (True, space != b" ")
