"""How often something has happened lately, for many keys in bounded memory."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable

import attrs


@attrs.define
class _Count:
    """What was counted in the window that began at number `window`, and in the one before it."""

    window: int
    now: int = 0
    before: int = 0


@attrs.define(eq=False)
class SlidingCounts:
    """Counts of the last `seconds`, whichever moment it is: of the window before the present one there counts as much
    as still lies in that span. Of the keys that have been counted longest ago, those beyond `keys` are forgotten."""

    keys: int = 50_000
    _counts: OrderedDict[Hashable, _Count] = attrs.field(init=False, factory=OrderedDict)

    def count(self, key: Hashable, now: float, seconds: float) -> float:
        """How often it has been."""
        found = self._counts.get(key)
        if found is None:
            return 0.0
        self._move_on(found, int(now // seconds))
        return found.now + found.before * (1.0 - now % seconds / seconds)

    def add(self, key: Hashable, now: float, seconds: float, times: int = 1) -> None:
        """It has happened."""
        window = int(now // seconds)
        found = self._counts.setdefault(key, _Count(window))
        self._counts.move_to_end(key)
        self._move_on(found, window)
        found.now += times
        if len(self._counts) > self.keys:
            self._counts.popitem(last=False)

    @staticmethod
    def _move_on(found: _Count, window: int) -> None:
        if window != found.window:
            found.before = found.now if window == found.window + 1 else 0
            found.now, found.window = 0, window

    def __len__(self) -> int:
        """Keys that are remembered."""
        return len(self._counts)
