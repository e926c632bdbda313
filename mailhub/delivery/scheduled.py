"""Mail that waits for its time (RFC 4865, and the while in which sending can be undone): told, and taken back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from mailhub.interfaces import IQueue, QueuedMessage
from mailhub.log import Logger

_log = Logger(namespace="mailhub.queue")

SHOWN = 100_000  # messages that are looked through


async def scheduled(queue: IQueue, now: int) -> Sequence[QueuedMessage]:
    """Those whose time has not come, the next one first."""
    found = [message for message in await queue.messages(SHOWN) if message.not_before > now]
    return sorted(found, key=lambda message: message.not_before)


async def cancel(queue: IQueue, ids: Sequence[str]) -> Mapping[str, str]:
    """Take messages back, each whole or not at all. By id what became of it: "" where it will never be sent, else why
    it stays. Raises StoreUnavailable."""
    told = {}
    for name in dict.fromkeys(ids):
        if await queue.cancel(name):
            _log.event("cancelled", {"id": name})
            told[name] = ""
            continue
        left = [message for message in await queue.messages(SHOWN) if message.id == name]
        told[name] = _begun(left[0]) if left else "is not in the queue: it has been sent, or removed"
    return told


def _begun(message: QueuedMessage) -> str:
    waiting = ", ".join(f"<{row.route.recipient}>" for row in message.recipients)
    return f"its time has come; in the queue are only {waiting}"
