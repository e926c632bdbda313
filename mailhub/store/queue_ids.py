"""Names of messages in the queue."""

from __future__ import annotations

from random import Random

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"  # without i, l, o, u: nothing is misread from a log
_TIME_DIGITS = 7
_RANDOM_DIGITS = 9


def new_id(now: int, random: Random) -> str:
    """16 characters that sort by time (seconds since the epoch); 45 random bits tell those of one second apart."""
    return _digits(now, _TIME_DIGITS) + _digits(random.getrandbits(5 * _RANDOM_DIGITS), _RANDOM_DIGITS)


def _digits(number: int, count: int) -> str:
    return "".join([_ALPHABET[number >> 5 * place & 31] for place in reversed(range(count))])
