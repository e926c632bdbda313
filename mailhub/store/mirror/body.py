"""Bodies on their way into a source: small ones in memory, large ones in a file without a name."""

from __future__ import annotations

import mmap
import tempfile
from pathlib import Path
from typing import IO
from zlib import crc32

from zope.interface import Attribute, implementer

from mailhub.interfaces import IBlobReader, IBody, IBodyWriter, IThreads
from mailhub.message.digest import digest
from mailhub.message.record import Digest
from mailhub.store.octets import OctetsReader

IN_MEMORY = 1 << 20  # octets; more go to a file
_SOON = 1 << 16  # octets that are scanned on the reactor thread


class IScannedBody(IBody):
    """A body whose octets were looked at."""

    digest: Digest = Attribute("What is to be known of them.")
    checksum: int = Attribute("Their CRC-32.")


@implementer(IScannedBody)
class MirrorBody:
    """A finished body in memory."""

    def __init__(self, octets: bytes) -> None:
        self._octets = octets
        self.size = len(octets)
        self.digest = digest(octets)
        self.checksum = crc32(octets)

    def octets(self) -> bytes:
        """All of them."""
        return self._octets

    def open(self) -> IBlobReader:
        """Read it back."""
        return OctetsReader(self._octets)

    def discard(self) -> None:
        """It goes when nobody refers to it."""


@implementer(IScannedBody)
class FiledBody:
    """A finished body in a file without a name, which goes with it whatever ends the process."""

    def __init__(self, file: IO[bytes], threads: IThreads) -> None:
        self._file = file
        self._threads = threads
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as octets:
            self.size = len(octets)
            self.digest = digest(octets)
            self.checksum = crc32(octets)

    def octets(self) -> bytes:
        """All of them; blocks."""
        return self.slice(0, self.size)

    def slice(self, offset: int, length: int) -> bytes:
        """Some of them; blocks."""
        with mmap.mmap(self._file.fileno(), 0, access=mmap.ACCESS_READ) as octets:
            return octets[offset : offset + length]

    def open(self) -> IBlobReader:
        """Read it back."""
        return FileReader(self, self._threads)

    def discard(self) -> None:
        """Close the file; its space is free then."""
        self._file.close()


@implementer(IBlobReader)
class FileReader:
    """Reads a body in a file."""

    def __init__(self, body: FiledBody, threads: IThreads) -> None:
        self._body = body
        self._threads = threads
        self.size = body.size

    async def read(self, offset: int = 0, length: int = -1) -> bytes:
        """A slice."""
        return await self._threads.run(self._body.slice, offset, self.size if length < 0 else length)

    def close(self) -> None:
        """The body has the file."""


@implementer(IBodyWriter)
class MirrorBodyWriter:
    """Gathers octets; `folder` is where a file is made, None for the system's own."""

    def __init__(self, threads: IThreads, folder: Path | None = None) -> None:
        self._threads = threads
        self._folder = folder
        self._chunks: list[bytes] = []
        self._held = 0
        self._file: IO[bytes] | None = None

    async def write(self, octets: bytes) -> None:
        """Append octets."""
        self._chunks.append(octets)
        self._held += len(octets)
        if self._held > IN_MEMORY:
            chunks, self._chunks, self._held = self._chunks, [], 0
            await self._threads.run(self._put, chunks)

    def _put(self, chunks: list[bytes]) -> None:
        if self._file is None:
            self._file = tempfile.TemporaryFile(dir=self._folder)  # noqa: SIM115
        self._file.writelines(chunks)

    async def finish(self) -> MirrorBody | FiledBody:
        """The whole body."""
        chunks, self._chunks = self._chunks, []
        if self._file is not None:
            return await self._threads.run(self._filed, chunks)
        octets = b"".join(chunks)
        return MirrorBody(octets) if len(octets) <= _SOON else await self._threads.run(MirrorBody, octets)

    def _filed(self, chunks: list[bytes]) -> FiledBody:
        self._put(chunks)
        file, self._file = self._file, None
        assert file is not None, "there are chunks in it"
        file.flush()
        return FiledBody(file, self._threads)

    def abort(self) -> None:
        """Throw away what was written."""
        self._chunks.clear()
        if self._file is not None:
            self._file.close()
            self._file = None
