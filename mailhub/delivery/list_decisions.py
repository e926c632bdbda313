"""What owners decide by mail of posts that wait for them: by a word of the post's own, which only its notice has.

Who has the word may decide, wherever he writes from: owners may be groups and aliases, whose addresses nobody knows,
and the one in a From field is anybody's to write. The word is made of the post and the list, and counts for no other.
"""

from __future__ import annotations

import hmac
import json
import re
from collections.abc import Awaitable, Callable
from hashlib import sha256
from types import MappingProxyType

import attrs
from twisted.internet.defer import DeferredLock

from mailhub.delivery.list_names import HOLD_AGENT, LIST
from mailhub.delivery.list_paths import ListKey
from mailhub.errors import TemporaryError
from mailhub.interfaces import IQueue, IState, QueuedMessage, RowChange, Which
from mailhub.log import Logger
from mailhub.message.address import Address

_log = Logger(namespace="mailhub.delivery.lists")

_WORD = 24  # characters, of 5 bits each
_REMEMBERED_SECONDS = 90 * 86_400  # for which it is known who has decided
DECISION = re.compile(rf"\b(approve|discard)\s+([0-9a-z]{{1,32}}-[0-9a-v]{{{_WORD}}})\b", re.IGNORECASE)
_CHANGES = MappingProxyType({"approve": RowChange(held=False), "discard": RowChange(removed=True)})
DECISIONS = frozenset(_CHANGES)
_PAST = MappingProxyType({"approve": "approved", "discard": "discarded"})


async def decision_word(key: ListKey, post: str, name: Address) -> str:
    """The word for a post that waits for the owners of a list. Raises StoreUnavailable."""
    return f"{post}-{await key.word(f'held {post} {name.key}', _WORD)}"


@attrs.frozen
class Decision:
    """ "approve" or "discard", who has sent it, and what it is done `once` by."""

    verb: str
    by: str
    once: str


@attrs.define(eq=False)
class Decisions:
    """Carries decisions out, the first one of each post."""

    _queue: IQueue
    _state: IState
    _key: ListKey
    _deciding: DeferredLock = attrs.field(factory=DeferredLock, init=False)

    async def decide(self, name: Address, word: str, once: str, first: Callable[[], Awaitable[Decision]]) -> str:
        """What is to be told to who has sent the word; "" for one that is made up. Where nobody has decided yet, it is
        done as the `first` says of those that have come. Repeated with the same `once`, it does nothing else. Raises
        MailError."""
        post, word = word.lower().rpartition("-")[0], word.lower()
        if not hmac.compare_digest(word, await decision_word(self._key, post, name)):
            return ""
        kept_as = f"decided {post} {sha256(name.key.encode()).hexdigest()}"
        await self._deciding.acquire()
        try:
            kept = await self._state.get(kept_as)
            made = Decision(*json.loads(kept)) if kept else await first()
            if kept is None or made.once == once:
                waiting = await self._waiting(post, name)
                if kept is None:
                    if not waiting:
                        return "It waits no more: somebody has decided, or it was taken away. Nothing was changed.\n"
                    await self._state.put({kept_as: json.dumps(attrs.astuple(made)).encode()}, _REMEMBERED_SECONDS)
                    _log.event(_PAST[made.verb], {"list": name, "id": post, "by": made.by})
                if waiting:
                    await self._queue.change({_CHANGES[made.verb]: waiting})
        finally:
            self._deciding.release()
        if made.once != once:
            return f"It was {_PAST[made.verb]} before, by {made.by}. Nothing was changed.\n"
        return f"The post to {name} is {_PAST[made.verb]}.\n"

    async def _waiting(self, post: str, name: Address) -> list[QueuedMessage]:
        """The row that waits for this list's owners. Raises TemporaryError where it is not there yet."""
        found = []
        for message in await self._queue.messages(which=Which(ids=(post,))):
            rows = [row for row in message.recipients if row.route.target == name.key]
            if any(row.route.agent == HOLD_AGENT for row in rows):
                raise TemporaryError("The post does not wait yet")
            if held := [row for row in rows if row.route.agent == LIST and row.held]:
                found.append(attrs.evolve(message, recipients=tuple(held)))
        return found
