"""Rows of `content`: a body with its digest. They are shared by mailboxes and queue, and go with the last reference."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, get_args
from zlib import crc32

from mailhub.errors import MessageDamaged, MessageGone
from mailhub.interfaces import IBlobReader
from mailhub.message.envelope import Outcome
from mailhub.message.record import DigestName
from mailhub.store.octets import OctetsReader
from mailhub.store.queue_ids import SECOND_BITS, SECOND_DIGITS, comes_again, first_id, first_number
from mailhub.store.sql.transaction import Files, Snapshot, StoredBody, Transaction
from mailhub.store.text_column import text

AT_ONCE = 100  # contents removed in the transaction that released them; more are left to the sweep
# For which a submission may come again. One whose id is made of a row of the queue may do so for as long as that waits.
AGAIN_SECONDS = 86400
SWEEP = 500  # contents removed in one transaction of the sweep

_INSERT = (
    "INSERT INTO content (id, size, header_size, sent, envelope, bodystructure, parts, fields, subject, sender,"
    " message_id, preview, blob, start, octets, checksum) VALUES ",
    "(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
    " ON CONFLICT (id) DO NOTHING",
)

_INSERT_DEPARTED = ("INSERT INTO departed (content, size, checksum) VALUES ", "(?, ?, ?)", " ON CONFLICT DO NOTHING")

_OF_MESSAGES = "FROM message m JOIN content c ON c.id = m.content WHERE m.mailbox = ? AND"
_COLUMNS = frozenset(get_args(DigestName))

# What is noted in `released` is the sweep's: a session may still read it.
_NOT_RELEASED = "SELECT value FROM {numbers} AS given WHERE value NOT IN (SELECT content FROM released)"
_UNUSED = """
DELETE FROM content WHERE id IN {numbers}
  AND NOT EXISTS (SELECT 1 FROM message WHERE message.content = content.id)
  AND NOT EXISTS (SELECT 1 FROM queue_message WHERE queue_message.content = content.id)
RETURNING id, blob, size, checksum
"""


def among(snapshot: Snapshot, uids: Sequence[int]) -> tuple[str, tuple[object, ...]]:
    """The condition for ascending UIDs. A run of them is a range, which costs a third."""
    if uids and uids[-1] - uids[0] == len(uids) - 1:
        return "uid BETWEEN ? AND ?", (uids[0], uids[-1])
    return f"uid IN {snapshot.dialect.numbers}", (snapshot.many(uids),)


OUTCOME_COLUMNS = "state, status, reply, remote, source, protocol, tls"


def outcome_columns(outcome: Outcome | None) -> tuple[str | None, str, str, str, str, str, str]:
    """An outcome as the queue's rows keep it."""
    if outcome is None:
        return None, "", "", "", "", "", ""
    reply, remote = text(outcome.reply), text(outcome.remote)
    return outcome.state.value, outcome.status, reply, remote, outcome.source.value, outcome.protocol, outcome.tls


def insert(transaction: Transaction, number: int, body: StoredBody) -> int:
    """Add a row; returns its number, which is the next free one when this was another's already. The caller adds a
    reference in the same transaction."""
    row = _row(number, body)
    while not transaction.execute_values(*_INSERT, (row,)):
        number += 2  # the least bit has a meaning of its own
        row = (number, *row[1:])
    return number


def insert_all(transaction: Transaction, numbered: Sequence[tuple[int, StoredBody]]) -> None:
    """Add several rows. Raises NumberTaken where one of the numbers was another's already."""
    if transaction.execute_values(*_INSERT, [_row(number, body) for number, body in numbered]) < len(numbered):
        raise NumberTaken


class NumberTaken(Exception):
    """A number was made a second time: the group is to be run one by one."""


def _row(number: int, body: StoredBody) -> tuple[object, ...]:
    """Octets are copied: of `bytes` SQLite's driver asks each time how they are to be adapted, which takes longer."""
    d = body.digest
    return (
        number,
        d.size,
        d.header_size,
        d.sent,
        bytearray(d.envelope),
        bytearray(d.bodystructure),
        bytearray(d.parts),
        bytearray(d.fields),
        text(d.subject),
        text(d.sender),
        text(d.message_id),
        text(d.preview),
        body.blob,
        body.start,
        None if body.octets is None else bytearray(body.octets),
        body.checksum,
    )


def digests(
    snapshot: Snapshot, mailbox: int, uids: Sequence[int], wanted: Iterable[DigestName]
) -> dict[str, dict[int, Any]]:
    """The wanted columns for the messages that exist, with one query. The values are not touched one by one."""
    names = [name for name in wanted if name in _COLUMNS]
    selected = ", ".join(f"c.{name}" for name in names)
    rows = _rows(snapshot, f"SELECT uid, {selected} {_OF_MESSAGES}", mailbox, uids)
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


def bodies(snapshot: Snapshot, mailbox: int, uids: Sequence[int], compared: Compared) -> dict[int, bytes]:
    """The octets of the messages that exist and are no files; those that are damaged are left to open()."""
    rows = _rows(snapshot, f"SELECT uid, c.id, c.octets, c.checksum, c.blob {_OF_MESSAGES}", mailbox, uids)
    whole = compared.intact
    return {uid: octets for uid, number, octets, checksum, blob in rows if not blob and whole(number, octets, checksum)}


def intact(octets: bytes | None, checksum: int | None) -> bool:
    """Whether these octets are what arrived; without a checksum they are taken for that."""
    return octets is not None and (checksum is None or crc32(octets) == checksum)


