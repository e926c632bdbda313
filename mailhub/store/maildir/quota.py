"""The file `maildirsize` of Maildir++: what the messages of a Maildir have together, kept by all programs that deliver
to it or remove from it. A line of limits, then a line `octets messages` for each change, which are added up
(https://www.courier-mta.org/imap/README.maildirquota.html)."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

from mailhub.store.maildir.manner import Manner, read_file, write_all

FILE = "maildirsize"
_LONG = 5120  # octets; a longer file is written anew
_READ_LIMIT = 1 << 20
_SIZE = re.compile(rb"(?:^|,)(\d{1,18})S")


class Quota:
    """The file of one Maildir. A Maildir without a limit need not have it."""

    def __init__(self, maildir: Path, manner: Manner) -> None:
        self._path = maildir / FILE
        self._manner = manner

    def limit(self) -> int:
        """What other programs have written down, in octets; 0 for no limit. Raises OSError."""
        found = _SIZE.search(read_file(self._path, _READ_LIMIT).partition(b"\n")[0])
        return int(found[1]) if found else 0

    def note(self, octets: int, messages: int, limit: int, folders: Callable[[], Iterable[Path]]) -> None:
        """So much was added, or (below 0) removed. `limit` is what is written where there is no file yet: then, and
        when the file has become long, all `folders` are counted. Raises OSError."""
        size = self._size()
        if size is None or size > _LONG or (limit and limit != self.limit()):
            self.count(limit, folders)
            return
        descriptor = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_NOFOLLOW)
        try:
            write_all(descriptor, b"%d %d\n" % (octets, messages))
        finally:
            os.close(descriptor)

    def _size(self) -> int | None:
        try:
            return os.lstat(self._path).st_size
        except FileNotFoundError:
            return None

    def count(self, limit: int, folders: Callable[[], Iterable[Path]]) -> None:
        """Write the file anew. There is none without a limit, unless others have made it. Raises OSError."""
        if not limit and self._size() is None:
            return
        limit = limit or self.limit()
        octets = messages = 0
        for folder in folders():
            for directory in ("new", "cur"):
                with suppress(FileNotFoundError, NotADirectoryError), os.scandir(folder / directory) as entries:
                    for entry in entries:
                        with suppress(FileNotFoundError):
                            if not entry.name.startswith(".") and entry.is_file(follow_symlinks=False):
                                octets += entry.stat(follow_symlinks=False).st_size
                                messages += 1
        self._manner.write(self._path, b"%dS\n%d %d\n" % (limit, octets, messages))
