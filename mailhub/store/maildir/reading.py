"""Reading a message's file piece by piece."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator

from zope.interface import implementer

from mailhub.interfaces import IBlobReader, IThreads
from mailhub.store.maildir.line_ends import BLOCK, with_crlf
from mailhub.store.maildir.manner import write_all
from mailhub.store.mirror.body import IN_MEMORY
from mailhub.store.octets import OctetsReader


def reader(descriptor: int, size: int, threads: IThreads, *, exact: bool) -> IBlobReader:
    """For a message in an open file, which is read as it is, or with CRLF. Blocks. Raises OSError."""
    if size <= IN_MEMORY:
        with open(descriptor, "rb") as file:
            octets = file.read(IN_MEMORY)
        return OctetsReader(octets if exact else b"".join(with_crlf([octets])))
    if not exact:
        descriptor, size = _as_crlf(descriptor)
    return FileReader(descriptor, size, threads)


def _as_crlf(descriptor: int) -> tuple[int, int]:
    """A file without a name that has a message as it is sent, and its size; the first descriptor is closed."""
    try:
        with tempfile.TemporaryFile() as file:
            copy = os.dup(file.fileno())
        try:
            for block in with_crlf(_blocks(descriptor)):
                write_all(copy, block)
            return copy, os.fstat(copy).st_size
        except BaseException:
            os.close(copy)
            raise
    finally:
        os.close(descriptor)


def _blocks(descriptor: int) -> Iterator[bytes]:
    while block := os.read(descriptor, BLOCK):
        yield block


@implementer(IBlobReader)
class FileReader:
    """Reads a file that stays readable when its name goes."""

    def __init__(self, descriptor: int, size: int, threads: IThreads) -> None:
        self._descriptor = descriptor
        self._threads = threads
        self.size = size

    async def read(self, offset: int = 0, length: int = -1) -> bytes:
        """A slice."""
        rest = max(0, self.size - offset)
        return await self._threads.run(self._read, offset, rest if length < 0 else min(length, rest))

    def _read(self, offset: int, length: int) -> bytes:
        parts = []
        while length and (part := os.pread(self._descriptor, length, offset)):
            parts.append(part)
            offset, length = offset + len(part), length - len(part)
        return b"".join(parts)

    def close(self) -> None:
        """The file goes when it has no name."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)

    def __del__(self) -> None:
        self.close()
