"""Rows of `content`: a body with its digest. They are shared by mailboxes and queue, and go with the last reference."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Sequence

from mailhub.message.digest import Digest
from mailhub.store.sqlite.blobs import Blobs, Body
from mailhub.store.sqlite.writer import Transaction

AT_ONCE = 100  # contents removed in the transaction that released them; more are left to the sweep
SWEEP = 500  # contents removed in one transaction of the sweep

_INSERT = """
INSERT INTO content (size, header_size, sent, envelope, bodystructure, parts, fields, subject, sender, message_id,
                     preview, blob, octets)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
"""

# One statement reads all digests of a few hundred messages; the columns are in the order of Digest.
DIGESTS = """
SELECT m.uid, c.size, c.header_size, c.envelope, c.bodystructure, c.parts, c.fields, c.sent, c.subject, c.sender,
       c.message_id, c.preview
FROM message m JOIN content c ON c.id = m.content
WHERE m.mailbox = ? AND m.uid IN (SELECT value FROM json_each(?))
"""

_UNUSED = """
DELETE FROM content WHERE id IN (SELECT value FROM json_each(?))
  AND NOT EXISTS (SELECT 1 FROM message WHERE message.content = content.id)
  AND NOT EXISTS (SELECT 1 FROM queue_message WHERE queue_message.content = content.id)
RETURNING blob
"""


def numbers(values: Iterable[int]) -> str:
    """The parameter of json_each()."""
    return json.dumps(values if isinstance(values, list) else list(values))


def text(value: str) -> str:
    """What a TEXT column can hold: a lone surrogate cannot be written as UTF-8."""
    return value if value.isascii() else value.encode("utf-8", "replace").decode()


def insert(transaction: Transaction, body: Body) -> int:
    """Add the row; returns its number. The caller adds a reference in the same transaction."""
    d = body.digest
    cursor = transaction.execute(
        _INSERT,
        (
            d.size,
            d.header_size,
            d.sent,
            d.envelope,
            d.bodystructure,
            d.parts,
            d.fields,
            text(d.subject),
            text(d.sender),
            text(d.message_id),
            text(d.preview),
            body.blob,
            body.octets,
        ),
    )
    transaction.kept.append(body)
    assert cursor.lastrowid is not None
    return cursor.lastrowid


def digests(connection: sqlite3.Connection, mailbox: int, uids: Sequence[int]) -> dict[int, Digest]:
    """The digests of the messages that exist."""
    rows = connection.execute(DIGESTS, (mailbox, numbers(uids)))
    return {uid: Digest(*columns) for uid, *columns in rows}


def release(transaction: Transaction, blobs: Blobs, contents: Sequence[int]) -> None:
    """References to these contents were removed. Those that nothing refers to any more go: a few now, many later, so
    that an expunge of 100,000 messages does not hold up everybody's mail while their pages are freed."""
    if len(contents) <= AT_ONCE:
        _remove_unused(transaction, blobs, contents)
        return
    transaction.released = True
    transaction.execute("INSERT OR IGNORE INTO released (content) SELECT value FROM json_each(?)", (numbers(contents),))


def sweep(transaction: Transaction, blobs: Blobs) -> bool:
    """Remove some of the released contents that nothing refers to. Returns whether there are more."""
    rows = transaction.execute("SELECT content FROM released LIMIT ?", (SWEEP,)).fetchall()
    contents = [row[0] for row in rows]
    _remove_unused(transaction, blobs, contents)
    transaction.execute("DELETE FROM released WHERE content IN (SELECT value FROM json_each(?))", (numbers(contents),))
    return len(contents) == SWEEP


def _remove_unused(transaction: Transaction, blobs: Blobs, contents: Sequence[int]) -> None:
    if not contents:
        return
    for (blob,) in transaction.execute(_UNUSED, (numbers(contents),)).fetchall():
        if blob is not None:
            transaction.after_commit.append(lambda name=blob: blobs.remove(name))  # type: ignore[misc]
