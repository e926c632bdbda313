"""The three directories of a Maildir folder, opened so that no link in it leads elsewhere."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mailhub.store.maildir.manner import Manner

_OPEN = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


class Directories:
    """Descriptors of new, cur and tmp, each opened when it is first asked for. What is missing is made, but for cur:
    without it there is no folder, and what was in it is away with a volume."""

    def __init__(self, path: Path, descriptor: int, manner: Manner) -> None:
        self._path = path
        self._descriptor = descriptor
        self._manner = manner
        self._open: dict[str, int] = {}

    def __getitem__(self, name: str) -> int:
        if name not in self._open:
            try:
                try:
                    self._open[name] = self._opened(name)
                except FileNotFoundError:
                    if name == "cur":
                        raise
                    self._manner.make_folder(self._path / name)
                    self._open[name] = self._opened(name)
            except OSError as error:
                raise OSError(error.errno, error.strerror, str(self._path / name)) from error
        return self._open[name]

    def _opened(self, name: str) -> int:
        return os.open(name, _OPEN | os.O_NOFOLLOW, dir_fd=self._descriptor)

    def synchronise(self) -> None:
        """The names in all that were asked for."""
        for descriptor in self._open.values():
            self._manner.synchronise(descriptor)

    def close(self) -> None:
        """All of them."""
        for descriptor in self._open.values():
            os.close(descriptor)


@contextmanager
def opened(path: Path, manner: Manner, *, link: bool = False) -> Iterator[Directories]:
    """A folder's directories. `link`: it may itself be reached by one. Raises OSError."""
    descriptor = os.open(path, _OPEN | (0 if link else os.O_NOFOLLOW))
    try:
        directories = Directories(path, descriptor, manner)
        try:
            yield directories
        finally:
            directories.close()
    finally:
        os.close(descriptor)
