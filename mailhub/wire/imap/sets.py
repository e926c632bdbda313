"""Sequence sets (RFC 3501 9): message sequence numbers or unique identifiers, `*` being the largest one in use."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence

import attrs

from mailhub.wire.imap.tokens import bounded

MAXIMUM = 2**32 - 1
# Enough for every client seen (the longest ones list single UIDs within a line of 64 KiB), and bounded all the same.
RANGE_LIMIT = 20_000

Ranges = tuple[tuple[int, int], ...]


@attrs.frozen
class SequenceSet:
    """A set of numbers that may speak of `*`.

    `ranges` are the parts without `*`: inclusive, ascending, neither overlapping nor adjacent. `star` is true if `*`
    stands anywhere; `star_ends` are the smallest and the largest number paired with `*` (`5:*`), or nothing.
    """

    ranges: Ranges = ()
    star: bool = False
    star_ends: tuple[int, ...] = ()

    @classmethod
    def parse(cls, octets: bytes, *, limit: int = RANGE_LIMIT) -> SequenceSet:
        """Read `1,3:5,7:*`. Raises ValueError, also for more than `limit` elements."""
        if octets.count(b",") >= limit:
            raise ValueError("too many elements in a sequence set")
        fixed: list[tuple[int, int]] = []
        ends: list[int] = []
        star = False
        for element in octets.split(b","):
            first, colon, last = element.partition(b":")
            if first == b"*" or last == b"*":
                star = True
                ends += [_number(end) for end in (first, last) if end != b"*" and (colon or end)]
            else:
                low = _number(first)
                high = _number(last) if colon else low
                fixed.append((low, high) if low <= high else (high, low))
        return cls(merge(fixed), star, tuple(sorted({min(ends), max(ends)})) if ends else ())

    def resolve(self, maximum: int) -> Ranges:
        """The normalised ranges when `*` is `maximum`. They may reach beyond it: `5:*` of 3 messages is 3:5.

        With `maximum` 0 (an empty mailbox) everything that speaks of `*` is empty.
        """
        if not self.star or not maximum:
            return self.ranges
        return merge([*self.ranges, (min((maximum, *self.star_ends)), max((maximum, *self.star_ends)))])

    def slices(self, values: Sequence[int]) -> list[tuple[int, int]]:
        """Where the set's numbers stand in ascending `values` (a mailbox's UIDs): half-open index ranges, ascending."""
        found = []
        for low, high in self.resolve(values[-1] if values else 0):
            start, stop = bisect_left(values, low), bisect_right(values, high)
            if start < stop:
                found.append((start, stop))
        return found


def merge(ranges: Iterable[tuple[int, int]]) -> Ranges:
    """Sort inclusive ranges and join those that overlap or touch."""
    merged: list[tuple[int, int]] = []
    for low, high in sorted(ranges):
        if merged and low <= merged[-1][1] + 1:
            if high > merged[-1][1]:
                merged[-1] = (merged[-1][0], high)
        else:
            merged.append((low, high))
    return tuple(merged)


def compact(numbers: Iterable[int]) -> bytes:
    """Write numbers in their given order, runs of successive ones as ranges.

    For COPYUID, where the order says which copy belongs to which message (RFC 4315 3).
    """
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return b",".join(b"%d" % low if low == high else b"%d:%d" % (low, high) for low, high in runs)


def _number(octets: bytes) -> int:
    """A `nz-number`. What is larger than any number there can be means the largest, which no message has."""
    if not octets.isdigit() or not (number := bounded(octets, MAXIMUM)):
        raise ValueError("not a valid number in a sequence set")
    return number
