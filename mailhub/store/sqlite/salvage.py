"""Reading what can be read of a database with damaged pages into a new one.

A table is read from its beginning up to the damage and from its end down to it. What stands between is asked for row by
row where another table or an index still knows the keys: so contents are found by the messages that have them, and
messages by their index.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

from mailhub.errors import ConfigurationError
from mailhub.store.sqlite import schema
from mailhub.store.sqlite.blobs import Blobs, lost_and_found
from mailhub.store.sqlite.dialect import is_damage

_NEW = f"{schema.FILE}.salvaged"
_NEVER_EMPTY = ("account", "mailbox")  # a server without them would refuse all mail for good


# Columns that older schemas called otherwise.
_RENAMED = {("account", "user"): "address", ("account_change", "user"): "address"}


def is_sound(path: Path) -> bool:
    """Whether SQLite finds its own structures in order."""
    with closing(schema.connect(path, busy_seconds=10, cut=True)) as connection:
        try:
            return bool(connection.execute("PRAGMA integrity_check(1)").fetchone() == ("ok",))
        except sqlite3.Error as error:
            if not is_damage(error):
                raise
            return False


def salvage(data: Path, blobs: Blobs) -> Iterator[str]:
    """Put a readable database in the place of a damaged one, which is kept in lost+found. Yields what was done.

    Raises ConfigurationError when too little can be read; then nothing is changed.
    """
    path, new, lost = data / schema.FILE, data / _NEW, lost_and_found(data)
    for leftover in (new, new.with_name(f"{_NEW}-journal")):
        leftover.unlink(missing_ok=True)
    with closing(schema.connect(path, busy_seconds=10, cut=True)) as old, closing(_create(new)) as target:
        old.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        target.execute("BEGIN")
        for table in _tables(target):
            copied = _copy(old, target, table)
            if not copied and table in _NEVER_EMPTY:
                new.unlink()
                raise ConfigurationError(f"{path}: nothing can be read of table {table}: restore a backup")
            yield f"read again: {copied} rows of {table}"
        _missing_contents(old, target)
        lost_rows = _missing_messages(old, target)
        if lost_rows:
            yield f"found by their index, without their flags: {lost_rows} messages"
        _sequences(old, target)
        target.execute("COMMIT")
    lost.mkdir(mode=0o700, exist_ok=True)
    kept = lost / f"{schema.FILE}.damaged"
    while kept.exists():
        kept = kept.with_name(f"{kept.name}+")
    os.link(path, kept)
    blobs.sync_folder(lost)
    for name in (f"{schema.FILE}-wal", f"{schema.FILE}-shm"):  # folded back above, and not of the new one
        (data / name).unlink(missing_ok=True)
    os.replace(new, path)
    blobs.sync_folder(data)
    yield f"the damaged database is kept as {kept}"


def _create(path: Path) -> sqlite3.Connection:
    connection = schema.connect(path, busy_seconds=10, mode="rwc")
    schema.migrate(connection, path)
    path.chmod(0o600)
    return connection


def _tables(connection: sqlite3.Connection) -> list[str]:
    rows = connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%'")
    return [row[0] for row in rows]


def _columns(old: sqlite3.Connection, new: sqlite3.Connection, table: str) -> list[str]:
    """Those that both have, if not under the same name: the old one may be of an older schema."""
    there = {_RENAMED.get((table, row[1]), row[1]) for row in old.execute(f"PRAGMA table_info({table})")}
    return [row[1] for row in new.execute(f"PRAGMA table_info({table})") if row[1] in there]


def _asked(old: sqlite3.Connection, table: str, columns: Sequence[str]) -> list[str]:
    """The same columns as the old database calls them."""
    there = {row[1] for row in old.execute(f"PRAGMA table_info({table})")}
    before = {new: name for (where, name), new in _RENAMED.items() if where == table and name in there}
    return [before.get(name, name) for name in columns]


def _key(connection: sqlite3.Connection, table: str) -> list[str]:
    rows = [(row[5], row[1]) for row in connection.execute(f"PRAGMA table_info({table})") if row[5]]
    return [name for _, name in sorted(rows)] or ["rowid"]


def _copy(old: sqlite3.Connection, new: sqlite3.Connection, table: str) -> int:
    columns = _columns(old, new, table)
    if not columns:
        return 0
    asked = ", ".join(_asked(old, table, columns))
    usual = new.execute(f"SELECT {', '.join(columns)} FROM {table}").fetchall()
    new.execute(f"DELETE FROM {table}")
    key = _key(new, table)
    for direction in ("ASC", "DESC"):
        order = ", ".join(f"{name} {direction}" for name in key)
        _insert(new, table, columns, _readable(old, f"SELECT {asked} FROM {table} ORDER BY {order}"))
        if _count(new, table) == _count(old, table):
            break
    if not _count(new, table):
        _insert(new, table, columns, usual)  # what a new database begins with
    return _count(new, table)


def _readable(old: sqlite3.Connection, query: str, parameters: Sequence[object] = ()) -> Iterator[Any]:
    """Rows up to the first one that cannot be read."""
    with suppress(sqlite3.Error):
        yield from old.execute(query, parameters)


def _insert(new: sqlite3.Connection, table: str, columns: Sequence[str], rows: Iterable[Any]) -> None:
    marks = ", ".join("?" * len(columns))
    statement = f"INSERT OR IGNORE INTO {table} ({', '.join(columns)}) VALUES ({marks})"
    for row in rows:
        # A row that a damaged page only pretends to have may break a rule of the table.
        with suppress(sqlite3.Error):
            new.execute(statement, row)


def _count(connection: sqlite3.Connection, table: str) -> int:
    """-1 where it cannot be counted."""
    try:
        return int(connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0])
    except sqlite3.Error:
        return -1


def _missing_contents(old: sqlite3.Connection, new: sqlite3.Connection) -> None:
    wanted: set[int] = set()
    for table in ("message", "queue_message"):
        wanted.update(row[0] for row in _readable(old, f"SELECT content FROM {table} INDEXED BY {table}_content"))
        wanted.update(row[0] for row in new.execute(f"SELECT content FROM {table}"))
    columns = _columns(old, new, "content")
    query = f"SELECT {', '.join(columns)} FROM content WHERE id = ?"
    for content in sorted(wanted - {row[0] for row in new.execute("SELECT id FROM content")}):
        _insert(new, "content", columns, _readable(old, query, (content,)))


def _missing_messages(old: sqlite3.Connection, new: sqlite3.Connection) -> int:
    """Those that the index knows and the table does not give any more. Their flags are lost."""
    columns = _columns(old, new, "message")
    one = f"SELECT {', '.join(columns)} FROM message WHERE mailbox = ? AND uid = ?"
    before = new.total_changes
    known = list(_readable(old, "SELECT mailbox, uid, content FROM message INDEXED BY message_content"))
    there = set(new.execute("SELECT mailbox, uid FROM message"))
    lost = [row for row in known if row[:2] not in there]
    for mailbox, uid, content in lost:
        rows = list(_readable(old, one, (mailbox, uid)))
        _insert(new, "message", columns, rows)
        if not rows:
            new.execute(
                "INSERT OR IGNORE INTO message (mailbox, uid, content, flags, modseq, size, internal_date)"
                " SELECT ?, ?, id, '', 1, size, max(sent, 0) FROM content WHERE id = ?",
                (mailbox, uid, content),
            )
    return new.total_changes - before


def _sequences(old: sqlite3.Connection, new: sqlite3.Connection) -> None:
    """Numbers of accounts and mailboxes are never used twice."""
    for name, last in _readable(old, "SELECT name, seq FROM sqlite_sequence"):
        if new.execute("UPDATE sqlite_sequence SET seq = max(seq, ?) WHERE name = ?", (last, name)).rowcount == 0:
            new.execute("INSERT INTO sqlite_sequence (name, seq) VALUES (?, ?)", (name, last))
