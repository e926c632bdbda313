"""How much is taken of the queue at a look, so that what waits for some keeps nobody else's mail out of memory."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence

import attrs

from mailhub.delivery.attempts import is_urgent
from mailhub.delivery.destination import FIRST, Destinations
from mailhub.interfaces import AT_ONCE, Claim, IQueue

_ROWS = 20  # rows in memory for each message that may wait: those of large messages, and those at work
_SHARE = 10  # of these one destination has so many-th


@attrs.define
class Claiming:
    """Takes messages of a queue for destinations: `held` wait at a time, and half as many more that are kept for what
    ends soon or the operator waits for. Slow destinations have half of `held`.

    `take` is given what was claimed, and what of it goes back. `more`: there was no room for all that is due; `now`:
    there still is some.
    """

    queue: IQueue
    destinations: Destinations[Claim]
    held: int
    take: Callable[[Sequence[Claim], Sequence[Claim]], Awaitable[None]]
    more: bool = False
    now: bool = False
    rows: int = 0
    _items: int = 0

    @property
    def waiting(self) -> int:
        """Claims in memory that are not at work, or parts of them."""
        return self._items - self.destinations.working

    @property
    def has_room(self) -> bool:
        """Whether it is worth looking for what was left."""
        return self.more and self.waiting <= self.held * 3 // 4

    def took(self, claim: Claim) -> None:
        """It, or a part that travels together, is in memory."""
        self._count(claim, 1)

    def gave(self, claim: Claim) -> None:
        """It is not in memory any more."""
        self._count(claim, -1)

    def _count(self, claim: Claim, sign: int) -> None:
        rows = sign * len(claim.message.recipients)
        self.rows += rows
        self._items += sign
        if (destination := self.destinations.known(claim.destination)) is not None:
            destination.rows += rows

    async def look(self, now: int, seconds: float, latest: int) -> None:
        """Take what may wait from now on; `seconds` of the monotonic clock, the others of the wall clock."""
        rows = _ROWS * self.held
        slow, slow_rows = self.destinations.slow(seconds)
        without_slow = slow >= self.held // 2 or slow_rows >= rows // 2
        room = min(self.held - self.waiting, rows - self.rows)
        came = 0
        if room > 0:
            quotas = self.destinations.quotas(seconds, rows // _SHARE, without_slow=without_slow)
            claims = await self.queue.claim(now, room, FIRST, quotas, latest)
            came = sum(len(claim.message.recipients) for claim in claims)
            self._tell(claims, quotas, complete=came < room)
            without_slow |= await self._take(claims, seconds, self.held // 2 - slow)
        self.more = came >= room
        self.now = self.more and self.held // 2 < room and self.waiting <= self.held // 2
        if self.more:
            await self._what_ends_soon(now, seconds)
        if self.more or without_slow:  # what is left of slow ones has time until the next look
            await self._urgent()

    async def _take(self, claims: Sequence[Claim], seconds: float, room: int) -> bool:
        """Up to `room` of those for slow destinations. Whether some were left."""
        taken: list[Claim] = []
        back: list[Claim] = []
        for claim in claims:
            destination = self.destinations.at(claim.destination)
            fits = True
            if destination.is_slow(seconds) and not destination.is_paused(seconds) and not is_urgent(claim):
                room -= 1
                fits = room >= 0
            (taken if fits else back).append(claim)
        await self.take(taken, back)
        return bool(back)

    async def _what_ends_soon(self, now: int, seconds: float) -> None:
        """For those that are served well, and DSNs."""
        if (room := self.held * 3 // 2 - self.waiting) > 0:
            quotas = self.destinations.quotas_of_good(seconds)
            claims = await self.queue.claim(now, room, 0, quotas)
            self._tell(claims, quotas, complete=False)
            await self.take(claims, ())

    async def _urgent(self) -> None:
        """What the operator wants tried now; of the room beyond the usual it leaves a half."""
        if (room := self.held * 5 // 4 - self.waiting) > 0:
            await self.take(await self.queue.claim(AT_ONCE, room, FIRST), ())

    def _tell(self, claims: Sequence[Claim], quotas: Mapping[str, int], *, complete: bool) -> None:
        for claim in claims:
            self.destinations.at(claim.destination, all(row.turns for row in claim.message.recipients))
        counts = Counter(claim.destination for claim in claims)
        self.destinations.claimed(counts, quotas, complete=complete)
