"""Bringing a whole backup back into a data folder that nobody serves.

The copy is made and finished beside the data, then what is there is moved aside, and the copy takes its place, the
database last. A folder without database is served by nobody, so that a crash in between is a reason to restore again
and nothing worse.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path

import attrs

from mailhub.errors import ConfigurationError
from mailhub.store.mirror import ledger_files
from mailhub.store.mirror.ledger import FOLDER
from mailhub.store.sqlite import schema
from mailhub.store.sqlite.backup import Named, Progress, copy_file, named_bodies, nothing, synchronise_folder
from mailhub.store.sqlite.blobs import BLOBS, blob_path
from mailhub.store.sqlite.opening import require

_STAGE = "restore-new"  # in the data folder, while the copy is made
_BUSY_SECONDS = 10
_FILES = (schema.FILE, f"{schema.FILE}-wal", f"{schema.FILE}-shm", BLOBS)


@attrs.define
class Restored:
    """What came back. `aside` is where the data is that was there before; `missing` bodies are not in the backup,
    `damaged` ones are not what arrived."""

    accounts: int
    messages: int
    queued: int
    aside: Path | None = None
    missing: list[str] = attrs.field(factory=list)
    damaged: list[str] = attrs.field(factory=list)


def occupied(data: Path) -> bool:
    """Whether there is anything in a data folder that would have to go aside."""
    return any((data / name).exists() for name in _FILES)


def connect_backup(folder: Path) -> sqlite3.Connection:
    """The rows of a backup, for reading. Raises ConfigurationError when it is none, or is damaged."""
    path = folder / schema.FILE
    if not path.is_file():
        raise ConfigurationError(f"{folder}: has no {schema.FILE}, so it is no backup")
    try:
        connection = schema.connect_reader(path, _BUSY_SECONDS, read_only=True)
        try:
            schema.require_known(connection, path)
            (verdict,) = connection.execute("PRAGMA quick_check(1)").fetchone()
        except BaseException:
            connection.close()
            raise
    except sqlite3.Error as error:
        raise ConfigurationError(f"{path}: cannot be read: {error}") from error
    if verdict != "ok":
        connection.close()
        raise ConfigurationError(f"{path}: is damaged: {verdict}")
    return connection


def restore(folder: Path, data: Path, progress: Progress = nothing) -> Restored:
    """Put the backup in `folder` in the place of what is in `data`, whose lock the caller holds.

    Raises ConfigurationError, OSError; until the last step the old data is where it was.
    """
    if (data / BLOBS).is_mount():
        raise ConfigurationError(f"{data / BLOBS}: is a volume of its own and cannot be moved aside: unmount it before")
    with closing(connect_backup(folder)) as backup:
        named = named_bodies(backup)
        counts = (backup.execute(f"SELECT count(*) FROM {table}") for table in ("account", "message", "queue_message"))
        restored = Restored(*(cursor.fetchone()[0] for cursor in counts))
    stage = data / _STAGE
    shutil.rmtree(stage, ignore_errors=True)
    stage.mkdir(mode=0o700)
    _copy(folder, stage, named, restored, progress)
    try:
        _renumber(stage / schema.FILE, _last_uid_validity(data))
    except sqlite3.Error as error:
        raise ConfigurationError(f"{stage / schema.FILE}: cannot be prepared: {error}") from error
    # A backup without them is of before they were in it, or of a server that had none: those in the data folder stay.
    ledgers = [FOLDER] if ledger_files.bring_back(folder, stage, data) else []
    _give_to_owner(stage, data)
    restored.aside = _set_aside(data, [*_FILES, *ledgers])
    for name in (*ledgers, BLOBS, schema.FILE):
        os.rename(stage / name, data / name)
        synchronise_folder(data)
    stage.rmdir()
    return restored


def _copy(folder: Path, stage: Path, named: Mapping[str, Named], restored: Restored, progress: Progress) -> None:
    copy_file(folder / schema.FILE, stage / schema.FILE)
    (stage / BLOBS).mkdir(mode=0o700)
    whole, done = sum(body.size for body in named.values()), 0
    for name, (size, checksum, start) in named.items():
        origin = blob_path(folder / BLOBS, name)
        if not origin.is_file():
            restored.missing.append(name)
        else:
            found = copy_file(origin, blob_path(stage / BLOBS, name), start)
            if origin.stat().st_size != size or checksum not in (found, None):
                restored.damaged.append(name)
        done += size
        progress("bodies", done, whole)
    for part in (*(stage / BLOBS).iterdir(), stage / BLOBS):
        synchronise_folder(part)


def _renumber(path: Path, last: int) -> None:
    """Give every mailbox a new UIDVALIDITY, above all that were ever given: a client may have seen messages, flags and
    removals that the backup does not know, under UIDs that will be given again (RFC 9051 2.3.1.1)."""
    with closing(schema.connect(path, _BUSY_SECONDS)) as connection:
        schema.migrate(connection, path)
        connection.execute("BEGIN IMMEDIATE")
        (own,) = connection.execute("SELECT last FROM uid_validity").fetchone()
        first = max(own, last, int(time.time())) + 1
        rows = connection.execute("SELECT id FROM mailbox ORDER BY id").fetchall()
        numbers = [(first + position, row[0]) for position, row in enumerate(rows)]
        connection.executemany("UPDATE mailbox SET uid_validity = ? WHERE id = ?", numbers)
        connection.execute("UPDATE uid_validity SET last = ?", (first + len(rows),))
        connection.execute("COMMIT")
    synchronise_folder(path)


def _last_uid_validity(data: Path) -> int:
    """The last one that the old database gave; 0 where it cannot be read: then the clock has to do."""
    try:
        require(data)  # SQLite would remove the log of an empty one, and that may be all there is
        with closing(schema.connect_reader(data / schema.FILE, _BUSY_SECONDS, read_only=True)) as connection:
            return int(connection.execute("SELECT last FROM uid_validity").fetchone()[0])
    except (ConfigurationError, sqlite3.Error, TypeError):
        return 0


def _give_to_owner(stage: Path, data: Path) -> None:
    if os.geteuid() == 0:
        owner = data.stat()
        for path in (stage, *stage.rglob("*")):
            os.chown(path, owner.st_uid, owner.st_gid)


def _set_aside(data: Path, files: Sequence[str]) -> Path | None:
    """Move what is there to a folder of its own, the database first. Nothing is deleted."""
    if not any((data / name).exists() for name in files):
        return None
    aside = data / time.strftime("replaced-%Y%m%d-%H%M%S")
    number = 1
    while aside.exists():
        number += 1
        aside = data / f"{time.strftime('replaced-%Y%m%d-%H%M%S')}-{number}"
    aside.mkdir(mode=0o700)
    _give_to_owner(aside, data)
    for name in files:
        if (data / name).exists():
            os.rename(data / name, aside / name)
    synchronise_folder(aside)
    synchronise_folder(data)
    return aside
