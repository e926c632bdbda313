"""Names of submissions, which are delivery ids: 16 characters made of time and randomness."""

from __future__ import annotations

from hashlib import sha256
from random import Random

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"  # without i, l, o, u: nothing is misread from a log
_PAIRS = [first + second for first in _ALPHABET for second in _ALPHABET]
_DIGITS = 16
_USUAL = str.maketrans(_ALPHABET, "0123456789abcdefghijklmnopqrstuv")  # as int() knows digits
_HALF_BITS = 40
_HALF = (1 << _HALF_BITS) - 1
_RANDOM_BITS = 45
_STEP = 1 << 16  # the least that two ids of one process differ by: what numbers leave out is less

_STEPS = 512  # octets of randomness that are drawn at once, two for each step: a system call costs as much as the rest

# A number has 33 bits of seconds (until 2242), 29 that are random, and one that says whether it may come again.
_NUMBER_SECONDS = (1 << 33) - 1
_NUMBER_BITS = 30  # with that one

SECOND_BITS = _NUMBER_BITS  # of a number, behind its second
SECOND_DIGITS = _DIGITS - _RANDOM_BITS // 5  # of an id, which are its second

MOST = (1 << 63) - 1  # no number is more


class DeliveryIds:
    """Sort by time (seconds since the epoch), and those of one process and second in the order they were made: so that
    the numbers made of them come to the end of their table. 45 random bits tell those of several processes apart."""

    def __init__(self, random: Random) -> None:
        self._random = random
        self._last = 0
        self._steps = b""
        self._high = 0  # the first half of the last one, and its digits
        self._beginning = ""

    def next(self, now: int) -> tuple[str, int]:
        """One that this process has not made yet, with its number."""
        value = self._next(now)
        high = value >> _HALF_BITS
        if high != self._high:  # mostly that of the one before
            self._high, self._beginning = high, _digits(high)
        return self._beginning + _digits(value & _HALF), _number(value)

    def number(self, now: int) -> int:
        """The number of the next one."""
        return _number(self._next(now))

    def _next(self, now: int) -> int:
        if now == self._last >> _RANDOM_BITS:
            if not self._steps:
                self._steps = self._random.randbytes(_STEPS)
            step, self._steps = self._steps[:2], self._steps[2:]
            self._last += _STEP * (1 + (int.from_bytes(step) & 511))
        else:
            self._last = now << _RANDOM_BITS | self._random.getrandbits(_RANDOM_BITS - 1)
        return self._last


def derived(text: str, number: int) -> str:
    """The same for the same text and number, and no other's. A text that begins with an id keeps its time."""
    try:
        time = int(text[:_DIGITS].translate(_USUAL), 32) >> _RANDOM_BITS << _RANDOM_BITS
    except ValueError:
        time = 1 << 30 + _RANDOM_BITS
    digest = sha256(f"{text} {number}".encode()).digest()
    return _text(time | int.from_bytes(digest, "big") & (1 << _RANDOM_BITS) - 1)


def number_of(delivery_id: str, *, again: bool = False) -> int:
    """The 63 bits that stand for it; with `again`, of one that may come again. Raises ValueError."""
    if len(delivery_id) != _DIGITS or not set(delivery_id) <= set(_ALPHABET):
        raise ValueError(f"not a delivery id: {delivery_id!r}")
    return _number(int(delivery_id.translate(_USUAL), 32)) | again


def first_number(now: int) -> int:
    """No number of an id that was made at this time, or later, is less."""
    return _number(now << _RANDOM_BITS)


def seconds_of(number: int) -> int:
    """When the id of a number was made, in seconds since the epoch."""
    return number >> _NUMBER_BITS


def first_id(now: int) -> str:
    """No id that was made at this time, or later, comes before it."""
    return _text(now << _RANDOM_BITS)


def comes_again(number: int) -> bool:
    """Whether it stands for an id that may come again."""
    return number > _NUMBER_SECONDS and bool(number & 1)


def _text(value: int) -> str:
    return _digits(value >> _HALF_BITS) + _digits(value & _HALF)


def _digits(value: int) -> str:
    """Those of one half."""
    pairs = _PAIRS
    return f"{pairs[value >> 30]}{pairs[value >> 20 & 1023]}{pairs[value >> 10 & 1023]}{pairs[value & 1023]}"


def _number(value: int) -> int:
    return value >> _RANDOM_BITS - _NUMBER_BITS & MOST - 1
