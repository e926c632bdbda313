"""Mail that waits for its time (RFC 4865, and the while in which sending can be undone): told, and taken back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from mailhub.delivery.sent import forget
from mailhub.errors import MailError
from mailhub.interfaces import IMailStore, IQueue, QueuedMessage, Which
from mailhub.log import Logger
from mailhub.message.needs import HEADER_LIMIT

_log = Logger(namespace="mailhub.queue")

SHOWN = 100_000  # messages that are looked through


async def scheduled(queue: IQueue, now: int) -> Sequence[QueuedMessage]:
    """Those whose time has not come, and of which the operator has had nothing tried early, the next one first."""
    found = [
        message
        for message in await queue.messages(SHOWN)
        if message.not_before > now and all(row.due > now and not row.tried for row in message.recipients)
    ]
    return sorted(found, key=lambda message: message.not_before)


async def cancel(queue: IQueue, store: IMailStore, ids: Sequence[str]) -> Mapping[str, str]:
    """Take messages back, each whole or not at all, and the copies that the server has put into Sent with them. By id
    what became of it: "" where it will never be sent, else why it stays. Raises StoreUnavailable."""
    told = {}
    for name in dict.fromkeys(ids):
        found = await queue.messages(1, "", Which(ids=(name,)))
        user = found[0].submitter if found else ""
        header = await _header(queue, name) if user else b""
        if await queue.cancel(name):
            for message in found:
                _log_cancelled(message)
            told[name] = ""
            if header:
                await _forget_copy(store, user, name, header)
            continue
        left = await queue.messages(1, "", Which(ids=(name,)))
        told[name] = _begun(left[0]) if left else "is not in the queue: it has been sent, taken back, or removed"
    return told


def _log_cancelled(message: QueuedMessage) -> None:
    """A line for each recipient, as for whatever else becomes of a message."""
    for row in message.recipients:
        known = {"id": message.id, "from": message.mail.reverse_path or "", "to": row.route.recipient}
        _log.event("cancelled", {**known, "user": message.submitter})


async def _header(queue: IQueue, name: str) -> bytes:
    """Of a message, and perhaps more; nothing where it cannot be read."""
    try:
        reader = await queue.open(name)
        try:
            return await reader.read(0, HEADER_LIMIT)
        finally:
            reader.close()
    except MailError:
        return b""


async def _forget_copy(store: IMailStore, user: str, name: str, header: bytes) -> None:
    try:
        await forget(store, user, header)
    except MailError as error:  # there is none where the account or the mailbox is not there
        _log.info("no copy is taken back: id={id} account={user} ({error:text})", id=name, user=user, error=error)


def _begun(message: QueuedMessage) -> str:
    waiting = ", ".join(f"<{row.route.recipient}>" for row in message.recipients)
    return f"its time has come; in the queue are only {waiting}"
