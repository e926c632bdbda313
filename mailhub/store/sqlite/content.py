"""Rows of `content`: a body with its digest. They are shared by mailboxes and queue, and go with the last reference."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, get_args

from mailhub.message.digest import DigestName
from mailhub.store.sqlite.blobs import Blobs, Body
from mailhub.store.sqlite.writer import Transaction

AT_ONCE = 100  # contents removed in the transaction that released them; more are left to the sweep
SWEEP = 500  # contents removed in one transaction of the sweep

_INSERT = """
INSERT INTO content (size, header_size, sent, envelope, bodystructure, parts, fields, subject, sender, message_id,
                     preview, blob, octets)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
"""

_OF_MESSAGES = "FROM message m JOIN content c ON c.id = m.content WHERE m.mailbox = ? AND"
_COLUMNS = frozenset(get_args(DigestName))

# What is noted in `released` is the sweep's: a session may still read it.
_NOT_RELEASED = "SELECT value FROM json_each(?) WHERE value NOT IN (SELECT content FROM released)"
_UNUSED = """
DELETE FROM content WHERE id IN (SELECT value FROM json_each(?))
  AND NOT EXISTS (SELECT 1 FROM message WHERE message.content = content.id)
  AND NOT EXISTS (SELECT 1 FROM queue_message WHERE queue_message.content = content.id)
RETURNING blob
"""


def numbers(values: Iterable[int]) -> str:
    """The parameter of json_each()."""
    return json.dumps(values if isinstance(values, list) else list(values))


def among(uids: Sequence[int]) -> tuple[str, tuple[object, ...]]:
    """The condition for ascending UIDs. A run of them is a range, which costs a third."""
    if uids and uids[-1] - uids[0] == len(uids) - 1:
        return "uid BETWEEN ? AND ?", (uids[0], uids[-1])
    return "uid IN (SELECT value FROM json_each(?))", (numbers(uids),)


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


def digests(
    connection: sqlite3.Connection, mailbox: int, uids: Sequence[int], wanted: Iterable[DigestName]
) -> dict[str, dict[int, Any]]:
    """The wanted columns for the messages that exist, with one query. The values are not touched one by one."""
    names = [name for name in wanted if name in _COLUMNS]
    condition, parameters = among(uids)
    selected = ", ".join(f"c.{name}" for name in names)
    rows = connection.execute(f"SELECT uid, {selected} {_OF_MESSAGES} {condition}", (mailbox, *parameters)).fetchall()
    if len(names) == 1:
        return {names[0]: dict(rows)}
    found, *columns = zip(*rows, strict=True) if rows else ((), *[()] * len(names))
    return {name: dict(zip(found, column, strict=True)) for name, column in zip(names, columns, strict=True)}


def bodies(connection: sqlite3.Connection, mailbox: int, uids: Sequence[int]) -> dict[int, bytes]:
    """The octets of the messages that exist and are no files."""
    condition, parameters = among(uids)
    return dict(
        connection.execute(
            f"SELECT uid, c.octets {_OF_MESSAGES} {condition} AND c.blob IS NULL", (mailbox, *parameters)
        )
    )


def held_digests(
    connection: sqlite3.Connection, contents: Mapping[int, int], wanted: Iterable[DigestName]
) -> dict[str, dict[int, Any]]:
    """As `digests`, of messages without a row whose contents (by UID) are held."""
    names = [name for name in wanted if name in _COLUMNS]
    found = _by_number(connection, contents, ", ".join(names))
    return {
        name: {uid: found[content][index] for uid, content in contents.items() if content in found}
        for index, name in enumerate(names)
    }


def held_bodies(connection: sqlite3.Connection, contents: Mapping[int, int]) -> dict[int, bytes]:
    """As `bodies`, of messages without a row whose contents (by UID) are held."""
    found = _by_number(connection, contents, "octets")
    return {uid: octets for uid, content in contents.items() for octets in found.get(content, ()) if octets is not None}


def _by_number(connection: sqlite3.Connection, contents: Mapping[int, int], columns: str) -> dict[int, Any]:
    rows = connection.execute(
        f"SELECT id, {columns} FROM content WHERE id IN (SELECT value FROM json_each(?))", (numbers(contents.values()),)
    )
    return {row[0]: row[1:] for row in rows}


def release(transaction: Transaction, blobs: Blobs, contents: Sequence[int]) -> None:
    """References to these contents were removed. Those that nothing refers to any more go: a few now, many later, so
    that an expunge of 100,000 messages does not hold up everybody's mail while their pages are freed. What sessions
    hold goes when they let go of it."""
    if len(contents) > AT_ONCE:
        transaction.released = True
        _note_released(transaction, contents)
        return
    if held := transaction.held.among(contents):
        _note_released(transaction, held)
    # As a rule `released` is empty, and this asks nothing but that.
    if transaction.row("SELECT 1 FROM released LIMIT 1"):
        contents = [row[0] for row in transaction.execute(_NOT_RELEASED, (numbers(contents),))]
    _remove_unused(transaction, blobs, contents)


def _note_released(transaction: Transaction, contents: Sequence[int]) -> None:
    transaction.execute("INSERT OR IGNORE INTO released (content) SELECT value FROM json_each(?)", (numbers(contents),))


def sweep(transaction: Transaction, blobs: Blobs) -> bool:
    """Remove some of the released contents that nothing refers to and nobody holds. Returns whether there are more."""
    rows = transaction.execute(
        "SELECT content FROM released WHERE content NOT IN (SELECT value FROM json_each(?)) LIMIT ?",
        (numbers(transaction.held.contents()), SWEEP),
    ).fetchall()
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
