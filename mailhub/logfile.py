"""The log file of `[log]`: for the server's eyes only, begun anew by size and by age, with a bound on what is kept."""

from __future__ import annotations

import atexit
import grp
import os
import pwd
import signal
import sys
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from threading import get_ident
from typing import Any, Protocol

import attrs
from twisted.internet.interfaces import IReactorTime
from twisted.logger import ILogObserver, LogEvent, formatEventAsClassicLogText, formatTime
from zope.interface import implementer

from mailhub.config.settings import LogTable
from mailhub.errors import ConfigurationError
from mailhub.log import Logger, clean

_log = Logger(namespace="mailhub.log")

_DAY = 86400
# Between two looks at whether the file is still where it was, and two attempts to begin a new one. Seconds.
_LOOK_SECONDS = 1.0
_RETRY_SECONDS = 60.0
_TOGETHER = 100  # lines of one write


@attrs.define(eq=False)
class LogFile:
    """`path`, and before it `path.1` (the youngest) to `path.N` with N = `keep`.

    A new file is begun before one grows over `rotate_bytes`, and when it is `rotate_days` old (0: never for that).
    A file that somebody else has moved away (logrotate) is begun anew as well. Nothing that goes wrong here stops a
    server: what cannot be written is counted and said when it is possible again.

    `owner` (user and group) is who the server will be when it has given up root's rights.
    """

    path: Path
    rotate_bytes: int = 16 * 1024 * 1024
    rotate_days: int = 1
    keep: int = 14
    owner: tuple[int, int] | None = None
    now: Callable[[], float] = time.time
    _descriptor: int = -1
    _size: int = 0
    _begun: float = 0.0
    _looked: float = 0.0
    _try_at: float = 0.0
    _lost: int = 0

    def open(self) -> None:
        """Open it to write at its end, with a mode of 0600, and its folder where that is missing. Raises OSError."""
        folder = self.path.parent
        if not folder.is_dir():
            folder.mkdir(mode=0o750, parents=True)
            if self.owner is not None:
                os.chown(folder, *self.owner)
        self._descriptor = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        status = os.fstat(self._descriptor)
        # One that was there before may have had another mode. A device or pipe keeps its own.
        if self._is_regular(status):
            with suppress(PermissionError):
                os.fchmod(self._descriptor, 0o600)
                if self.owner is not None:
                    os.fchown(self._descriptor, *self.owner)
        self._size = status.st_size
        # When it was begun is not known of an older one: it has at least what was written last.
        self._begun = min(status.st_mtime, self.now()) if status.st_size else self.now()
        self._looked = self.now()

    def write(self, text: str) -> None:
        """Add whole lines."""
        octets = text.encode("utf-8", "backslashreplace")
        try:
            self._prepare(len(octets))
            if self._lost:
                octets = f"- [mailhub.log#error] {self._lost} lines could not be written here\n".encode() + octets
            self._write_all(octets)
            self._lost = 0
        except OSError:
            self._lost += text.count("\n")

    def flush(self) -> None:
        """Nothing is held back."""

    def close(self) -> None:
        """Let go of the file."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)

    def rotate(self) -> None:
        """Begin a new file now. Raises OSError; the old one then stays in use."""
        for number in range(self.keep, 0, -1):
            older = self._numbered(number)
            with suppress(FileNotFoundError):
                if number == self.keep:
                    older.unlink()
                else:
                    older.rename(self._numbered(number + 1))
        if self.keep:
            self.path.rename(self._numbered(1))
        else:
            self.path.unlink()
        self.close()
        self.open()

    def _numbered(self, number: int) -> Path:
        return self.path.with_name(f"{self.path.name}.{number}")

    def _prepare(self, octets: int) -> None:
        now = self.now()
        if self._descriptor < 0:
            self.open()
        elif abs(now - self._looked) >= _LOOK_SECONDS:
            self._looked = now
            if self._moved():
                self.close()
                self.open()
        too_large = self._size and self._size + octets > self.rotate_bytes
        if (too_large or self._too_old(now)) and now >= self._try_at:
            try:
                if self._is_regular(os.fstat(self._descriptor)):
                    self.rotate()
            except OSError as error:
                self._try_at = now + _RETRY_SECONDS
                self._complain(error)
                if self._descriptor < 0:
                    self.open()

    def _too_old(self, now: float) -> bool:
        """By days of the clock on the wall, so that a file has whole days."""
        return bool(self.rotate_days) and _day(now) - _day(self._begun) >= self.rotate_days

    def _moved(self) -> bool:
        try:
            return not os.path.samestat(os.stat(self.path), os.fstat(self._descriptor))
        except FileNotFoundError:
            return True

    @staticmethod
    def _is_regular(status: os.stat_result) -> bool:
        return (status.st_mode & 0o170000) == 0o100000

    def _complain(self, error: OSError) -> None:
        """In the file itself: who reads it wonders why it is so large."""
        with suppress(OSError):
            self._write_all(f"- [mailhub.log#error] no new log file can be begun: {error.strerror}\n".encode())

    def _write_all(self, octets: bytes) -> None:
        while octets:
            written = os.write(self._descriptor, octets)
            self._size += written
            octets = octets[written:]


def _day(seconds: float) -> int:
    """The number of the local day."""
    local = time.localtime(seconds)
    return (int(seconds) + local.tm_gmtoff) // _DAY


@attrs.frozen
class User:
    """Who a server becomes when it gives up root's rights."""

    uid: int
    gid: int


