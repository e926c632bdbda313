"""A pause of the runner, while an operator changes what waits in the queue."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import attrs
from twisted.internet.interfaces import IReactorTime

SECONDS = 10.0  # after which mail goes on, whatever keeps the change


@attrs.define(eq=False)
class Standstill:
    """While it lasts nothing is claimed, and nothing of what is in memory begun. `number` counts its beginnings: what
    was read in the time of another number may have been changed since.

    `give_back` frees all that is in memory and not begun; `go_on` is called when it is over.
    """

    _clock: IReactorTime
    _give_back: Callable[[], Awaitable[None]]
    _go_on: Callable[[], None]
    number: int = 0
    _holders: set[object] = attrs.field(factory=set, init=False)

    @property
    def lasts(self) -> bool:
        """Whether somebody needs it now."""
        return bool(self._holders)

    @asynccontextmanager
    async def hold(self) -> AsyncIterator[None]:
        """Until its end, and not for longer than `SECONDS`: what was claimed after those is given back at the end."""
        holder = object()
        self._holders.add(holder)
        self.number += 1
        limit = self._clock.callLater(SECONDS, self._leave, holder)
        try:
            await self._give_back()
            yield
        finally:
            if limit.active():
                limit.cancel()
                self._leave(holder)
            else:
                self.number += 1
                await self._give_back()
                self._go_on()

    def _leave(self, holder: object) -> None:
        self._holders.discard(holder)
        if not self._holders:
            self._go_on()
