"""Room on the disk: new mail is refused while there is still enough left to delete some.

A full disk refuses deletion too, since SQLite writes to its log before it removes anything.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from pathlib import Path

from twisted.internet.interfaces import IReactorTime

from mailhub.errors import StorageFull
from mailhub.interfaces import Disk
from mailhub.log import Logger

log = Logger(namespace="mailhub.store")

FRESH_SECONDS = 1.0  # how long a measurement counts
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
        self._measured: Disk | None = None
        self._at = 0.0
        self._short = False

    def check(self, size: int = 0) -> None:
        """Raises StorageFull when `size` more octets would leave less than the reserve."""
        disk = self._disk()
        if disk is None:
            return
        free = disk.free - self._reserve(disk)
        if free < 0 or size > free:
            raise StorageFull(detail=f"{self._folder}: {disk.free} of {disk.size} octets are free")

    def _reserve(self, disk: Disk) -> float:
        return disk.size * self._reserve_percent / 100

    def _disk(self) -> Disk | None:
        now = self._clock.seconds()
        if self._measured is None or not 0 <= now - self._at < FRESH_SECONDS:
            try:
                disk = self._measure(self._folder)
            except OSError as error:
                log.warn("free space cannot be measured: {error:text}", error=str(error))
                return None
            self._measured, self._at = disk, now
            self._tell(disk)
        return self._measured

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


def is_full(error: OSError) -> bool:
    """Whether it says that the disk, or the user's share of it, is full."""
    return error.errno in _FULL
