"""Rows of `content`: a body with its digest. They are shared by mailboxes and queue, and go with the last reference."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any, get_args
from zlib import crc32

from mailhub.message.digest import DigestName
from mailhub.store.sqlite.blobs import Blobs, Body
from mailhub.store.sqlite.schema import is_damage
from mailhub.store.sqlite.writer import Transaction

AT_ONCE = 100  # contents removed in the transaction that released them; more are left to the sweep
SWEEP = 500  # contents removed in one transaction of the sweep

_INSERT = """
INSERT INTO content (size, header_size, sent, envelope, bodystructure, parts, fields, subject, sender, message_id,
                     preview, blob, octets, checksum)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
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
            body.checksum,
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
    selected = ", ".join(f"c.{name}" for name in names)
    rows = _rows(connection, f"SELECT uid, {selected} {_OF_MESSAGES}", mailbox, uids)
    if len(names) == 1:
        return {names[0]: dict(rows)}
    found, *columns = zip(*rows, strict=True) if rows else ((), *[()] * len(names))
    return {name: dict(zip(found, column, strict=True)) for name, column in zip(names, columns, strict=True)}


class Compared:
    """Contents whose octets were compared with their checksum in this process. A client that reads a mailbox again has
    them without that: it takes a third of the time, and what decays is the disk, not what was read from it."""

    def __init__(self, limit: int = 50_000) -> None:
        self._limit = limit
        self._checksums: dict[int, int] = {}

    def intact(self, content: int, octets: bytes | None, checksum: int | None) -> bool:
        """See `intact`. May be called from any thread."""
        if checksum is not None and octets is not None and self._checksums.get(content) == checksum:
            return True
        if not intact(octets, checksum):
            return False
        if checksum is not None:
            if len(self._checksums) >= self._limit:
                self._checksums.clear()
            self._checksums[content] = checksum
        return True


def bodies(connection: sqlite3.Connection, mailbox: int, uids: Sequence[int], compared: Compared) -> dict[int, bytes]:
    """The octets of the messages that exist and are no files; those that are damaged are left to open()."""
    rows = _rows(connection, f"SELECT uid, c.id, c.octets, c.checksum, c.blob {_OF_MESSAGES}", mailbox, uids)
    whole = compared.intact
    return {uid: octets for uid, number, octets, checksum, blob in rows if not blob and whole(number, octets, checksum)}


def intact(octets: bytes | None, checksum: int | None) -> bool:
    """Whether these octets are what arrived; without a checksum they are taken for that."""
    return octets is not None and (checksum is None or crc32(octets) == checksum)


def _rows(connection: sqlite3.Connection, query: str, mailbox: int, uids: Sequence[int]) -> list[Any]:
    """What a query finds of some messages. Where a page of the database is damaged, all that is not on that page."""
    condition, parameters = among(uids)
    try:
        return connection.execute(f"{query} {condition}", (mailbox, *parameters)).fetchall()
    except sqlite3.Error as error:
        if not is_damage(error):
            raise
    rows: list[Any] = []
    for uid in uids:
        with suppress(sqlite3.Error):
            rows += connection.execute(f"{query} uid = ?", (mailbox, uid)).fetchall()
    return rows


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
    found = _by_number(connection, contents, "octets, checksum")
    rows = [(uid, *found[content]) for uid, content in contents.items() if content in found]
    return {uid: octets for uid, octets, checksum in rows if intact(octets, checksum)}


def _by_number(connection: sqlite3.Connection, contents: Mapping[int, int], columns: str) -> dict[int, Any]:
    rows = connection.execute(
        f"SELECT id, {columns} FROM content WHERE id IN (SELECT value FROM json_each(?))", (numbers(contents.values()),)
    )
    return {row[0]: row[1:] for row in rows}


def release(transaction: Transaction, blobs: Blobs, contents: Sequence[int]) -> None:
    """References to these contents were removed. Those that nothing refers to any more go: a few now, many later, so
    that an expunge of 100,000 messages does not hold up everybody's mail while their pages are freed. What sessions
    hold goes when they let go of it."""
    if len(contents) > AT_ONCE or transaction.later:
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


def sweep(transaction: Transaction, blobs: Blobs, limit: int) -> int:
    """Remove some of the released contents that nothing refers to and nobody holds. Returns how many to take next, 0 at
    the end. Where a page is damaged they are taken one by one, and the one on that page is left to
    `mailhub check --repair`."""
    rows = transaction.execute(
        "SELECT content FROM released WHERE content NOT IN (SELECT value FROM json_each(?)) LIMIT ?",
        (numbers(transaction.held.contents()), limit),
    ).fetchall()
    contents = [row[0] for row in rows]
    if not transaction.later:
        _remove_unused(transaction, blobs, contents)
    elif len(contents) > 1:
        return 1
    transaction.execute("DELETE FROM released WHERE content IN (SELECT value FROM json_each(?))", (numbers(contents),))
    return limit if len(contents) == limit else 0


def _remove_unused(transaction: Transaction, blobs: Blobs, contents: Sequence[int]) -> None:
    if not contents:
        return
    rows = transaction.execute(_UNUSED, (numbers(contents),)).fetchall()
    for (blob,) in rows:
        if blob is not None:
            transaction.after_commit.append(lambda name=blob: blobs.remove(name))  # type: ignore[misc]
