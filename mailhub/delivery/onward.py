"""What goes on to other servers, and who seals it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol

from mailhub.delivery.dead_ends import LOOP, REFUSED
from mailhub.delivery.list_names import LIST_AGENTS
from mailhub.interfaces import STORE, IBlobReader, Route

# What mail is given to that stays here, or comes back; lists seal what they make of it themselves.
_OURS = frozenset({STORE, *LIST_AGENTS, LOOP, REFUSED})


def leads_away(routes: Iterable[Route]) -> bool:
    """Whether somebody else gets the message."""
    return any(route.agent not in _OURS for route in routes)


class OnwardSealer(Protocol):
    """See `mailhub.delivery.authentication.sealing.Sealer`."""

    async def fields(self, header: bytes, body: IBlobReader, results: Sequence[str]) -> bytes: ...
    async def sealed(self, header: bytes, body: IBlobReader) -> bytes: ...
