"""How files of a Maildir are written, by all who write them."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from random import Random

import attrs

from mailhub.store.maildir.names import host_part

Say = Callable[[str, str], object]
"""Names what is wrong: the path, and why."""

SETTLED_NS = 2_000_000_000  # a folder that was changed so lately may be changed again without another time showing it


@attrs.frozen
class Manner:
    """`mode` of new files; folders have the right to be entered by whoever may read. `durable` False: nothing is
    synchronised, for tests. `size_limit` in octets: larger files are not served."""

    unique: Callable[[], str]
    say: Say
    mode: int = 0o600
    size_limit: int = 1 << 30
    durable: bool = True

    @property
    def folder_mode(self) -> int:
        """Of new folders."""
        return self.mode | (self.mode & 0o444) >> 2

    def synchronise(self, descriptor: int) -> None:
        """A file's octets, a folder's names."""
        if self.durable:
            os.fsync(descriptor)

    def make_folder(self, path: Path) -> None:
        """Where it is not there. Raises OSError."""
        try:
            os.mkdir(path, self.folder_mode)
        except FileExistsError:
            return
        os.chmod(path, self.folder_mode | (os.stat(path).st_mode & 0o2000))
        self.synchronise_folder(path.parent)

    def synchronise_folder(self, path: Path) -> None:
        """What was made, renamed and removed in it."""
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            self.synchronise(descriptor)
        finally:
            os.close(descriptor)

    def write(self, path: Path, octets: bytes, beside: Path | None = None) -> None:
        """Put a whole file in the place of another, at once. It is written as `beside`, which must not be there.
        Raises OSError, FileExistsError for `beside`."""
        draft = beside or path.with_name(f"{path.name}.{self.unique()}")
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, self.mode)
        try:
            try:
                os.fchmod(descriptor, self.mode)
                write_all(descriptor, octets)
                self.synchronise(descriptor)
            finally:
                os.close(descriptor)
            os.rename(draft, path)
        except BaseException:
            with suppress(OSError):
                os.unlink(draft)
            raise
        self.synchronise_folder(path.parent)


def write_all(descriptor: int, octets: bytes) -> None:
    """All of them, however many the kernel takes at a time."""
    view = memoryview(octets)
    while view:
        view = view[os.write(descriptor, view) :]


def read_file(path: Path, limit: int) -> bytes:
    """A small file that is not a link, b"" when it is not there or larger. Raises OSError."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        return b""
    with open(descriptor, "rb") as file:
        octets = file.read(limit + 1)
    return octets if len(octets) <= limit else b""


class UniqueNames:
    """Names that no other delivery has had (https://cr.yp.to/proto/maildir.html). Called from any thread."""

    def __init__(self, host: str, seconds: Callable[[], float], random: Random) -> None:
        self._host = host_part(host)
        self._seconds = seconds
        self._random = random
        self._numbers = itertools.count(1)

    def __call__(self) -> str:
        """The next one."""
        now = self._seconds()
        number, chance = next(self._numbers), self._random.getrandbits(32)
        return f"{int(now)}.M{int(now % 1 * 1e6):06}P{os.getpid()}Q{number}R{chance:08x}.{self._host}"