def find_user(user: str, group: str = "") -> User | None:
    """A user by name or number, with the user's own group where no other is given; None for "". Raises
    ConfigurationError."""
    if not user:
        if group:
            raise ConfigurationError(f"--group {group}: give --user as well")
        return None
    try:
        found = pwd.getpwuid(int(user)) if user.isdecimal() else pwd.getpwnam(user)
        uid, gid = found.pw_uid, found.pw_gid
    except (KeyError, OverflowError):
        # A number without a name neither: its groups are found by its name when rights are given up.
        raise ConfigurationError(f"--user {user}: there is no such user") from None
    try:
        if group:
            gid = int(group) if group.isdecimal() else grp.getgrnam(group).gr_gid
    except KeyError:
        raise ConfigurationError(f"--group {group}: there is no such group") from None
    return User(uid, gid)


def log_file(settings: LogTable, user: User | None) -> LogFile:
    """`[log]`, of which `file` is given."""
    assert settings.file is not None
    return LogFile(
        settings.file,
        settings.rotate_bytes,
        settings.rotate_days,
        settings.keep_files,
        owner=(user.uid, user.gid) if user is not None and os.geteuid() == 0 else None,
    )


class SupportsWrite(Protocol):
    """A file for text."""

    def write(self, text: str, /) -> object: ...
    def flush(self) -> object: ...


@implementer(ILogObserver)
class LogWriter:
    """Writes each line at once or, from `gather` to `at_once`, those of one turn of the reactor together at its end:
    each write is a system call and lets go of the interpreter lock, which costs more than the line."""

    def __init__(self, file: SupportsWrite) -> None:
        self._file = file
        self._clock: IReactorTime | None = None
        self._thread = 0  # the reactor's
        # Threads may log, too: what is put in and taken out here is in the file once.
        self._lines: deque[str] = deque()

    def __call__(self, event: LogEvent) -> None:
        """See `ILogObserver`."""
        line = log_line(event)
        if line is None:
            return
        self._lines.append(line)
        waiting = len(self._lines)
        if self._clock is None or waiting >= _TOGETHER or get_ident() != self._thread:
            self._write()
        elif waiting == 1:
            self._clock.callLater(0, self._write)

    def gather(self, clock: IReactorTime) -> None:
        """The reactor runs. On its thread."""
        self._thread = get_ident()
        self._clock = clock
        atexit.register(self._write)

    def at_once(self) -> None:
        """It may end at any moment."""
        self._clock = None
        self._write()

    def _write(self) -> None:
        lines = []
        with suppress(IndexError):
            while True:
                lines.append(self._lines.popleft())
        if lines:
            # What reads standard output may be gone: to say so there would go on for ever.
            with suppress(OSError, ValueError):
                self._file.write("".join(lines))
                self._file.flush()


def log_observer(file: LogFile) -> LogWriter:
    """What twistd hands every event. Raises ConfigurationError when the file cannot be opened."""
    try:
        file.open()
    except OSError as error:
        raise ConfigurationError(f"[log] file {file.path}: {error.strerror}") from None
    return LogWriter(file)


def terminal_observer() -> LogWriter:
    """What twistd hands every event where it logs to standard output: the same lines as twistd's own, at a fifth of the
    price."""
    return LogWriter(sys.stdout)


def rotate_by_signal(file: LogFile, reactor: Any) -> None:
    """SIGUSR1 begins a new file, as it does for twistd's own log file."""

    def rotate() -> None:
        try:
            file.rotate()
        except OSError as error:
            _log.error("no new log file can be begun: {reason:text}", reason=error.strerror)

    signal.signal(signal.SIGUSR1, lambda *_: reactor.callFromThread(rotate))


def log_line(event: LogEvent) -> str | None:
    """An event as twistd writes it. A busy server writes several of the same second, and nearly all of them are lines
    that `Logger.event` has made."""
    line, moment, level = event.get("log_line"), event.get("log_time"), event.get("log_level")
    if line is not None and moment is not None and level is not None and "log_failure" not in event:
        return f"{_moment(int(moment))} [{event.get('log_namespace', '-')}#{level.name}] {line}\n"
    text = formatEventAsClassicLogText(event)
    # Events of Twisted and of libraries have not been through our logger.
    return None if text is None else clean(text)


@lru_cache(maxsize=4)
def _moment(seconds: int) -> str:
    return formatTime(seconds)
