"""Sequence sets: reading, `*`, normal form, positions in a UID list, and the order-keeping form for COPYUID."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mailhub.wire.imap.sets import RANGE_LIMIT, SequenceSet, compact


@pytest.mark.parametrize(
    ("octets", "maximum", "ranges"),
    [
        (b"1", 10, ((1, 1),)),
        (b"3:1", 10, ((1, 3),)),
        (b"1,2,3", 10, ((1, 3),)),
        (b"1:5,3:8,10", 10, ((1, 8), (10, 10))),
        (b"*", 7, ((7, 7),)),
        (b"5:*", 7, ((5, 7),)),
        (b"*:5", 7, ((5, 7),)),
        # RFC 3501 6.4.8: 559:* includes the last message even if it is below 559.
        (b"559:*", 7, ((7, 559),)),
        (b"2:*,9:*", 5, ((2, 9),)),
        (b"*:*,2", 7, ((2, 2), (7, 7))),
        (b"1:4294967295", 7, ((1, 4294967295),)),
        (b"*,5", 0, ((5, 5),)),
        (b"5:*", 0, ()),
    ],
)
def test_resolves(octets: bytes, maximum: int, ranges: tuple[tuple[int, int], ...]) -> None:
    assert SequenceSet.parse(octets).resolve(maximum) == ranges


@pytest.mark.parametrize(
    "octets",
    [
        b"",
        b",",
        b"1,",
        b",1",
        b"0",
        b"1:0",
        b"1:",
        b":1",
        b":",
        b"1:2:3",
        b"**",
        b"*1",
        b"-1",
        b"+1",
        b"1 ",
        b"$",
        b"1\n",
        b"a",
        b"\xb2",
    ],
)
def test_refuses(octets: bytes) -> None:
    with pytest.raises(ValueError):
        SequenceSet.parse(octets)


def test_bounds_the_number_of_elements() -> None:
    SequenceSet.parse(b",".join([b"1"] * RANGE_LIMIT))
    with pytest.raises(ValueError, match="too many"):
        SequenceSet.parse(b",".join([b"1"] * (RANGE_LIMIT + 1)))


_NUMBER = st.integers(1, 30)
_END = st.one_of(_NUMBER, st.just(0))  # 0 stands for *


@settings(deadline=None, max_examples=200)
@given(st.lists(st.tuples(_END, _END), min_size=1, max_size=6), st.sets(_NUMBER), st.integers(1, 40))
def test_means_what_a_plain_reading_means(pairs: list[tuple[int, int]], uids: set[int], maximum: int) -> None:
    octets = b",".join(b"%b:%b" % tuple(b"%d" % end if end else b"*" for end in pair) for pair in pairs)
    found = SequenceSet.parse(octets)
    wanted: set[int] = set()
    for first, last in pairs:
        ends = sorted((first or maximum, last or maximum))
        wanted |= set(range(ends[0], ends[1] + 1))
    assert {n for low, high in found.resolve(maximum) for n in range(low, high + 1)} == wanted
    if uids:
        values = sorted(uids)
        named = {n for low, high in found.resolve(values[-1]) for n in range(low, high + 1)}
        by_slices = [uid for start, stop in found.slices(values) for uid in values[start:stop]]
        assert by_slices == [uid for uid in values if uid in named]


def test_no_values_have_no_slices() -> None:
    assert SequenceSet.parse(b"1:*,5").slices([]) == []


@settings(deadline=None, max_examples=100)
@given(st.lists(_NUMBER, unique=True, max_size=20))
def test_compact_keeps_the_order(numbers: list[int]) -> None:
    read: list[int] = []
    for part in compact(numbers).split(b",") if numbers else []:
        low, _, high = part.partition(b":")
        read += range(int(low), int(high or low) + 1)
    assert read == numbers


def test_compact_joins_runs() -> None:
    assert compact([5, 1, 2, 3, 2]) == b"5,1:3,2"
