"""A disk that can fill up and on which a process can end between any two steps, under the real SQLite database.

Steps are what changes what is there after a crash: each commit, and each body's file as it is made, written,
synchronised, moved and removed. The database's own files need no play: what it has not committed is gone when its
connection is closed.
"""

from __future__ import annotations

import errno
import os
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO, ClassVar, cast

import attrs

from mailhub.interfaces import Disk, Environment
from mailhub.store.limits import StoreLimits
from mailhub.store.space import Space
from mailhub.store.sqlite.blobs import BLOBS, Blobs
from mailhub.store.sqlite.database import Database
from mailhub.testing.life import Killed

_TEBIBYTE = 1 << 40
# Of which a disk that is `short` has so much free, in octets: less than the reserve.
_SHORT = 1 << 20


@attrs.define(eq=False)
class PlayedDisk:
    """A host's disk. It outlives the process: `steps` counts on over restarts.

    `full`: nothing can be written (ENOSPC). `short`: it can, but the reserve has begun. `calm`: the process ends at no
    step. `lose_unsynchronised()` is what a power cut does to files.
    """

    full: bool = False
    short: bool = False
    calm: bool = False
    steps: int = 0
    note: Callable[[str], object] = lambda what: None
    over: Callable[[], bool] = lambda: False
    _kills: dict[int, Callable[[str], object]] = attrs.field(factory=dict)
    _loose: dict[str, Path] = attrs.field(factory=dict)

    def measure(self, folder: Path) -> Disk:
        """What `Environment.disk` is asked."""
        free = 0 if self.full else _SHORT if self.short else _TEBIBYTE // 2
        return Disk(_TEBIBYTE, free)

    def step(self, what: str) -> None:
        """About to be taken. Raises Killed where the process ends before it."""
        if self.over():
            raise Killed
        self.steps += 1
        self.note(f"step {self.steps} {what}")
        if (kill := self._kills.pop(self.steps, None)) is not None and not self.calm:
            kill(f"step {self.steps} {what}")
            raise Killed

    def kill_at(self, step: int, kill: Callable[[str], object]) -> None:
        """Have the process end before it takes this step, by a call of `kill` (which is to call `Host.kill`)."""
        self._kills[step] = kill

    def spare(self) -> None:
        """Have it end at no step."""
        self._kills.clear()

    def write(self, what: str) -> None:
        """A step that takes room. Raises OSError (ENOSPC) where there is none."""
        self.step(what)
        if self.full:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def made(self, name: str, path: Path) -> None:
        """There is a file of which nothing is sure to be there after a power cut."""
        self._loose[name] = path

    def synchronised(self, name: str) -> None:
        """All of it is."""
        self._loose.pop(name, None)

    def lose_unsynchronised(self) -> None:
        """The power fails: files that were not synchronised are empty."""
        for path in self._loose.values():
            if path.exists():
                os.truncate(path, 0)
        self._loose.clear()


class _File:
    """An open file whose writes are steps."""

    def __init__(self, file: BinaryIO, disk: PlayedDisk) -> None:
        self._file = file
        self._disk = disk

    def write(self, octets: bytes) -> int:
        """Octets of a body."""
        self._disk.write("write body")
        return self._file.write(octets)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


class PlayedBlobs(Blobs):
    """Bodies on a played disk."""

    disk: PlayedDisk

    def create(self) -> tuple[str, BinaryIO]:
        """See `Blobs`."""
        self.disk.write("make body")
        name, file = super().create()
        self.disk.made(name, self.path(name))
        return name, cast(BinaryIO, _File(file, self.disk))

    def sync(self, name: str, file: BinaryIO) -> None:
        """See `Blobs`."""
        self.disk.step("sync body")
        super().sync(name, file)
        self.disk.synchronised(name)

    def remove(self, name: str) -> None:
        """See `Blobs`."""
        self.disk.step("remove body")
        super().remove(name)
        self.disk.synchronised(name)

    def set_aside(self, name: str, folder: Path) -> None:
        """See `Blobs`."""
        self.disk.step("set body aside")
        super().set_aside(name, folder)


class _Connection:
    """The writer's connection, whose commits are steps."""

    def __init__(self, connection: sqlite3.Connection, disk: PlayedDisk) -> None:
        self._connection = connection
        self._disk = disk

    def execute(self, statement: str, *parameters: Any) -> sqlite3.Cursor:
        """See `sqlite3.Connection`."""
        if self._disk.over():
            raise Killed
        return self._connection.execute(statement, *parameters)

    def commit(self) -> None:
        """See `sqlite3.Connection`."""
        self._disk.step("commit")
        if self._disk.full:
            raise _full()
        self._connection.commit()
        self._disk.step("after commit")

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)


def _full() -> sqlite3.OperationalError:
    error = sqlite3.OperationalError("database or disk is full")
    error.sqlite_errorcode = sqlite3.SQLITE_FULL
    return error


class PlayedDatabase(Database):
    """SQLite on the thread of the caller, without waiting for the real disk. Units that come in one turn of the clock
    are committed together."""

    _empty: ClassVar[bytes] = b""  # a database as it is made, so that only the first one's tables need to be

    def __init__(self, environment: Environment, settings: StoreLimits, disk: PlayedDisk) -> None:
        self._disk = disk
        self._raw: sqlite3.Connection | None = None
        super().__init__(environment, settings, gather=True, create=True)

    def _make_blobs(self, environment: Environment, settings: StoreLimits, space: Space) -> Blobs:
        blobs = PlayedBlobs(
            environment.data / BLOBS,
            environment.threads,
            environment.random,
            inline_limit=settings.inline_body_octets,
            durable=settings.durable,
            check_space=space.check,
        )
        blobs.disk = self._disk
        return blobs

    def _open_once(self) -> tuple[sqlite3.Connection, bool]:
        new = not self.path.exists()
        if new and self._empty:
            with os.fdopen(os.open(self.path, os.O_WRONLY | os.O_CREAT, 0o600), "wb") as file:
                file.write(self._empty)
        self._raw, unfinished = super()._open_once()
        if new and not self._empty:
            type(self)._empty = self._raw.serialize()
        return cast(sqlite3.Connection, _Connection(self._raw, self._disk)), unfinished

    def crash(self) -> None:
        """Close all files as the end of a process does: what is not committed was never there."""
        if self._raw is not None:
            self._raw.close()
        self._readers.close()