def _rows(snapshot: Snapshot, query: str, mailbox: int, uids: Sequence[int]) -> list[Any]:
    """What a query finds of some messages. Where a page of the database is damaged, all that is not on that page."""
    condition, parameters = among(snapshot, uids)
    try:
        return snapshot.rows(f"{query} {condition}", (mailbox, *parameters))
    except snapshot.dialect.errors as error:
        if not snapshot.dialect.is_damage(error):
            raise
    rows: list[Any] = []
    for uid in uids:
        with suppress(*snapshot.dialect.errors):
            rows += snapshot.rows(f"{query} uid = ?", (mailbox, uid))
    return rows


def held_digests(
    snapshot: Snapshot, contents: Mapping[int, int], wanted: Iterable[DigestName]
) -> dict[str, dict[int, Any]]:
    """As `digests`, of messages without a row whose contents (by UID) are held."""
    names = [name for name in wanted if name in _COLUMNS]
    found = _by_number(snapshot, contents, ", ".join(names))
    return {
        name: {uid: found[content][index] for uid, content in contents.items() if content in found}
        for index, name in enumerate(names)
    }


def held_bodies(snapshot: Snapshot, contents: Mapping[int, int]) -> dict[int, bytes]:
    """As `bodies`, of messages without a row whose contents (by UID) are held."""
    found = _by_number(snapshot, contents, "octets, checksum")
    rows = [(uid, *found[content]) for uid, content in contents.items() if content in found]
    return {uid: octets for uid, octets, checksum in rows if intact(octets, checksum)}


def _by_number(snapshot: Snapshot, contents: Mapping[int, int], columns: str) -> dict[int, Any]:
    rows = snapshot.execute(
        f"SELECT id, {columns} FROM content WHERE id IN {snapshot.dialect.numbers}", (snapshot.many(contents.values()),)
    )
    return {row[0]: row[1:] for row in rows}


def open_content(row: Sequence[Any] | None, files: Files, offset: int = 0, *, thorough: bool = False) -> IBlobReader:
    """A reader for (size, blob, start, octets, checksum), which are None where the content is lost. Raises MessageGone
    for None, MessageDamaged; a file's checksum is looked at where `thorough`, for that takes as long as to read it."""
    if row is None:
        raise MessageGone
    size, blob, start, octets, checksum = row
    if blob is not None:
        return files.open(blob, size, start, offset, checksum if thorough else None)
    if size is None or octets is None:
        raise MessageDamaged(detail="its content is lost")
    if len(octets) != size:
        raise MessageDamaged(detail=f"{len(octets)} octets instead of {size}")
    if not intact(octets, checksum):
        raise MessageDamaged(detail="its octets are not those that arrived")
    return OctetsReader(octets, offset)


def release(transaction: Transaction, contents: Sequence[int]) -> None:
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
        unreleased = _NOT_RELEASED.format(numbers=transaction.dialect.numbers)
        contents = [row[0] for row in transaction.execute(unreleased, (transaction.many(contents),))]
    _remove_unused(transaction, contents)


def _note_released(transaction: Transaction, contents: Sequence[int]) -> None:
    transaction.execute(
        f"INSERT INTO released (content) SELECT value FROM {transaction.dialect.numbers} AS given WHERE TRUE"
        " ON CONFLICT DO NOTHING",
        (transaction.many(contents),),
    )


def sweep(transaction: Transaction, limit: int) -> int:
    """Remove some of the released contents that nothing refers to and nobody holds. Returns how many to take next, 0 at
    the end. Where a page is damaged they are taken one by one, and the one on that page is left to
    `mailhub check --repair`."""
    numbers = transaction.dialect.numbers
    rows = transaction.rows(
        f"SELECT content FROM released WHERE content NOT IN {numbers} LIMIT ?",
        (transaction.many(transaction.held.contents()), limit),
    )
    contents = [row[0] for row in rows]
    if not transaction.later:
        _remove_unused(transaction, contents)
    elif len(contents) > 1:
        return 1
    transaction.execute(f"DELETE FROM released WHERE content IN {numbers}", (transaction.many(contents),))
    return limit if len(contents) == limit else 0


def _remove_unused(transaction: Transaction, contents: Sequence[int]) -> None:
    if not contents:
        return
    remove = transaction.files.remove
    rows = transaction.rows(_UNUSED.format(numbers=transaction.dialect.numbers), (transaction.many(contents),))
    for _, blob, _, _ in rows:
        if blob is not None:
            transaction.after_commit.append(partial(remove, blob))
    departed = [(number, size, checksum) for number, _, size, checksum in rows if comes_again(number)]
    transaction.execute_values(*_INSERT_DEPARTED, departed)


def forget(transaction: Transaction, now: int) -> None:
    """What is kept of submissions so that they can come again need not be kept any more. An id that is made of a
    message's of the queue has its time (`derived`)."""
    transaction.execute(
        "DELETE FROM departed WHERE content < ? AND NOT EXISTS (SELECT 1 FROM queue_message AS waiting WHERE"
        " waiting.content >= departed.content >> ? << ? AND waiting.content < (departed.content >> ?) + 1 << ?)",
        (first_number(now - AGAIN_SECONDS), *[SECOND_BITS] * 4),
    )
    transaction.execute(
        "DELETE FROM refusal WHERE submission < ? AND NOT EXISTS (SELECT 1 FROM queue_message AS waiting WHERE"
        " waiting.id >= substr(submission, 1, ?) AND waiting.id < substr(submission, 1, ?) || '~')",
        (first_id(now - AGAIN_SECONDS), SECOND_DIGITS, SECOND_DIGITS),
    )
