"""Messages of a backup that a mailbox has no more: which they are, and what is in them."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

import attrs

from mailhub.errors import NoSuchUser
from mailhub.message.flags import Flags, decode
from mailhub.store.sqlite.backup import content_column
from mailhub.store.sqlite.blobs import BLOBS, blob_path
from mailhub.store.sqlite.schema import address_column

_BLOCK = 1 << 20  # octets compared or copied at a time


@attrs.frozen
class SavedAccount:
    """An account as it was."""

    number: int
    password_hash: str
    quota: int
    enabled: bool


@attrs.frozen
class SavedMailbox:
    """A mailbox as it was."""

    number: int
    name: str
    special_use: str
    subscribed: bool


@attrs.frozen
class SavedMessage:
    """A message as it was; equal octets, size and date make the same message."""

    uid: int
    flags: Flags
    size: int
    internal_date: int
    content: int
    blob: str | None
    checksum: int | None
    start: int


@attrs.frozen
class Side:
    """A data folder or a backup, for reading."""

    connection: sqlite3.Connection
    folder: Path

    def account(self, user: str) -> SavedAccount:
        """Raises NoSuchUser."""
        row = self.connection.execute(
            f"SELECT id, password_hash, quota, enabled FROM account WHERE {address_column(self.connection)} = ?",
            (user,),
        ).fetchone()
        if row is None:
            raise NoSuchUser
        return SavedAccount(row[0], row[1], row[2], bool(row[3]))

    def mailboxes(self, account: int) -> list[SavedMailbox]:
        """In name order."""
        rows = self.connection.execute(
            "SELECT id, name, special_use, EXISTS (SELECT 1 FROM subscription s WHERE s.account = m.account"
            " AND s.name = m.name) FROM mailbox m WHERE account = ? ORDER BY name",
            (account,),
        )
        return [SavedMailbox(number, name, use, bool(known)) for number, name, use, known in rows]

    def messages(self, mailbox: int) -> list[SavedMessage]:
        """In UID order."""
        checksum = content_column(self.connection, "checksum", "NULL")
        start = content_column(self.connection, "start", "0")
        rows = self.connection.execute(
            f"SELECT m.uid, m.flags, m.size, m.internal_date, c.id, c.blob, {checksum}, {start}"
            " FROM message m JOIN content c ON c.id = m.content WHERE m.mailbox = ? ORDER BY m.uid",
            (mailbox,),
        )
        return [SavedMessage(uid, decode(flags), *others) for uid, flags, *others in rows]

    def octets(self, message: SavedMessage) -> Iterator[bytes]:
        """Block by block. Raises OSError."""
        if message.blob is None:
            yield self.connection.execute("SELECT octets FROM content WHERE id = ?", (message.content,)).fetchone()[0]
            return
        with self.open(message.blob) as file:
            file.seek(message.start)
            while block := file.read(_BLOCK):
                yield block

    def open(self, blob: str) -> BinaryIO:
        """The file of a large body. Raises OSError."""
        return open(blob_path(self.folder / BLOBS, blob), "rb")


def lacking(
    backup: Side, saved: Sequence[SavedMessage], live: Side, there: Sequence[SavedMessage]
) -> list[SavedMessage]:
    """The messages of a backup that a mailbox has not, as often as the backup has them more often."""
    candidates: dict[tuple[int, int], list[SavedMessage]] = {}
    for message in there:
        candidates.setdefault((message.internal_date, message.size), []).append(message)
    found = []
    for message in saved:
        alike = candidates.get((message.internal_date, message.size), [])
        same = next((other for other in alike if _same(backup, message, live, other)), None)
        if same is None:
            found.append(message)
        else:
            alike.remove(same)
    return found


def _same(backup: Side, message: SavedMessage, live: Side, other: SavedMessage) -> bool:
    """Octet for octet. A name of a file is never used twice, so that the same name is the same body."""
    if message.blob is not None and message.blob == other.blob:
        return True
    try:
        return _joined(backup.octets(message), live.octets(other))
    except OSError:
        return False


def _joined(one: Iterator[bytes], other: Iterator[bytes]) -> bool:
    """Whether two streams of equal length have equal octets."""
    left, right = b"", b""
    while True:
        left = left or next(one, b"")
        right = right or next(other, b"")
        length = min(len(left), len(right))
        if not length:
            return left == right
        if left[:length] != right[:length]:
            return False
        left, right = left[length:], right[length:]
