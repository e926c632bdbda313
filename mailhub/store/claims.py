"""Which rows of the queue are worked on, where one process alone serves a database."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from twisted.internet.defer import DeferredLock

from mailhub.interfaces import Claim, QueuedMessage


class Claims:
    """Claimed rows by number, in memory: with the process that works on them all are free again.

    `taking` is held from the look at the rows to `take`: what somebody else has claimed and settled in between would be
    found once more. Fences go on from `first`.
    """

    def __init__(self, first: int) -> None:
        self._fence = first
        self._fences: dict[int, int] = {}
        self.taking = DeferredLock()

    def __contains__(self, row: object) -> bool:
        return row in self._fences

    @property
    def rows(self) -> frozenset[int]:
        """All that are claimed."""
        return frozenset(self._fences)

    def take(self, found: Sequence[tuple[str, QueuedMessage]]) -> list[Claim]:
        """Claim the rows of these messages, for these destinations."""
        claims = []
        for destination, message in found:
            self._fence += 1
            self._fences.update((row.id, self._fence) for row in message.recipients)
            claims.append(Claim(destination, message, self._fence))
        return claims

    def held(self, claim: Claim, rows: Iterable[int]) -> frozenset[int]:
        """Those of these rows that are under this claim."""
        return frozenset(row for row in rows if self._fences.get(row) == claim.fence)

    def drop(self, claim: Claim, rows: Iterable[int]) -> None:
        """They are free again, as far as they are under this claim."""
        for row in self.held(claim, rows):
            del self._fences[row]
