"""Forwarding that goes round: aliases that have seen a message do not send it on again.

Mail that leaves by an alias says so in a `Delivered-To` field for each alias on its way, as that of other servers does.
They stand before the stored body, which is one for all recipients, when it is sent on: each next hop is told the names
that led to it and no others. A message that comes back has them, and the alias is done with it.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import attrs
from zope.interface import implementer

from mailhub.delivery.dead_ends import LOOP, LOOP_STATUS, LOOP_TEXT
from mailhub.delivery.plan import Accepted
from mailhub.errors import PermanentError
from mailhub.interfaces import STORE, IBlobReader, Route


def break_loops(recipients: Sequence[Accepted], seen: Collection[str]) -> list[Accepted]:
    """The recipients with the routes that the message has not gone yet. `seen` is its `Delivered-To`.

    An alias that keeps a copy in a mailbox here has kept it the first time, and everything is done: no routes are left.
    An alias that only sends on has delivered to nobody: the sender is told. Raises PermanentError when that is so for
    every recipient.
    """
    if not seen:
        return list(recipients)
    left = [_left(accepted, seen) for accepted in recipients]
    if all(route.agent == LOOP for accepted in left for route in accepted.routes or (Route("", accepted.address),)):
        raise PermanentError(LOOP_TEXT, status=LOOP_STATUS, rule="delivered-to")
    return left


def _left(accepted: Accepted, seen: Collection[str]) -> Accepted:
    routes = tuple([route for route in accepted.routes if not any(name in seen for name in route.via)])
    if not routes and accepted.routes and all(route.agent != STORE for route in accepted.routes):
        routes = (Route(LOOP, accepted.address),)
    return attrs.evolve(accepted, routes=routes)


@implementer(IBlobReader)
class Prefixed:
    """A body with octets before it."""

    def __init__(self, prefix: bytes, body: IBlobReader) -> None:
        self._prefix = prefix
        self._body = body
        self.size = len(prefix) + body.size

    async def read(self, offset: int = 0, length: int = -1) -> bytes:
        """See `IBlobReader`."""
        end = self.size if length < 0 else min(offset + length, self.size)
        size = len(self._prefix)
        octets = self._prefix[offset:end]
        if end > size:
            start = max(offset, size)
            octets += await self._body.read(start - size, end - start)
        return octets

    def close(self) -> None:
        """See `IBlobReader`."""
        self._body.close()
