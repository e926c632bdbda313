"""Accounts that were there a moment ago: so that what RCPT asks seldom costs a thread.

Only good news is kept, for a second, and the commit asks again in its transaction: what is out of date here can delay
a refusal to the end of the data, but refuse nothing.
"""

from __future__ import annotations

from typing import NamedTuple

from twisted.internet.interfaces import IReactorTime

FRESH_SECONDS = 1.0
SIZE = 10_000  # accounts


class _Known(NamedTuple):
    free: int | None
    read_at: float


class KnownAccounts:
    """Bounded: the ones read first are forgotten first. `drops` tells whether a read that was under way is of use."""

    def __init__(self, clock: IReactorTime, size: int = SIZE) -> None:
        self._clock = clock
        self._size = size
        self._known: dict[str, _Known] = {}
        self.drops = 0

    def has(self, user: str) -> bool:
        """Whether the account was there within the last second."""
        known = self._known.get(user)
        return known is not None and 0 <= self._clock.seconds() - known.read_at < FRESH_SECONDS

    def fits(self, user: str, size: int) -> bool:
        """Whether it was there and had room for `size` octets."""
        known = self._known.get(user)
        return (
            known is not None
            and (known.free is None or size <= known.free)
            and 0 <= self._clock.seconds() - known.read_at < FRESH_SECONDS
        )

    def put(self, user: str, free: int | None, read_at: float) -> None:
        """Keep what was found by a read that began at `read_at`: octets left, None without a quota."""
        self._known.pop(user, None)
        if len(self._known) >= self._size:
            del self._known[next(iter(self._known))]
        self._known[user] = _Known(free, read_at)

    def drop(self) -> None:
        """An account was removed, or may have been: forget all."""
        self._known.clear()
        self.drops += 1
