"""What must be true of a data folder before its database is opened: only `create` makes one, nothing else ever does.

SQLite itself makes an empty database where there is none, and throws away a write-ahead log that it finds beside one.
"""

from __future__ import annotations

import os
import pwd
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from mailhub.errors import ConfigurationError
from mailhub.store.space import is_full
from mailhub.store.sqlite import schema
from mailhub.store.sqlite.blobs import BLOBS, blob_folders
from mailhub.store.sqlite.dialect import is_damage

_ADVICE = "mount its volume or restore it from a backup"
_TRY = ("BEGIN IMMEDIATE", "UPDATE uid_validity SET last = last", "COMMIT")


def refusal(path: Path, error: Exception) -> ConfigurationError:
    """What to say of a database that cannot be opened or read: all who stumble over it say the same."""
    advice = ""
    if is_full(error):
        advice = ": the disk is full, make some room"
    elif is_damage(error):
        advice = ": restore a backup, or save what can be read with `mailhub check --repair`"
    return ConfigurationError(f"{path}: cannot be opened: {error}{advice}")


def require(data: Path, *, create: bool = False) -> None:
    """Raises ConfigurationError unless there is a database, or `create` and the folder has never been in use.

    That it has been is known by what else is made with a database: the folder of bodies and SQLite's own files.
    """
    path = data / schema.FILE
    try:
        if not data.exists() and not create:
            raise ConfigurationError(
                f"data folder {data}: is not there: {_ADVICE}; `mailhub account add ADDRESS` makes one"
            )
        size = path.stat().st_size if path.exists() else -1
        if size >= 0 and not path.is_file():
            raise ConfigurationError(f"{path}: is not a file")
        left = [name for name in (f"{schema.FILE}-wal", f"{schema.FILE}-shm", BLOBS) if (data / name).exists()]
    except PermissionError as error:
        who, owner = user_name(os.geteuid()), user_name(data.stat().st_uid)
        text = f"{path}: cannot be opened by {who}: {error.strerror}: {data} belongs to {owner}"
        raise ConfigurationError(text) from None
    except OSError as error:
        raise ConfigurationError(f"{path}: cannot be opened: {error.strerror}") from None
    if size > 0:
        return
    missing = f"{path}: is {'empty (0 octets)' if size == 0 else 'not there'}"
    if left:
        raise ConfigurationError(
            f"{missing}, but {', '.join(left)} beside it: {_ADVICE}, or move the whole folder aside to begin anew"
        )
    if not create:
        raise ConfigurationError(f"{missing}: {_ADVICE}; in a new folder `mailhub account add ADDRESS` makes it")


def require_tables(connection: sqlite3.Connection, path: Path) -> None:
    """Raises ConfigurationError for a database without tables: it was being made, and that was broken off."""
    if connection.execute("SELECT 1 FROM sqlite_schema LIMIT 1").fetchone() is None:
        raise ConfigurationError(f"{path}: has no tables: {_ADVICE}, or make it with `mailhub account add ADDRESS`")


def require_bodies(connection: sqlite3.Connection, data: Path) -> None:
    """Raises ConfigurationError when the database names bodies and their folder has none, as a mount point has that
    nothing is mounted on: the queue would give up all mail in it."""
    folder = data / BLOBS
    if next(blob_folders(folder), None) is not None:
        return
    (named,) = connection.execute("SELECT count(*) FROM content WHERE blob IS NOT NULL").fetchone()
    if named:
        raise ConfigurationError(
            f"{folder}: is {'empty' if folder.is_dir() else 'not there'}, but the database names {named} bodies: "
            f"{_ADVICE}, or set those messages aside with `mailhub check --repair`"
        )


def require_rights(data: Path) -> None:
    """Raises ConfigurationError, naming the file and what to do, when this user, who is to serve the data folder,
    cannot read or write one of its files, as after a restore by root."""
    if os.path.isdir(data):
        for path in _files(data):
            if not _allowed(path):
                raise ConfigurationError(_refusal(path, data))


def require_own_rights(data: Path) -> None:
    """The same of a user to whom the folder belongs; another one is not to be given it."""
    if os.path.isdir(data) and data.stat().st_uid == os.geteuid():
        require_rights(data)


def try_write(connection: sqlite3.Connection, data: Path) -> str:
    """Write something that changes nothing. Returns what keeps it from being written just now (a full disk, another
    process's lock), nothing when all is well. Raises ConfigurationError, naming the file, when this user cannot write.
    """
    require_rights(data)
    try:
        for statement in _TRY:
            connection.execute(statement)
    except sqlite3.Error as error:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        if error.sqlite_errorcode & 0xFF in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_BUSY):
            return str(error)
        raise ConfigurationError(f"{data / schema.FILE}: cannot be written: {error}") from error
    return ""


def _files(data: Path) -> Iterator[Path]:
    """What the server writes to, and one body of each folder: they came there in the same way."""
    names = (schema.FILE, f"{schema.FILE}-wal", f"{schema.FILE}-shm", "mailhub.lock", BLOBS)
    yield data
    yield from (data / name for name in names if (data / name).exists())
    for folder in blob_folders(data / BLOBS):
        yield folder
        with os.scandir(folder) as entries:
            if (first := next(entries, None)) is not None:
                yield Path(first.path)


def _allowed(path: Path) -> bool:
    wanted = os.R_OK | os.W_OK | (os.X_OK if path.is_dir() else 0)
    return os.access(path, wanted, effective_ids=True)


def _refusal(path: Path, data: Path) -> str:
    if os.statvfs(path).f_flag & os.ST_RDONLY:
        return f"{path}: cannot be written: its file system is mounted read-only"
    user, owner = user_name(os.geteuid()), user_name(path.stat().st_uid)
    if user == owner:
        return f"{path}: cannot be written by {user}, to whom it belongs: chmod -R u+rwX {data}"
    return f"{path}: cannot be written by {user}, for it belongs to {owner}: chown -R {user} {data}"


def owner_beside_root(data: Path) -> str:
    """To whom the data belongs that root is about to serve; "" when this is not root, or the data is root's."""
    owner = data.stat().st_uid
    return user_name(owner) if os.geteuid() == 0 != owner else ""


def user_name(number: int) -> str:
    """As the system knows a user, else the number."""
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return str(number)
