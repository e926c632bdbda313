"""A queue that takes a message once, however often it is told."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import attrs

from mailhub.interfaces import IQueue, Receipt, Submission
from mailhub.interfaces.transport import Refusals
from mailhub.store.queue_ids import derived


class Once:
    """An `IQueue` whose submissions have ids that are made of `once`: the same again are known."""

    def __init__(self, queue: IQueue, once: str) -> None:
        self._queue = queue
        self._once = once

    async def submit(
        self, submission: Submission, refusals: Refusals = "bounce", also: Sequence[Submission] = ()
    ) -> Receipt:
        """See `IQueue`."""
        named = [
            attrs.evolve(each, delivery_id=derived(self._once, number))
            for number, each in enumerate((submission, *also))
        ]
        return await self._queue.submit(named[0], refusals, named[1:])

    def __getattr__(self, name: str) -> Any:
        return getattr(self._queue, name)
