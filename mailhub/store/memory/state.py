"""What parts remember, in plain dicts: gone with the process."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from zope.interface import implementer

from mailhub.interfaces import IState, IStates
from mailhub.store.state_rules import ENTRIES, ENTRIES_LEFT, check_names, check_values

_NEVER = float("inf")


@implementer(IState)
class MemoryState:
    """What one part remembers; `now` gives seconds since the epoch."""

    def __init__(self, now: Callable[[], int]) -> None:
        self._now = now
        self._kept: dict[str, tuple[bytes, float]] = {}

    async def get(self, name: str) -> bytes | None:
        """None when its time is over."""
        check_names([name])
        value, expires = self._kept.get(name, (None, 0))
        return value if expires > self._now() else None

    async def put(self, values: Mapping[str, bytes], seconds: int = 0) -> None:
        """All of them."""
        check_values(values, seconds)
        now = self._now()
        expires = now + seconds if seconds else _NEVER
        self._kept.update({name: (value, expires) for name, value in values.items()})
        if len(self._kept) > ENTRIES:
            self._kept = {name: kept for name, kept in self._kept.items() if kept[1] > now}
        if len(self._kept) > ENTRIES:
            first_to_go = sorted(self._kept, key=lambda name: (self._kept[name][1], name))
            for name in first_to_go[: len(self._kept) - ENTRIES_LEFT]:
                del self._kept[name]

    async def remove(self, names: Sequence[str]) -> None:
        """Those that are there."""
        check_names(names)
        for name in names:
            self._kept.pop(name, None)

    async def items(self, prefix: str = "", limit: int = 1000) -> Mapping[str, bytes]:
        """In the order of their names."""
        check_names([prefix])
        now = self._now()
        names = sorted(name for name, (_, expires) in self._kept.items() if name.startswith(prefix) and expires > now)
        return {name: self._kept[name][0] for name in names[: max(0, limit)]}


@implementer(IStates)
class MemoryStates:
    """What all parts remember."""

    def __init__(self, now: Callable[[], int]) -> None:
        self._now = now
        self._parts: dict[str, MemoryState] = {}

    def of(self, part: str) -> MemoryState:
        """The same for the same name."""
        check_names([part])
        return self._parts.setdefault(part, MemoryState(self._now))
