"""What stands in the queue, as it is read: messages with their rows, and the octets to relay."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from mailhub.interfaces import IBlobReader, QueuedMessage, QueuedRecipient
from mailhub.message.address import Address
from mailhub.message.envelope import Mail
from mailhub.message.esmtp import with_mail_parameters
from mailhub.store.octets import SMALL, OctetsReader
from mailhub.store.queue_rows import ROUTE_COLUMNS, outcome_in, route_in
from mailhub.store.sql import content
from mailhub.store.sql.transaction import Snapshot

_SAID_OF_IT = (
    "q.id, q.reverse_path, q.body_type, q.smtputf8, q.parameters, q.needs, q.queued_at, q.not_before, q.submitter"
)
_SIZE = "coalesce(c.size - q.relay_offset, 0)"
_WITH_CONTENT = "FROM queue_message q LEFT JOIN content c ON c.id = q.content"
_SMALL_ONES = (
    f"SELECT {_SAID_OF_IT}, {_SIZE}, q.relay_offset, c.size, c.checksum, CASE WHEN c.size <= {SMALL} THEN c.octets END"
    f" {_WITH_CONTENT} WHERE q.id IN "
)
_ONE = f"SELECT {_SAID_OF_IT}, {_SIZE} {_WITH_CONTENT} WHERE q.id = ?"
_WITHOUT_SIZE = f"SELECT {_SAID_OF_IT}, 0 FROM queue_message q WHERE q.id = ?"


def load(snapshot: Snapshot, found: Sequence[tuple[str, Sequence[int]]]) -> list[QueuedMessage]:
    """The messages in the given order, with these rows."""
    loaded = []
    for message_id, numbers in found:
        wanted = set(numbers)
        rows = [row for row in _recipients(snapshot, message_id) if row.id in wanted]
        loaded.append(_message(snapshot, message_id, rows))
    return [message for message in loaded if message is not None]


def load_whole(
    snapshot: Snapshot, found: Mapping[str, Sequence[QueuedRecipient]], bodies: dict[str, IBlobReader]
) -> list[QueuedMessage]:
    """The messages of these rows, without those that are gone. The octets of small ones are put into `bodies`, where
    they are sound: who relays them need not ask for each."""
    try:
        rows = snapshot.rows(_SMALL_ONES + snapshot.dialect.texts, (snapshot.many(found),))
    except snapshot.dialect.errors as error:
        if not snapshot.dialect.is_damage(error):
            raise
        one_by_one = [_message(snapshot, name, recipients) for name, recipients in found.items()]
        return [message for message in one_by_one if message is not None]
    loaded = {}
    for *said, offset, size, checksum, octets in rows:
        message = _message_in(said, found[said[0]])
        loaded[message.id] = message
        if octets is not None and len(octets) == size and content.intact(octets, checksum):
            bodies[message.id] = OctetsReader(octets, offset)
    return [loaded[name] for name in found if name in loaded]


def _message(snapshot: Snapshot, message_id: str, rows: Iterable[QueuedRecipient]) -> QueuedMessage | None:
    """With these of its recipients; None when it is gone. With the size 0 where the content is lost: such a message has
    to be found, so that its sender is told."""
    try:
        row = snapshot.row(_ONE, (message_id,))
    except snapshot.dialect.errors as error:
        if not snapshot.dialect.is_damage(error):
            raise
        row = snapshot.row(_WITHOUT_SIZE, (message_id,))
    return None if row is None else _message_in(row, rows)


def _message_in(said: Sequence[Any], rows: Iterable[QueuedRecipient]) -> QueuedMessage:
    name, reverse_path, body_type, smtputf8, parameters, needs, queued_at, not_before, submitter, size = said
    sender = None if reverse_path is None else Address.parse(reverse_path)
    mail = with_mail_parameters(Mail(sender, body_type, bool(smtputf8)), parameters)
    return QueuedMessage(name, mail, queued_at, size, tuple(rows), needs, not_before, submitter)


_SAID = content.OUTCOME_COLUMNS.count(",") + 1
RECIPIENT = f"id, attempts, turns, due, tried, warned, priority, held, {content.OUTCOME_COLUMNS}, {ROUTE_COLUMNS}"


def _recipients(snapshot: Snapshot, message_id: str) -> Iterable[QueuedRecipient]:
    rows = snapshot.packed(RECIPIENT, "FROM queue_recipient WHERE message = ? ORDER BY id", (message_id,))
    return map(recipient_in, rows)


def recipient_in(columns: Sequence[Any]) -> QueuedRecipient:
    """What the columns `RECIPIENT` hold."""
    number, attempts, turns, due, tried, warned, priority, held, *said = columns
    last, route = outcome_in(said[:_SAID]), route_in(said[_SAID:])
    return QueuedRecipient(number, route, attempts, due, last, tried, bool(warned), priority, held is not None, turns)


def without_rows(snapshot: Snapshot, messages: Sequence[str]) -> list[str]:
    """Those of the messages that have no row any more."""
    return [
        name
        for name in messages
        if snapshot.row("SELECT 1 FROM queue_recipient WHERE message = ? LIMIT 1", (name,)) is None
    ]


def next_due(snapshot: Snapshot, after: int) -> int | None:
    """When the earliest row is due of those that are due after a moment."""
    due: int | None = snapshot.execute("SELECT min(due) FROM queue_recipient WHERE due > ?", (after,)).fetchone()[0]
    return due


def open_message(snapshot: Snapshot, message_id: str) -> IBlobReader:
    """The octets to relay. Raises MessageGone, MessageDamaged."""
    row = snapshot.execute(
        "SELECT c.size, c.blob, c.start, c.octets, c.checksum, q.relay_offset"
        " FROM queue_message q LEFT JOIN content c ON c.id = q.content WHERE q.id = ?",
        (message_id,),
    ).fetchone()
    # What is sent on cannot be taken back, nor is it in anybody's way to be read twice.
    return content.open_content(row and row[:5], snapshot.files, row[5] if row else 0, thorough=True)


def kept_header(snapshot: Snapshot, message_id: str) -> bytes:
    """The usual fields of the header, nothing when they are lost too."""
    row = snapshot.execute(
        "SELECT c.fields FROM queue_message q JOIN content c ON c.id = q.content WHERE q.id = ?", (message_id,)
    ).fetchone()
    return row[0] if row else b""
