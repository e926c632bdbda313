"""The ledgers of a data folder: in a backup, brought back, and looked over. All of it blocks, and may run beside a
server."""

from __future__ import annotations

import os
import sqlite3
import time
from contextlib import closing
from pathlib import Path

from mailhub.errors import ConfigurationError
from mailhub.store.mirror.ledger import FOLDER, damage, synchronise

_BUSY_SECONDS = 30
_PAGES = 2048  # copied in a step: 8 MiB
_BESIDE = ("-wal", "-shm", "-journal")


def names(data: Path) -> list[str]:
    """The files of ledgers, in order; those that were set aside are not among them."""
    folder = data / FOLDER
    return sorted(path.name for path in folder.glob("*.sqlite") if path.is_file()) if folder.is_dir() else []


def strangers(data: Path) -> list[str]:
    """What else there is beside them."""
    folder = data / FOLDER
    if not folder.is_dir():
        return []
    known = {name + end for name in names(data) for end in ("", *_BESIDE)}
    return sorted(path.name for path in folder.iterdir() if path.name not in known and ".damaged-" not in path.name)


def faults(data: Path) -> list[str]:
    """What is wrong with them, a line each."""
    found = ((data / FOLDER / name, damage(data / FOLDER / name)) for name in names(data))
    return [
        f"ledger {path}: {fault}; the server sets it aside when it starts, and clients read all mail of the store again"
        for path, fault in found
        if fault
    ]


def back_up(data: Path, target: Path) -> list[str]:
    """Have in `target` what is in `data` now, and no other ledgers. A damaged one keeps nothing else from being copied:
    the earlier copy of it stays. Returns what could not be copied, a line each. Raises OSError."""
    wanted = names(data)
    folder = target / FOLDER
    if not wanted and not folder.is_dir():
        return []
    folder.mkdir(mode=0o700, exist_ok=True)
    failed = []
    for name in wanted:
        try:
            _copy(data / FOLDER / name, folder / f"{name}.new")
        except sqlite3.Error as error:
            failed.append(f"ledger {data / FOLDER / name} cannot be copied: {error}")
            (folder / f"{name}.new").unlink(missing_ok=True)
        else:
            os.replace(folder / f"{name}.new", folder / name)
    for path in folder.iterdir():
        if path.name not in wanted:
            path.unlink()
    synchronise(folder)
    return failed


def bring_back(backup: Path, stage: Path, data: Path) -> bool:
    """Put copies of the backup's ledgers into `stage`, each with new UIDVALIDITYs above all that it and the one in
    `data` have given: a client may have seen messages under UIDs that will be given again (RFC 9051 2.3.1.1). Whether
    there are any. Raises ConfigurationError, OSError."""
    wanted = names(backup)
    if not wanted:
        return False
    (stage / FOLDER).mkdir(mode=0o700)
    for name in wanted:
        try:
            _copy(backup / FOLDER / name, stage / FOLDER / name)
            _renumber(stage / FOLDER / name, _last_uid_validity(data / FOLDER / name))
        except sqlite3.Error as error:
            raise ConfigurationError(f"{backup / FOLDER / name}: cannot be brought back: {error}") from error
    synchronise(stage / FOLDER)
    return True


def _copy(origin: Path, copy: Path) -> None:
    """All rows of one moment, in one file. Raises sqlite3.Error, also for what is damaged."""
    copy.unlink(missing_ok=True)
    os.close(os.open(copy, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    with closing(_reading(origin)) as source, closing(sqlite3.connect(copy, isolation_level=None)) as target:
        source.execute("BEGIN")
        source.backup(target, pages=_PAGES)
        target.execute("PRAGMA journal_mode = DELETE")
        (verdict,) = target.execute("PRAGMA quick_check(1)").fetchone()
    if verdict != "ok":
        raise sqlite3.DatabaseError(verdict)
    synchronise(copy)


def _reading(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=_BUSY_SECONDS, isolation_level=None)


def _last_uid_validity(path: Path) -> int:
    """0 where there is none, or it cannot be read: then the clock has to do."""
    try:
        with closing(_reading(path)) as connection:
            return int(connection.execute("SELECT last FROM uid_validity").fetchone()[0])
    except (sqlite3.Error, TypeError):
        return 0


def _renumber(path: Path, last: int) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        (own,) = connection.execute("SELECT last FROM uid_validity").fetchone()
        first = max(own, last, int(time.time())) + 1
        folders = connection.execute("SELECT id FROM folder ORDER BY id").fetchall()
        numbers = [(first + position, number) for position, (number,) in enumerate(folders)]
        connection.executemany("UPDATE folder SET uid_validity = ? WHERE id = ?", numbers)
        connection.execute("UPDATE uid_validity SET last = ?", (first + len(folders),))
        connection.execute("COMMIT")
    synchronise(path)
