"""Room on the disk: new mail is refused while there is still enough left to delete some.

A full disk refuses deletion too, since SQLite writes to its log before it removes anything. Where others fill it, a
file is given up that has been kept for that.
"""

from __future__ import annotations

import errno
import os
import sqlite3
from collections.abc import Callable
from math import inf
from pathlib import Path

from twisted.internet.interfaces import IReactorTime

from mailhub.errors import StorageFull
from mailhub.interfaces import Disk
from mailhub.log import Logger

log = Logger(namespace="mailhub.store")

FRESH_SECONDS = 1.0  # how long a measurement counts
KEPT = "mailhub.reserve"  # in the data folder: room for the changes that delete
KEPT_OCTETS = 8 * 1024 * 1024  # and never more than the reserve
_FULL = (errno.ENOSPC, errno.EDQUOT)


class Space:
    """The disk of a folder. `check` may be called from any thread; it makes one system call a second at most."""

    def __init__(
        self, folder: Path, measure: Callable[[Path], Disk], clock: IReactorTime, reserve_percent: float
    ) -> None:
        self._folder = folder
        self._measure = measure
        self._clock = clock
        self._reserve_percent = reserve_percent
        self._free = 0.0  # octets beside the reserve; less than nothing where that has begun
        self._at = -inf
        self._short = False

    def check(self, size: int = 0) -> None:
        """Raises StorageFull when `size` more octets would leave less than the reserve."""
        if not 0 <= self._clock.seconds() - self._at < FRESH_SECONDS:
            self._look()
        if self._free < size:
            raise StorageFull(detail=f"{self._folder}: {self._free:.0f} octets are free beside the reserve")

    def keep(self) -> None:
        """In the writer's thread: make the file that give_up() removes, where it is not there and there is room."""
        path = self._folder / KEPT
        try:
            disk = self._measure(self._folder)
            size = min(KEPT_OCTETS, int(self._reserve(disk)))
            if not size or path.exists() or disk.free < self._reserve(disk) + size:
                return
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            try:
                os.posix_fallocate(descriptor, 0, size)
            finally:
                os.close(descriptor)
        except OSError as error:
            log.warn("no room is kept for deleting: {error:text}", error=str(error))

    def give_up(self) -> bool:
        """In a thread: make room on a disk that is wholly full. False when there is nothing left to give."""
        try:
            os.unlink(self._folder / KEPT)
        except OSError:
            return False
        log.error("the disk is full: the room kept for deleting is given up: folder={folder}", folder=str(self._folder))
        return True

    def _reserve(self, disk: Disk) -> float:
        return disk.size * self._reserve_percent / 100

    def _look(self) -> None:
        """Where nothing can be said of the disk, there is room, and it is asked again."""
        now = self._clock.seconds()
        try:
            disk = self._measure(self._folder)
        except OSError as error:
            log.warn("free space cannot be measured: {error:text}", error=str(error))
            self._free, self._at = inf, -inf
            return
        self._free, self._at = disk.free - self._reserve(disk), now
        self._tell(disk)

    def _tell(self, disk: Disk) -> None:
        short = disk.free < self._reserve(disk)
        if short == self._short:
            return
        self._short = short
        where = {"folder": str(self._folder), "free": disk.free, "size": disk.size}
        if short:
            log.error("the disk is all but full, new mail is refused: folder={folder} free={free} of={size}", **where)
        else:
            log.info("the disk has room again: folder={folder} free={free} of={size}", **where)


def is_full(error: BaseException | None) -> bool:
    """Whether it says that the disk, or the user's share of it, is full."""
    if isinstance(error, sqlite3.Error):
        code = getattr(error, "sqlite_errorcode", 0)
        return code & 0xFF == sqlite3.SQLITE_FULL or code == sqlite3.SQLITE_IOERR_SHMSIZE
    return isinstance(error, OSError) and error.errno in _FULL
