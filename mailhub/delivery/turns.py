"""ETRN (RFC 1985): mail that waits for a host which is not always there is tried when that asks for it."""

from __future__ import annotations

from collections.abc import Sequence

import attrs

from mailhub.interfaces import IQueue, QueuedMessage, QueuedRecipient, RowChange, Which
from mailhub.message.envelope import State


async def turn(queue: IQueue, node: str, now: int) -> int:
    """See `IConversation.turn`."""
    count = 0
    for which in _meant(node):
        after = ""
        while page := await queue.messages(after=after, which=which):
            after = page[-1].id
            waiting = [each for each in (_waiting(message, now) for message in page) if each.recipients]
            if waiting:
                await queue.change({RowChange(retry=True): waiting})
            count += len(waiting)
    return count


def _meant(node: str) -> Sequence[Which]:
    if node.startswith("#"):
        return (Which(agent=node[1:]),)
    if node.startswith("@"):
        return Which(domain=node[1:]), Which(domain=f"*.{node[1:]}")
    return (Which(domain=node),)


def _waiting(message: QueuedMessage, now: int) -> QueuedMessage:
    """With those of its recipients that wait for another attempt: what is to be sent later is nobody's to ask for."""
    rows = [row for row in message.recipients if _is_waiting(row) and (row.turns or message.not_before <= now)]
    return attrs.evolve(message, recipients=tuple(rows))


def _is_waiting(row: QueuedRecipient) -> bool:
    return not row.held and (row.last is None or row.last.state is State.DELAYED)
