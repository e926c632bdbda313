"""The data folder, and who serves it."""

from __future__ import annotations

import fcntl
import os
import time
from contextlib import suppress
from pathlib import Path

import attrs

from mailhub.errors import ConfigurationError


@attrs.define(eq=False)
class DataFolder:
    """The folder that one server owns. The lock is the kernel's: it ends with the process, however that ends."""

    path: Path
    _lock: int = -1

    @property
    def _file(self) -> Path:
        return self.path / "mailhub.lock"

    def prepare(self) -> None:
        """See whether it can be used. Raises ConfigurationError, also when it is not there: a server that made it would
        stand without its mail on a volume that was not mounted."""
        if not self.path.is_dir():
            what = "is not a folder" if self.path.exists() else "is not there"
            raise ConfigurationError(
                f"data folder {self.path}: {what}: mount its volume or restore it; "
                "`mailhub account add ADDRESS` makes a new one (mkdir, where a plugin is the database)"
            )
        if not os.access(self.path, os.R_OK | os.W_OK | os.X_OK):
            raise ConfigurationError(f"data folder {self.path}: is not writable")

    def server(self) -> int | None:
        """The process that serves it now. None when nobody does, also where a killed server left its lock's file."""
        try:
            descriptor = os.open(self._file, os.O_RDONLY)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise ConfigurationError(f"{self._file}: cannot be read: {error.strerror}") from None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            return _number(descriptor)
        finally:
            os.close(descriptor)
        return None

    def check_server(self, process: int) -> None:
        """Raises ConfigurationError unless this very process holds the lock: a number alone may be that of another
        namespace, and a signal would end somebody else there."""
        if not _holds(process, self._file):
            raise ConfigurationError(
                f"data folder {self.path}: is served, but not by a process that can be seen from here"
            )

    def note_reading(self, at: float) -> None:
        """The configuration was last read then (seconds since the epoch): the time of the lock's file says so."""
        with suppress(OSError):
            os.utime(self._lock, (at, at))

    def read_at(self) -> float:
        """When the running server read its configuration last (seconds since the epoch)."""
        return self._file.stat().st_mtime

    def lock(self) -> None:
        """Become its only server. Raises ConfigurationError."""
        try:
            self._lock = os.open(self._file, os.O_RDWR | os.O_CREAT, 0o600)
            owner = self.path.stat()
            if os.geteuid() == 0:
                # Rights may be given up later, and the next start may be without them.
                os.fchown(self._lock, owner.st_uid, owner.st_gid)
        except OSError as error:
            self.unlock()
            raise ConfigurationError(f"data folder {self.path}: cannot be locked: {error.strerror}") from None
        if not _take(self._lock):
            other = _number(self._lock)
            self.unlock()
            raise ConfigurationError(
                f"data folder {self.path}: another mailhub (process {other or 'unknown'}) serves it"
            ) from None
        os.ftruncate(self._lock, 0)
        os.write(self._lock, b"%d\n" % os.getpid())

    def was_served(self) -> bool:
        """Whether it ever had a server, which a backup has not."""
        return self._file.exists()

    def forget(self) -> None:
        """Remove the lock's file, which is ours at the moment: a backup that was repaired stays a backup."""
        self._file.unlink(missing_ok=True)

    def unlock(self) -> None:
        """Let another server have it."""
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1


def _take(lock: int) -> bool:
    """Whether the lock could be had. Who only looks who serves has it for a moment, and shall not keep us from it."""
    for pause in (0.01, 0.05, 0.2, 0):
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            time.sleep(pause)
        else:
            return True
    return False


def _number(descriptor: int) -> int:
    """The process that a lock's file names; 0 where it names none yet."""
    text = os.pread(descriptor, 20, 0).strip()
    return int(text) if text.isdigit() else 0


def _holds(process: int, lock: Path) -> bool:
    if process <= 0 or not Path("/proc/self").exists():
        return process > 0
    with suppress(OSError):
        inode = lock.stat().st_ino
        words = [line.split() for line in Path("/proc/locks").read_text().splitlines()]
        if any(len(w) > 5 and (w[4], w[5].rpartition(":")[2]) == (str(process), str(inode)) for w in words):
            return True
    with suppress(OSError):
        # Where /proc shows processes alone, the command must do.
        return b"mailhub" in Path(f"/proc/{process}/cmdline").read_bytes()
    return False
