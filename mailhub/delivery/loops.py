"""Forwarding that goes round: aliases that have seen a message do not send it on again.

Mail that leaves by an alias says so in a `Delivered-To` field for each alias on its way, as that of other servers does.
They stand before the stored body, which is one for all recipients, when it is sent on: each next hop is told the names
that led to it and no others. A message that comes back has them, and the alias is done with it. Anybody can write such
a field, so the mailboxes here are asked whether they have it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

import attrs
from zope.interface import implementer

from mailhub.delivery.dead_ends import LOOP, LOOP_STATUS, LOOP_TEXT
from mailhub.delivery.plan import Accepted
from mailhub.errors import MailError, PermanentError
from mailhub.interfaces import STORE, IBlobReader, IMailStore, Route
from mailhub.message.mailbox_names import INBOX

_MAILBOXES = 30  # that are looked into for one message
_LATEST = 200  # messages of each


def returning(recipients: Sequence[Accepted], seen: Collection[str]) -> list[Route]:
    """The mailboxes that an alias leads to which is among `seen`, the message's `Delivered-To`: they have it already,
    or it says so falsely."""
    routes = (route for accepted in recipients for route in accepted.routes if route.agent == STORE)
    return list(dict.fromkeys(route for route in routes if _is_back(route, seen)))


async def that_have(store: IMailStore, routes: Sequence[Route], message_id: str) -> list[Route]:
    """Those of the routes to mailboxes whose account has a message of this name among the latest ones of a mailbox,
    INBOX or that of the route before others. Who cannot be asked, and whose turn does not come, has none: a message
    too many is better than one that is lost."""
    left = iter(range(_MAILBOXES))
    return [route for route in routes if message_id and await _has(store, route, message_id, left)]


async def _has(store: IMailStore, route: Route, message_id: str, left: Iterator[int]) -> bool:
    first = route.mailbox or INBOX
    try:
        account = await store.account(route.target)
        try:
            names = dict.fromkeys((first, *(each.name for each in await account.mailboxes())))
            for name, _ in zip(names, left, strict=False):
                mailbox = await account.mailbox(name)
                end = (await mailbox.status()).uid_next
                found = await mailbox.digests(range(max(1, end - _LATEST), end), ["message_id"])
                if message_id in found["message_id"].values():
                    return True
        finally:
            await account.logout()
    except MailError:
        pass
    return False


def break_loops(recipients: Sequence[Accepted], seen: Collection[str], kept: Collection[Route]) -> list[Accepted]:
    """The recipients with the routes that the message has not gone yet. `seen` is its `Delivered-To`, `kept` are those
    to mailboxes that have it.

    An alias that has kept it in a mailbox here the first time is done with it: no routes are left. It is kept where it
    is not there yet, and sent on no further. An alias that only sends on has delivered to nobody: the sender is told.
    Raises PermanentError when that is so for every recipient.
    """
    if not seen:
        return list(recipients)
    left = [_left(accepted, seen, kept) for accepted in recipients]
    if all(route.agent == LOOP for accepted in left for route in accepted.routes or (Route("", accepted.address),)):
        raise PermanentError(LOOP_TEXT, status=LOOP_STATUS, rule="delivered-to")
    return left


def _left(accepted: Accepted, seen: Collection[str], kept: Collection[Route]) -> Accepted:
    routes = tuple(
        [
            route
            for route in accepted.routes
            if not _is_back(route, seen) or (route.agent == STORE and route not in kept)
        ]
    )
    if not routes and accepted.routes and all(route.agent != STORE for route in accepted.routes):
        routes = (Route(LOOP, accepted.address),)
    return attrs.evolve(accepted, routes=routes)


def _is_back(route: Route, seen: Collection[str]) -> bool:
    return any(name in seen for name in route.via)


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
