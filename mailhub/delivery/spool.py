"""Messages between their first octet and the answer to their last: small ones in memory, large ones in files without a
name, which go with the process whatever ends it."""

from __future__ import annotations

import os
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO, TypeVar

import attrs
from twisted.internet.defer import Deferred
from zope.interface import implementer

from mailhub.errors import MessageGone, StorageFull, StoreUnavailable
from mailhub.interfaces import IBlobReader, IBody, IHeadedBodyWriter, IThreads
from mailhub.log import Logger
from mailhub.store.octets import OctetsReader
from mailhub.store.space import is_full
from mailhub.wire.budget import Budget

T = TypeVar("T")
_log = Logger(namespace="mailhub.delivery")

IN_MEMORY = 1 << 16  # octets of a message; more go to a file
TOGETHER = 1 << 30  # octets of all messages that are arriving


@attrs.frozen(eq=False)
class Spool:
    """The messages that arrive at the same time. `folder` is where their files are made, None for the system's own;
    `room` is what all of them may have."""

    threads: IThreads
    folder: Path | None = None
    room: Budget = attrs.field(factory=lambda: Budget(TOGETHER))

    def check_space(self, size: int) -> None:
        """Raises StorageFull when there is no room for `size` more octets."""
        if size > self.room.left:
            raise StorageFull(detail="too many large messages at once")

    def new_body(self) -> SpoolWriter:
        """For one message."""
        return SpoolWriter(self)


class _File:
    """A file without a name. All its methods block; they may be called from several threads."""

    def __init__(self, folder: Path | None) -> None:
        self._lock = threading.Lock()
        self._file: BinaryIO = _made(folder)

    def put(self, octets: bytes) -> None:
        """Append octets. Raises StoreUnavailable; what comes after close() is nobody's."""
        with self._lock:
            if not self._file.closed:
                try:
                    left = memoryview(octets)
                    while left:
                        left = left[self._file.write(left) :]
                except OSError as error:
                    raise _unavailable(error) from error

    def slice(self, offset: int, length: int) -> bytes:
        """Some of them. Raises MessageGone, StoreUnavailable."""
        with self._lock:
            if self._file.closed:
                raise MessageGone(detail="read after the message's end")
            try:
                return os.pread(self._file.fileno(), length, offset)
            except OSError as error:
                raise _unavailable(error) from error

    def close(self) -> None:
        """Its octets are gone."""
        with self._lock:
            self._file.close()


def _made(folder: Path | None) -> BinaryIO:
    try:
        return tempfile.TemporaryFile(dir=folder, buffering=0)
    except OSError as error:
        raise _unavailable(error) from error


def _unavailable(error: OSError) -> StoreUnavailable:
    kind = StorageFull if is_full(error) else StoreUnavailable
    return kind(detail=f"spool: {error}")


@implementer(IBlobReader)
@attrs.frozen(eq=False)
class _Reader:
    """Reads a head that is in memory, and after it what is in a file."""

    _threads: IThreads
    _file: _File
    _head: bytes
    size: int

    async def read(self, offset: int = 0, length: int = -1) -> bytes:
        """See `IBlobReader`."""
        end = self.size if length < 0 else min(self.size, offset + length)
        head = self._head[offset:end]
        start = offset + len(head)
        if start >= end:
            return head
        rest = await self._threads.run(self._file.slice, start - len(self._head), end - start)
        return head + rest

    def close(self) -> None:
        """The message has the file."""


@implementer(IBody)
@attrs.frozen(eq=False)
class SpooledBody:
    """A whole message; good until its writer is aborted."""

    _writer: SpoolWriter
    _head: bytes
    size: int

    def open(self) -> IBlobReader:
        """Read it back."""
        return self._writer.reader(self._head)

    def discard(self) -> None:
        """Its octets are gone."""
        self._writer.abort()


@implementer(IHeadedBodyWriter)
class SpoolWriter:
    """Takes the octets of one message."""

    def __init__(self, spool: Spool) -> None:
        self._spool = spool
        self._chunks: list[bytes] = []  # which are not in the file
        self._held = 0
        self._size = 0
        self._taken = 0  # of the room
        self._file: _File | None = None
        self._over = False

    async def write(self, octets: bytes) -> None:
        """Append octets. Raises StorageFull, StoreUnavailable."""
        self._take(len(octets))
        self._size += len(octets)
        self._chunks.append(octets)
        self._held += len(octets)
        if self._held > IN_MEMORY:
            await self._flush()

    async def written(self) -> IBlobReader:
        """See `IHeadedBodyWriter`."""
        if self._file is not None:
            await self._flush()
        return self.reader(b"")

    async def finish(self, head: bytes = b"") -> SpooledBody:
        """See `IHeadedBodyWriter`."""
        self._take(len(head))
        if self._file is not None:
            await self._flush()
        return SpooledBody(self, head, len(head) + self._size)

    def reader(self, head: bytes) -> IBlobReader:
        """Of the message with this head, all of which is written."""
        if self._file is None:
            return OctetsReader(b"".join((head, *self._chunks)))
        return _Reader(self._spool.threads, self._file, head, len(head) + self._size)

    def abort(self) -> None:
        """See `IBodyWriter`."""
        self._over = True
        self._chunks.clear()
        self._spool.room.take(-self._taken)
        self._taken = 0
        file = self._file
        if file is not None:
            self._attend(file.close)

    def _take(self, octets: int) -> None:
        if not self._spool.room.take(octets):
            raise StorageFull(detail="too many large messages at once")
        self._taken += octets

    async def _flush(self) -> None:
        octets = b"".join(self._chunks)
        self._chunks, self._held = [], 0
        if self._file is None:
            file = await self._run(_File, self._spool.folder)
            if self._over:  # meanwhile
                self._attend(file.close)
                raise MessageGone(detail="the message was given up")
            self._file = file
        await self._run(self._file.put, octets)

    async def _run(self, function: Callable[..., T], *arguments: object) -> T:
        return await self._spool.threads.run(function, *arguments)

    def _attend(self, function: Callable[[], None]) -> None:
        """Have it done; nobody waits for it."""
        Deferred.fromCoroutine(self._run(function)).addErrback(
            lambda failure: _log.failure("a spooled message was not closed", failure=failure)
        )
