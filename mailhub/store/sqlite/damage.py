"""Finding contents whose octets are lost, cut or changed, and naming the messages that have them."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any
from zlib import crc32

import attrs

from mailhub.store.sqlite.blobs import BLOBS, blob_path, sum_of_file
from mailhub.store.sqlite.dialect import SQLITE, is_damage
from mailhub.store.sqlite.schema import address_column

BATCH = 200  # contents looked at with one query

Progress = Callable[[str, int, int], object]
"""What is being done, how much of it is done, how much there is."""


@attrs.frozen
class Damage:
    """A content and what is wrong with it."""

    content: int
    reason: str


@attrs.define
class Inspection:
    """Looks at all contents that something refers to. `deep` reads their octets and compares the checksums; those that
    have none yet are collected in `sums`."""

    connection: sqlite3.Connection
    data: Path
    deep: bool = False
    progress: Progress = lambda what, done, whole: None
    sums: dict[int, int] = attrs.field(factory=dict)
    _done: int = 0
    _whole: int = 0

    def damages(self) -> Iterator[Damage]:
        """Each damaged content. Goes on where a page of the database is damaged."""
        contents = self._referred_to()
        self._whole = self._octets()
        for start in range(0, len(contents), BATCH):
            batch = contents[start : start + BATCH]
            rows = self._rows(batch)
            for content in batch:
                row = rows.get(content, "its content is lost")
                reason = row if isinstance(row, str) else self._fault(content, *row)
                if reason:
                    yield Damage(content, reason)

    def _referred_to(self) -> list[int]:
        """From the indexes: the table itself may be unreadable in places."""
        found: set[int] = set()
        for table in ("message", "queue_message"):
            try:
                found.update(row[0] for row in self.connection.execute(f"SELECT DISTINCT content FROM {table}"))
            except sqlite3.Error as error:
                if not is_damage(error):
                    raise
        return sorted(found)

    def _octets(self) -> int:
        try:
            return int(self.connection.execute("SELECT coalesce(sum(size), 0) FROM content").fetchone()[0])
        except sqlite3.Error:
            return 0

    def _rows(self, contents: Sequence[int]) -> dict[int, Any]:
        try:
            return self._query(contents)
        except sqlite3.Error as error:
            if not is_damage(error):
                raise
        rows: dict[int, Any] = {}
        for content in contents:
            try:
                rows |= self._query([content])
            except sqlite3.Error as error:
                rows[content] = f"its content cannot be read: {error}"
        return rows

    def _query(self, contents: Sequence[int]) -> dict[int, Any]:
        octets = "octets" if self.deep else "NULL"
        checksum = "checksum" if self._version >= 2 else "NULL"
        start = "start" if self._version >= 3 else "0"
        rows = self.connection.execute(
            f"SELECT id, size, blob, {start}, length(octets), {octets}, {checksum} FROM content"
            " WHERE id IN (SELECT value FROM json_each(?))",
            (SQLITE.many(contents),),
        )
        return {row[0]: row[1:] for row in rows}

    @property
    def _version(self) -> int:
        return int(self.connection.execute("PRAGMA user_version").fetchone()[0])

    def _fault(
        self,
        content: int,
        size: int,
        blob: str | None,
        start: int,
        length: int | None,
        octets: bytes | None,
        checksum: int | None,
    ) -> str:
        if blob is not None:
            return self._fault_of_file(content, blob_path(self.data / BLOBS, blob), start, size, checksum)
        if length != size:
            return "its octets are lost" if length is None else f"{length} octets instead of {size}"
        return self._compare(content, crc32(octets or b""), size, checksum) if self.deep else ""

    def _fault_of_file(self, content: int, path: Path, start: int, size: int, checksum: int | None) -> str:
        try:
            found = path.stat().st_size
            if found != start + size:
                return f"body {path}: {found} octets instead of {start + size}"
            return self._compare(content, _sum_of_file(path, start), size, checksum) if self.deep else ""
        except FileNotFoundError:
            return f"body {path}: missing"
        except OSError as error:
            return f"body {path}: {error.strerror}"

    def _compare(self, content: int, found: int, size: int, checksum: int | None) -> str:
        self._done += size
        self.progress("reading", self._done, self._whole)
        if checksum is None:
            self.sums[content] = found
        elif checksum != found:
            return "its octets are not those that arrived"
        return ""


def _sum_of_file(path: Path, start: int) -> int:
    with open(path, "rb", buffering=0) as file:
        return sum_of_file(file.fileno(), start)


def names(connection: sqlite3.Connection, content: int) -> list[str]:
    """The messages that have a content, each by account, mailbox, UID and subject as far as they are known."""
    subject = ""
    try:
        row = connection.execute("SELECT subject FROM content WHERE id = ?", (content,)).fetchone()
        subject = f', "{_shown(row[0])}"' if row and row[0] else ""
    except sqlite3.Error:
        pass
    found = [
        f"message of {user or 'nobody'} in {mailbox or 'no mailbox'}, UID {uid}{subject}"
        for user, mailbox, uid in connection.execute(
            f"SELECT a.{address_column(connection)}, b.name, m.uid"
            " FROM message m LEFT JOIN mailbox b ON b.id = m.mailbox LEFT JOIN account a ON a.id = b.account"
            " WHERE m.content = ?",
            (content,),
        )
    ]
    queued = connection.execute("SELECT id FROM queue_message WHERE content = ?", (content,))
    return found + [f"queued message {row[0]}{subject}" for row in queued]


def _shown(text: str) -> str:
    """For a terminal: subjects come from strangers."""
    return "".join(char if char.isprintable() else "?" for char in text[:60])
