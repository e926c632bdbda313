"""A consistent copy of database and bodies, taken beside a running server.

The order is what makes it consistent. Bodies are never changed, only made and removed, so those of an earlier backup
are kept and most others are copied first, while mail goes on. Then the write lock is held for an instant: nothing can
be removed while the snapshot begins, and the bodies that it names and that are not copied yet are pinned by hard links
in the data folder. Rows and pinned bodies are copied after that, again while mail goes on. The database's name is put
in its place last: whenever the copying ends, the folder holds the earlier backup or this one, whole.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import NamedTuple
from zlib import crc32

import attrs

from mailhub.errors import ConfigurationError
from mailhub.store.mirror import ledger_files
from mailhub.store.sqlite import opening, schema
from mailhub.store.sqlite.blobs import BLOBS, blob_names, blob_path

PINS = "backup-pins"  # in the data folder: bodies that a backup under way still has to copy
_LOCK = "backup.lock"  # in the data folder
_NEW = f"{schema.FILE}.new"
_PAGES = 2048  # copied in a step: 8 MiB
_BLOCK = 1 << 20  # octets copied at a time
_BUSY_SECONDS = 30

Progress = Callable[[str, int, int], None]
"""What is being done, how much of it is done, how much there is."""


@attrs.define
class BackupReport:
    """What a backup holds now. `missing` are bodies that the data folder itself has not, `damaged` those whose octets
    are not what arrived; they are copied all the same. `ledgers` says which ledgers of other stores could not be
    copied."""

    messages: int = 0
    bodies: int = 0
    octets: int = 0
    new_bodies: int = 0
    removed_bodies: int = 0
    missing: list[str] = attrs.field(factory=list)
    damaged: list[str] = attrs.field(factory=list)
    ledgers: list[str] = attrs.field(factory=list)


class Named(NamedTuple):
    """What a row says of a body that is a file of `size` octets. The message in it begins at `start`; rows of the first
    schema have no checksum of it."""

    size: int
    checksum: int | None
    start: int


def nothing(what: str, done: int, whole: int) -> None:
    """Nobody looks on."""


def backup(data: Path, target: Path, progress: Progress = nothing) -> BackupReport:
    """Bring the backup in the folder `target` up to date. Raises ConfigurationError, OSError."""
    opening.require(data)
    with _alone(data):
        report = BackupReport()
        try:
            with closing(schema.connect(data / schema.FILE, _BUSY_SECONDS)) as source:
                named = named_bodies(source)
                _prepare(data, target)
                _copy_bodies(data / BLOBS, target / BLOBS, named, report, progress, tolerant=True)
                _take_snapshot(source, data, target, progress)
            with closing(schema.connect_reader(target / _NEW, _BUSY_SECONDS, read_only=True)) as copy:
                named = named_bodies(copy)
            _copy_bodies(data / PINS, target / BLOBS, named, report, progress)
            _synchronise(target / BLOBS)
            _verify(target, named, report)
        except sqlite3.Error as error:
            raise ConfigurationError(f"{data / schema.FILE}: cannot be backed up: {error}") from error
        for left in ("-wal", "-shm"):
            # Of the earlier one, when it was repaired: SQLite would take them for the new one's.
            (target / f"{schema.FILE}{left}").unlink(missing_ok=True)
        report.ledgers = ledger_files.back_up(data, target)
        os.replace(target / _NEW, target / schema.FILE)
        synchronise_folder(target)
        _remove_others(target / BLOBS, named, report)
        return report


def _prepare(data: Path, target: Path) -> None:
    inside = target.resolve()
    if inside == data.resolve() or data.resolve() in inside.parents or inside in data.resolve().parents:
        raise ConfigurationError(f"{target}: a backup needs a folder of its own, not one with the data")
    if target.exists() and not target.is_dir():
        raise ConfigurationError(f"{target}: is not a folder")
    known = {schema.FILE, _NEW, BLOBS}
    if target.is_dir() and not known & set(os.listdir(target)) and any(target.iterdir()):
        raise ConfigurationError(f"{target}: has other files than those of a backup; name an empty or a new folder")
    if (target / "mailhub.lock").exists():
        raise ConfigurationError(f"{target}: is the data folder of a server, not a backup")
    target.mkdir(mode=0o700, parents=True, exist_ok=True)
    target.chmod(0o700)
    (target / BLOBS).mkdir(mode=0o700, exist_ok=True)


@contextmanager
def _alone(data: Path) -> Iterator[None]:
    """One backup at a time; what one that was killed had pinned is let go."""
    descriptor = os.open(data / _LOCK, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        _like_folder(data / _LOCK, data)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise ConfigurationError(f"data folder {data}: another backup is under way") from None
        shutil.rmtree(data / PINS, ignore_errors=True)
        try:
            yield
        finally:
            shutil.rmtree(data / PINS, ignore_errors=True)
    finally:
        os.close(descriptor)


def _like_folder(path: Path, folder: Path) -> None:
    """Root's files beside the data belong to the data's owner."""
    if os.geteuid() == 0:
        owner = folder.stat()
        os.chown(path, owner.st_uid, owner.st_gid)


def content_column(connection: sqlite3.Connection, name: str, otherwise: str) -> str:
    """How to ask for a content's column, which the first schemas do not have."""
    columns = {row[1] for row in connection.execute("PRAGMA table_info(content)")}
    return name if name in columns else otherwise


