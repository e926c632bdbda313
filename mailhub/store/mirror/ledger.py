"""What a mirror keeps of its own: an SQLite file in which UIDs stand, with all that a source cannot be asked for.

Nothing of it is shown before it is committed. One thread has the file; whatever waits when it becomes free is one
transaction, and each piece of it has a savepoint.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import TypeVar

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from mailhub.errors import ConfigurationError, StorageFull, StoreUnavailable
from mailhub.interfaces import IThreads
from mailhub.log import Logger
from mailhub.store.mirror.own_thread import GROUP, OwnThread
from mailhub.store.space import is_full
from mailhub.threads import Call

log = Logger(namespace="mailhub.store")

T = TypeVar("T")
Unit = Callable[[sqlite3.Connection], T]

FOLDER = "stores"  # in the data folder, a file a store
_BUSY_SECONDS = 10
_VERSION = 1
_SCHEMA = """
CREATE TABLE uid_validity (last INTEGER NOT NULL) STRICT;
INSERT INTO uid_validity VALUES (0);
CREATE TABLE folder (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  user TEXT NOT NULL,
  name TEXT NOT NULL,
  special_use TEXT NOT NULL,
  uid_validity INTEGER NOT NULL UNIQUE,
  uid_next INTEGER NOT NULL DEFAULT 1,
  highest_modseq INTEGER NOT NULL DEFAULT 1,
  looked INTEGER NOT NULL DEFAULT 0,
  UNIQUE (user, name)
) STRICT;
CREATE TABLE message (
  folder INTEGER NOT NULL,
  uid INTEGER NOT NULL,
  key ANY NOT NULL,
  flags TEXT NOT NULL,
  modseq INTEGER NOT NULL,
  size INTEGER NOT NULL,
  internal_date INTEGER NOT NULL,
  growth INTEGER NOT NULL,
  checksum INTEGER,
  listed_size INTEGER,
  version TEXT NOT NULL,
  PRIMARY KEY (folder, uid)
) STRICT, WITHOUT ROWID;
CREATE TABLE digest (
  folder INTEGER NOT NULL,
  uid INTEGER NOT NULL,
  size INTEGER NOT NULL,
  header_size INTEGER NOT NULL,
  envelope BLOB NOT NULL,
  bodystructure BLOB NOT NULL,
  parts BLOB NOT NULL,
  fields BLOB NOT NULL,
  sent INTEGER NOT NULL,
  subject TEXT NOT NULL,
  sender TEXT NOT NULL,
  message_id TEXT NOT NULL,
  preview TEXT NOT NULL,
  growth INTEGER NOT NULL,
  PRIMARY KEY (folder, uid)
) STRICT;
CREATE TABLE vanished (
  folder INTEGER NOT NULL, modseq INTEGER NOT NULL, first INTEGER NOT NULL, last INTEGER NOT NULL,
  PRIMARY KEY (folder, modseq, first)
) STRICT, WITHOUT ROWID;
CREATE TABLE subscription (
  user TEXT NOT NULL, name TEXT NOT NULL, subscribed INTEGER NOT NULL, PRIMARY KEY (user, name)
) STRICT, WITHOUT ROWID;
CREATE TABLE delivery (
  folder INTEGER NOT NULL,
  id TEXT NOT NULL,
  at INTEGER NOT NULL,
  uid INTEGER,
  uid_next INTEGER NOT NULL,
  size INTEGER NOT NULL,
  checksum INTEGER NOT NULL,
  PRIMARY KEY (folder, id)
) STRICT, WITHOUT ROWID;
CREATE INDEX delivery_at ON delivery (at);
"""


class Ledger:
    """The file of one store. `path` None: in memory, for a process that keeps nothing."""

    def __init__(self, path: Path | None, threads: IThreads, name: str, now: Callable[[], int]) -> None:
        self._path = path
        self._name = name
        self._now = now
        self._connection: sqlite3.Connection | None = None
        self._thread = OwnThread(threads, f"ledger of {name}", self._commit, GROUP)

    async def start(self) -> None:
        """Open it. A file that is damaged is set aside and one begun anew, so that clients read all again and nobody is
        told an old UID for a new message. Raises ConfigurationError."""
        try:
            await self._thread.run(self._open)
        except (sqlite3.Error, OSError, ConfigurationError) as error:
            raise ConfigurationError(f"{self._path}: cannot be opened: {error}") from error

    async def stop(self) -> None:
        """Finish what waits and close."""
        if self._connection is not None:
            await self._thread.run(self._close)
        self._thread.close()

    def run(self, unit: Unit[T]) -> Deferred[T]:
        """Run a unit of work; returns when it is durable. Raises what the unit raises, and StoreUnavailable."""
        return self._thread.run(unit)

    # --- in the thread -----------------------------------------------------------------------------------------------

    def _open(self, _: object = None) -> None:
        if self._path is None:
            self._connection = _connect(":memory:")
            _prepare(self._connection)
            return
        self._path.parent.mkdir(mode=0o700, exist_ok=True)
        try:
            self._connection = _open_file(self._path)
        except sqlite3.DatabaseError as error:
            if not is_damage(error):
                raise
            last = _last_uid_validity(self._path)
            aside = set_aside(self._path)
            log.error(
                "ledger set aside, clients will read all mail of the store again: store={store} file={file} "
                "aside={aside} error={error:text}",
                store=self._name,
                file=str(self._path),
                aside=str(aside),
                error=str(error),
            )
            self._connection = _open_file(self._path)
            # Folders that were made in quick succession may have been numbered ahead of the clock.
            self._connection.execute("UPDATE uid_validity SET last = ?", (max(last, self._now()),))
        synchronise(self._path.parent)

    def _close(self, _: object = None) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            if connection.in_transaction:
                connection.execute("COMMIT")
            connection.close()

    def _commit(self, calls: Sequence[Call]) -> None:
        """Run what waits in one transaction. What fails leaves nothing, and hurts no other."""
        for call in calls:
            if call.function in (self._open, self._close):
                call.run()
        units = [call for call in calls if call.function not in (self._open, self._close)]
        connection = self._connection
        if not units:
            return
        try:
            if connection is None:
                raise StoreUnavailable(detail=f"ledger of {self._name} is not open")
            connection.execute("BEGIN")
            for call in units:
                _run(connection, call, alone=len(units) == 1)
            connection.execute("COMMIT" if connection.in_transaction else "SELECT 1")
        except (sqlite3.Error, StoreUnavailable) as error:
            if connection is not None and connection.in_transaction:
                with suppress(sqlite3.Error):
                    connection.execute("ROLLBACK")
            for call in units:
                call.outcome = Failure(_told(error, self._name))  # type: ignore[no-untyped-call]
        for call in units:
            if isinstance(call.outcome, Failure) and isinstance(call.outcome.value, sqlite3.Error):
                call.outcome = Failure(_told(call.outcome.value, self._name))  # type: ignore[no-untyped-call]


def _run(connection: sqlite3.Connection, call: Call, *, alone: bool) -> None:
    """One unit, whose changes go when it raises."""
    if not alone:
        connection.execute("SAVEPOINT unit")
    call.arguments = (connection,)
    call.run()
    if not connection.in_transaction:
        raise StoreUnavailable(detail="the ledger's transaction was rolled back")
    failed = isinstance(call.outcome, Failure)
    if alone:
        if failed:
            connection.execute("ROLLBACK")
        return
    if failed:
        connection.execute("ROLLBACK TO unit")
    connection.execute("RELEASE unit")


def _told(error: Exception, name: str) -> Exception:
    if not isinstance(error, sqlite3.Error):
        return error
    advice = ": a restart sets it aside and begins anew" if is_damage(error) else ""
    log.error("ledger failed: store={store} error={error:text}", store=name, error=f"{error}{advice}")
    kind = StorageFull if is_full(error) else StoreUnavailable
    return kind(detail=f"ledger of {name}: {error}")


def is_damage(error: sqlite3.Error) -> bool:
    """Whether the file is none of ours any more."""
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    return code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB) or isinstance(error, _Damaged)


class _Damaged(sqlite3.DatabaseError):
    """SQLite has read it, and found that it is not as it was written."""


def _connect(path: str | Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False)
    connection.execute("PRAGMA temp_store = MEMORY")
    return connection


def _open_file(path: Path) -> sqlite3.Connection:
    os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
    connection = _connect(path)
    try:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        (verdict,) = connection.execute("PRAGMA quick_check(1)").fetchone()
        if verdict != "ok":
            raise _Damaged(verdict)
        _prepare(connection)
    except BaseException:
        connection.close()
        raise
    return connection


def _prepare(connection: sqlite3.Connection) -> None:
    """Make the tables. Raises _Damaged for a file that has others."""
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version == 0:
        if connection.execute("SELECT 1 FROM sqlite_schema LIMIT 1").fetchone():
            raise _Damaged("it has tables that are not a ledger's")
        connection.executescript(f"BEGIN; {_SCHEMA} PRAGMA user_version = {_VERSION}; COMMIT")
    elif version > _VERSION:
        raise ConfigurationError("it was written by a newer mailhub")


def _last_uid_validity(path: Path) -> int:
    with suppress(sqlite3.Error, TypeError), closing(_connect(path)) as connection:
        return int(connection.execute("SELECT last FROM uid_validity").fetchone()[0])
    return 0


def set_aside(path: Path) -> Path:
    """Give a file, and what SQLite has beside it, another name. Nothing is deleted."""
    aside = path.with_name(time.strftime(f"{path.name}.damaged-%Y%m%d-%H%M%S"))
    number = 1
    while aside.exists():
        number += 1
        aside = path.with_name(time.strftime(f"{path.name}.damaged-%Y%m%d-%H%M%S-{number}"))
    for end in ("-wal", "-shm", ""):
        beside = path.with_name(path.name + end)
        if beside.exists():
            os.rename(beside, aside.with_name(aside.name + end))
    synchronise(path.parent)
    return aside


def synchronise(path: Path) -> None:
    """Have a file's octets, or a folder's names, on disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def damage(path: Path) -> str:
    """What is wrong with a ledger's file, "" when nothing is. Only reads."""
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as connection:
            (verdict,) = connection.execute("PRAGMA quick_check(1)").fetchone()
            (version,) = connection.execute("PRAGMA user_version").fetchone()
    except sqlite3.Error as error:
        return str(error)
    if verdict != "ok":
        return str(verdict)
    return "" if version <= _VERSION else "it was written by a newer mailhub"
