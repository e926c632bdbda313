"""Fair turns under two bounds: so many at work in all, so many in one lane."""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable
from typing import Generic, TypeVar

import attrs

K = TypeVar("K", bound=Hashable)
T = TypeVar("T")


@attrs.define(eq=False)
class _Lane(Generic[T]):
    waiting: deque[T] = attrs.field(factory=deque)
    working: int = 0
    listed: bool = False


class Lanes(Generic[K, T]):
    """Items wait in lanes by key; lanes that have work and room take turns, so that none starves another."""

    def __init__(self, total: int, per_lane: int) -> None:
        self._total = total
        self._per_lane = per_lane
        self._working = 0
        self._lanes: dict[K, _Lane[T]] = {}
        self._turns: deque[K] = deque()

    @property
    def working(self) -> int:
        """Items taken and not done."""
        return self._working

    def resize(self, total: int, per_lane: int) -> None:
        """Other bounds from the next turn on; what is at work stays."""
        self._total, self._per_lane = total, per_lane
        for key, lane in self._lanes.items():
            self._list(key, lane)

    def add(self, key: K, item: T) -> None:
        """Put an item at the end of its lane."""
        lane = self._lanes.setdefault(key, _Lane())
        lane.waiting.append(item)
        self._list(key, lane)

    def take(self) -> tuple[K, T] | None:
        """The next item to work on, None when there is none or no room. `done` must follow for its key."""
        if self._working >= self._total or not self._turns:
            return None
        key = self._turns.popleft()
        lane = self._lanes[key]
        lane.listed = False
        lane.working += 1
        self._working += 1
        item = lane.waiting.popleft()
        self._list(key, lane)
        return key, item

    def done(self, key: K) -> None:
        """An item of this lane is finished."""
        lane = self._lanes[key]
        lane.working -= 1
        self._working -= 1
        if not lane.working and not lane.waiting:
            del self._lanes[key]
        else:
            self._list(key, lane)

    def clear(self) -> None:
        """Forget what waits."""
        self._turns.clear()
        for lane in self._lanes.values():
            lane.waiting.clear()
            lane.listed = False
        self._lanes = {key: lane for key, lane in self._lanes.items() if lane.working}

    def _list(self, key: K, lane: _Lane[T]) -> None:
        if lane.waiting and lane.working < self._per_lane and not lane.listed:
            lane.listed = True
            self._turns.append(key)