def named_bodies(connection: sqlite3.Connection) -> dict[str, Named]:
    """The bodies that are files, by name."""
    checksum = content_column(connection, "checksum", "NULL")
    start = content_column(connection, "start", "0")
    rows = connection.execute(f"SELECT blob, {start} + size, {checksum}, {start} FROM content WHERE blob IS NOT NULL")
    return {name: Named(*values) for name, *values in rows}


def _has(path: Path, size: int) -> bool:
    with suppress(FileNotFoundError):
        return path.stat().st_size == size
    return False


def _copy_bodies(
    source: Path,
    target: Path,
    wanted: Mapping[str, Named],
    report: BackupReport,
    progress: Progress,
    *,
    tolerant: bool = False,
) -> None:
    """Copy what is not there in its full size. Where `tolerant`, a body may have gone meanwhile with its message."""
    lacking = {name: body for name, body in wanted.items() if not _has(blob_path(target, name), body.size)}
    whole, done = sum(body.size for body in lacking.values()), 0
    for name, (size, checksum, start) in lacking.items():
        origin = blob_path(source, name) if tolerant else source / name
        try:
            if checksum not in (copy_file(origin, blob_path(target, name), start), None):
                report.damaged.append(name)
            report.new_bodies += 1
        except FileNotFoundError:
            if not tolerant:
                report.missing.append(name)
        done += size
        progress("bodies", done, whole)


def copy_file(origin: Path, copy: Path, start: int = 0) -> int:
    """Whole or not at all. Returns the CRC-32 of the octets from `start` on."""
    copy.parent.mkdir(mode=0o700, exist_ok=True)
    new = copy.with_name(f".{copy.name}")
    with open(origin, "rb") as reader, open(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as writer:
        checksum = 0
        reader.seek(start)
        writer.seek(start)
        while block := reader.read(_BLOCK):
            checksum = crc32(block, checksum)
            writer.write(block)
        writer.flush()
        os.fsync(writer.fileno())
    os.replace(new, copy)
    return checksum


def _take_snapshot(source: sqlite3.Connection, data: Path, target: Path, progress: Progress) -> None:
    """Copy all rows of one moment, and pin the bodies that they name and the backup has not."""
    new = target / _NEW
    for leftover in (new, new.with_name(f"{_NEW}-journal")):
        leftover.unlink(missing_ok=True)
    with closing(schema.connect(data / schema.FILE, _BUSY_SECONDS)) as lock:
        # While this is held, no row is removed, and so no body of a row that the snapshot has.
        lock.execute("BEGIN IMMEDIATE")
        source.execute("BEGIN")
        named = named_bodies(source)
        _pin(data, (name for name, body in named.items() if not _has(blob_path(target / BLOBS, name), body.size)))
        lock.execute("ROLLBACK")
    os.close(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    with closing(sqlite3.connect(new, isolation_level=None)) as copy:
        # The open transaction keeps all steps on one snapshot, whatever is written meanwhile.
        source.backup(copy, pages=_PAGES, progress=lambda _, left, whole: progress("rows", whole - left, whole))
        source.execute("COMMIT")
        copy.execute("PRAGMA journal_mode = DELETE")  # one file, readable where nothing can be written
    synchronise_folder(new)


def _pin(data: Path, names: Iterable[str]) -> None:
    folder = data / PINS
    folder.mkdir(mode=0o700)
    _like_folder(folder, data)
    for name in names:
        origin = blob_path(data / BLOBS, name)
        with suppress(FileNotFoundError):  # lost before: told when it is to be copied
            try:
                os.link(origin, folder / name)
            except OSError:
                if not origin.exists():
                    continue
                shutil.copyfile(origin, folder / name)  # a file system without hard links


def _verify(target: Path, named: Mapping[str, Named], report: BackupReport) -> None:
    """Look over what was written. Raises ConfigurationError when it cannot be used."""
    with closing(schema.connect_reader(target / _NEW, _BUSY_SECONDS, read_only=True)) as copy:
        (verdict,) = copy.execute("PRAGMA quick_check(1)").fetchone()
        if verdict != "ok":
            raise ConfigurationError(f"{target / _NEW}: the copy is damaged, the earlier backup stays: {verdict}")
        (report.messages,) = copy.execute("SELECT count(*) FROM message").fetchone()
        (report.octets,) = copy.execute("SELECT coalesce(sum(size), 0) FROM content").fetchone()
    report.damaged = [name for name in dict.fromkeys(report.damaged) if name in named]
    known = {*report.missing, *report.damaged}
    for name, body in named.items():
        if name not in known and not _has(blob_path(target / BLOBS, name), body.size):
            report.missing.append(name)
    report.bodies = len(named) - len(report.missing)


def _remove_others(folder: Path, wanted: Mapping[str, Named], report: BackupReport) -> None:
    """Bodies of earlier backups that nothing names now, and what an interrupted copy left."""
    for name in blob_names(folder) - wanted.keys():
        blob_path(folder, name).unlink(missing_ok=True)
        report.removed_bodies += 1
    for part in folder.iterdir():
        for leftover in part.glob(".*"):
            leftover.unlink(missing_ok=True)


def synchronise_folder(path: Path) -> None:
    """Have a file's octets, or a folder's names, on disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _synchronise(folder: Path) -> None:
    for part in folder.iterdir():
        if part.is_dir():
            synchronise_folder(part)
    synchronise_folder(folder)
