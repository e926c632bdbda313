"""Bodies: small ones stay in memory until their row is written, large ones go to a file while they arrive.

A message whose head is given at its end leaves room for it in front: the file's octets before the message are a hole,
and mean nothing.

A file is complete and on disk, with the entry in its folder, before a row names it; it is unlinked after the commit
that removed the row. A crash in between leaves files that no row names, and so does a database that was restored to an
older state: the next start sets them aside in `lost+found/`, since only a person can tell the two apart; so does a
server with those that it finds unnamed for a day.
"""

from __future__ import annotations

import contextlib
import errno
import mmap
import os
import re
import shutil
import threading
from collections.abc import Callable, Collection, Iterator
from collections.abc import Set as AbstractSet
from pathlib import Path
from random import Random
from typing import BinaryIO, TypeVar
from zlib import crc32

from twisted.internet.defer import Deferred
from zope.interface import implementer

from mailhub.errors import MessageDamaged, MessageGone, StorageFull, StoreUnavailable
from mailhub.interfaces import IBlobReader, IBody, IHeadedBodyWriter, IThreads
from mailhub.log import Logger
from mailhub.message.digest import digest
from mailhub.message.record import Digest
from mailhub.store.octets import OctetsReader
from mailhub.store.space import is_full

log = Logger(namespace="mailhub.store")

T = TypeVar("T")

WRITE_BLOCK = 128 * 1024  # octets gathered before a thread writes them
BLOCK = 1 << 20  # octets of a file read at a time
BLOBS = "blobs"  # the folder's name in the data folder
LOST_AND_FOUND = "lost+found"  # beside it: what nothing refers to any more

_FOLDER_NAME = re.compile("[0-9a-f]{2}")
_FILE_NAME = re.compile("[0-9a-f]{32}")


def lost_and_found(data: Path) -> Path:
    """The folder in a data folder for what nothing refers to any more. Where the data folder is a volume's root, a
    file system's own `lost+found` may stand there, which is root's alone."""
    folder = data / LOST_AND_FOUND
    ours = not folder.exists() or os.access(folder, os.W_OK | os.X_OK, effective_ids=True)
    return folder if ours else data / f"{LOST_AND_FOUND}.mailhub"


def link_or_copy(origin: Path, target: Path, start: int = 0) -> None:
    """Give a file a second name, or make a copy on disk where that is not possible: the bodies may be on a volume of
    their own, or `start` in the file. Raises OSError."""
    try:
        if not start:
            os.link(origin, target)
            return
    except FileNotFoundError:
        raise
    except OSError:
        pass
    with open(origin, "rb") as reader, open(target, "xb") as writer:
        reader.seek(start)
        shutil.copyfileobj(reader, writer)
        writer.flush()
        os.fsync(writer.fileno())


def blob_path(folder: Path, name: str) -> Path:
    """Where the file of this name stands."""
    return folder / name[:2] / name


def blob_folders(folder: Path) -> Iterator[Path]:
    """The folders that have bodies, or had some. Others, such as a file system's own lost+found, are not ours."""
    if folder.is_dir():
        with os.scandir(folder) as entries:
            for entry in entries:
                if _FOLDER_NAME.fullmatch(entry.name) and entry.is_dir(follow_symlinks=False):
                    yield Path(entry.path)


def _private(path: str, flags: int) -> int:
    """Opens for nobody but us, whatever the umask: these are people's letters."""
    return os.open(path, flags, 0o600)


def blob_names(folder: Path) -> set[str]:
    """Every body there is."""
    found: set[str] = set()
    for part in blob_folders(folder):
        found.update(name for name in os.listdir(part) if _FILE_NAME.fullmatch(name) and name.startswith(part.name))
    return found


class Blobs:
    """The folder of files. A name is 32 hexadecimal digits; the first two are its folder."""

    def __init__(
        self,
        folder: Path,
        threads: IThreads,
        random: Random,
        *,
        inline_limit: int,
        durable: bool,
        check_space: Callable[[], object] = lambda: None,
    ) -> None:
        self.folder = folder
        self.threads = threads
        self.inline_limit = inline_limit
        self.check_space = check_space  # raises StorageFull; called in threads
        self._random = random
        self._pending: set[str] = set()  # of bodies that no commit has decided on
        self._durable = durable

    def path(self, name: str) -> Path:
        """Where the file of this name stands."""
        return blob_path(self.folder, name)

    def create(self) -> tuple[str, BinaryIO]:
        """Open a new file."""
        while True:
            name = f"{self._random.getrandbits(128):032x}"
            path = self.path(name)
            if not path.parent.is_dir():
                path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                self.sync_folder(self.folder)
            # A random generator that was seeded again gives the same names again.
            with contextlib.suppress(FileExistsError):
                self._pending.add(name)
                return name, open(path, "xb+", buffering=0, opener=_private)

    def sync(self, name: str, file: BinaryIO) -> None:
        """Have the octets and the name on disk."""
        if self._durable:
            os.fsync(file.fileno())
            self.sync_folder(self.path(name).parent)

    def sync_folder(self, folder: Path) -> None:
        """Have the names in a folder on disk."""
        if not self._durable:
            return
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def remove(self, name: str) -> None:
        """Unlink it; fine when it is gone already."""
        self._pending.discard(name)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.path(name))

    def set_aside(self, name: str, folder: Path) -> None:
        """Move a file to a folder beside ours. What is there under this name already is kept."""
        target, number = folder / name, 1
        while target.exists():
            number += 1
            target = folder / f"{name}.{number}"
        try:
            os.rename(self.path(name), target)
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
            link_or_copy(self.path(name), target)
            os.unlink(self.path(name))

    def committed(self, name: str) -> None:
        """A row names it now."""
        self._pending.discard(name)

    def older_than(self, moment: float) -> list[str]:
        """Files that nothing was written to since (seconds since the epoch), without those that still wait for a commit
        of this process. Raises OSError."""
        found = []
        for name in blob_names(self.folder) - self._pending.copy():
            with contextlib.suppress(FileNotFoundError):
                if self.path(name).stat().st_mtime < moment:
                    found.append(name)
        return found

    def set_others_aside(self, known: AbstractSet[str], folder: Path) -> int:
        """At start: move all files but the known ones to a folder. Returns how many. Raises OSError."""
        others = blob_names(self.folder) - known
        self.set_all_aside(others, folder)
        return len(others)

    def set_all_aside(self, others: Collection[str], folder: Path) -> None:
        """Move files to a folder beside ours. Raises OSError."""
        if others:
            folder.mkdir(mode=0o700, exist_ok=True)
            for name in others:
                self.set_aside(name, folder)
            self.sync_folder(folder)
            self.sync_folder(folder.parent)
            for part in {self.path(name).parent for name in others}:
                self.sync_folder(part)

    def new_body(self, head_limit: int = 0) -> BodyWriter:
        """A writer for a new body, with room for a head of up to so many octets."""
        return BodyWriter(self, head_limit)

    def own(self, body: IBody) -> Body:
        """The body as what a writer of ours made. Raises TypeError."""
        if not isinstance(body, Body):
            raise TypeError("the body comes from another store")
        return body

    def open(self, name: str, size: int, start: int = 0, offset: int = 0, checksum: int | None = None) -> IBlobReader:
        """See `open_blob`."""
        return open_blob(self, name, size, start, offset, checksum)


@implementer(IBlobReader)
class FileReader:
    """Reads a file in threads. An open file stays readable when it is unlinked."""

    def __init__(self, threads: IThreads, file: BinaryIO, size: int, start: int = 0) -> None:
        self._threads = threads
        self._file = file
        self._start = start
        self._lock = threading.Lock()
        self.size = size - start

    async def read(self, offset: int = 0, length: int = -1) -> bytes:
        """One hop to a thread. Raises StoreUnavailable, MessageGone after close()."""
        available = max(self.size - offset, 0)
        wanted = available if length < 0 else min(length, available)
        return await self._threads.run(self._read, self._start + offset, wanted) if wanted else b""

    def _read(self, offset: int, length: int) -> bytes:
        # The lock keeps close() from giving the descriptor to another file while it is read from.
        with self._lock:
            if self._file.closed:
                raise MessageGone(detail="read after close")
            try:
                octets = os.pread(self._file.fileno(), length, offset)
            except OSError as error:
                raise StoreUnavailable(detail=f"blob: {error}") from error
        if len(octets) < length:
            raise StoreUnavailable(detail="blob: file is shorter than its row says")
        return octets

    def close(self) -> None:
        """Close the file, after a read that is under way."""
        if self._lock.acquire(blocking=False):
            self._file.close()
            self._lock.release()
        else:
            unattended(self._threads, self._close_later)

    def _close_later(self) -> None:
        with self._lock:
            self._file.close()


@implementer(IBlobReader)
class PendingReader:
    """Reads the file of a body that is not committed yet; opens it at the first read."""

    def __init__(self, blobs: Blobs, name: str, size: int, start: int) -> None:
        self._blobs = blobs
        self._name = name
        self._start = start
        self._reader: FileReader | None = None
        self._closed = False
        self.size = size

    async def read(self, offset: int = 0, length: int = -1) -> bytes:
        """Raises MessageGone when the body was discarded."""
        if self._closed:
            raise MessageGone(detail="read after close")
        if self._reader is None:
            try:
                reader = await self._blobs.threads.run(open_blob, self._blobs, self._name, self.size, self._start)
            except MessageDamaged:
                raise MessageGone(detail="the body was discarded") from None
            if self._reader is not None or self._closed:
                reader.close()
            else:
                self._reader = reader
        if self._reader is None:
            raise MessageGone(detail="read after close")
        return await self._reader.read(offset, length)

    def close(self) -> None:
        """Close the file if it was opened."""
        self._closed = True
        if self._reader is not None:
            self._reader.close()


def open_blob(
    blobs: Blobs, name: str, size: int, start: int = 0, offset: int = 0, checksum: int | None = None
) -> FileReader:
    """In a thread: open the file of a message of `size` octets that starts at `start`, to be read from its octet
    `offset`. Raises MessageDamaged when it is not there, not of this size or, where a checksum is given, not what
    arrived."""
    path = blobs.path(name)
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        raise MessageDamaged(detail=f"{path} is missing") from None
    except OSError as error:
        raise StoreUnavailable(detail=f"blob: {error}") from error
    found = os.fstat(descriptor).st_size
    if found != start + size:
        os.close(descriptor)
        raise MessageDamaged(detail=f"{path} has {found} octets instead of {start + size}")
    if checksum is not None and sum_of_file(descriptor, start) != checksum:
        os.close(descriptor)
        raise MessageDamaged(detail=f"{path} is not what arrived")
    return FileReader(blobs.threads, open(descriptor, "rb", buffering=0), start + size, start + offset)


def sum_of_file(descriptor: int, start: int = 0) -> int:
    """The CRC-32 of an open file's octets from `start` on. Raises OSError."""
    total, offset = 0, start
    while block := os.pread(descriptor, BLOCK, offset):
        total = crc32(block, total)
        offset += len(block)
    return total


def _write_all(file: BinaryIO, octets: bytes) -> None:
    left = memoryview(octets)
    while left:
        left = left[file.write(left) :]


@implementer(IBody)
class Body:
    """A finished body: its octets, or the name of its file and where it starts in it. It is for one commit.

    While a commit is under way discard() only takes note: the file goes if the commit fails.
    """

    def __init__(
        self, blobs: Blobs, digest: Digest, octets: bytes | None, blob: str | None, checksum: int, start: int = 0
    ) -> None:
        self._blobs = blobs
        self.digest = digest
        self.checksum = checksum
        self.size = digest.size
        self.octets = octets
        self.blob = blob
        self.start = start
        self._claimed = False
        self._committed = False
        self._discarded = False

    def open(self) -> IBlobReader:
        """Read it back."""
        if self.blob is None:
            return OctetsReader(self.octets or b"")
        return PendingReader(self._blobs, self.blob, self.size, self.start)

    def claim(self) -> None:
        """A commit begins."""
        if self._claimed or self._committed or self._discarded:
            raise RuntimeError("a body can be committed once, and not after discard()")
        self._claimed = True

    def settle(self, committed: bool) -> None:
        """The commit has ended. Unless it kept the body, that can be committed again, and should be discarded."""
        self._claimed = False
        self._committed = committed
        if committed and self.blob is not None:
            self._blobs.committed(self.blob)
        if self._discarded and not committed:
            self._remove()

    def discard(self) -> None:
        """Forget it. Harmless after a commit."""
        if not self._discarded and not self._committed:
            self._discarded = True
            if not self._claimed:
                self._remove()

    def _remove(self) -> None:
        self.octets = None
        if self.blob is not None:
            unattended(self._blobs.threads, self._blobs.remove, self.blob)  # takes long for a large file


def unattended(threads: IThreads, call: Callable[..., object], *args: object) -> None:
    """Run a clean-up in a thread; nobody waits for it. One that fails is left to the next start."""

    async def attend() -> None:
        try:
            await threads.run(call, *args)
        except Exception as error:
            log.warn("clean-up failed, the next start does it: {error:text}", error=str(error))

    Deferred.fromCoroutine(attend())


@implementer(IHeadedBodyWriter)
class BodyWriter:
    """Takes octets as they arrive. At most `inline_limit` or WRITE_BLOCK octets are held, plus what one call brings."""

    def __init__(self, blobs: Blobs, head_limit: int = 0) -> None:
        self._blobs = blobs
        self._head_limit = head_limit
        self._chunks: list[bytes] = []
        self._held = 0
        self._checksum = 0  # of what is in the file
        self._name = ""
        self._file: BinaryIO | None = None
        self._lock = threading.Lock()
        self._ended = False  # finished or aborted
        self._aborted = False
        self._incomplete = False  # a write failed, or nobody waited for its end
        self.size = 0

    async def write(self, octets: bytes) -> None:
        """Append octets. Raises StoreUnavailable, Busy: then nothing more is taken."""
        self._check()
        self._chunks.append(octets)
        self._held += len(octets)
        self.size += len(octets)
        if self._held > (WRITE_BLOCK if self._name else self._blobs.inline_limit):
            chunks, self._chunks, self._held = self._chunks, [], 0
            await self._in_thread(self._write, chunks)

    async def written(self) -> IBlobReader:
        """See `IHeadedBodyWriter`."""
        self._check()
        if not self._name:
            return OctetsReader(b"".join(self._chunks))
        if self._chunks:
            chunks, self._chunks, self._held = self._chunks, [], 0
            await self._in_thread(self._write, chunks)
        return PendingReader(self._blobs, self._name, self.size, self._head_limit)

    async def finish(self, head: bytes = b"") -> Body:
        """The whole body with its digest. Raises StoreUnavailable, Busy; ValueError for a head above the limit."""
        self._check()
        if len(head) > self._head_limit:
            raise ValueError(f"the head has {len(head)} octets, there is room for {self._head_limit}")
        chunks, self._chunks = self._chunks, []
        if self._name or len(head) + self._held > self._blobs.inline_limit:
            found = await self._in_thread(self._complete, chunks, head)
            self._ended = True
            start = self._head_limit - len(head)
            return Body(self._blobs, found, None, self._name, self._checksum, start)
        octets = head + b"".join(chunks) if head else b"".join(chunks)
        self._ended = True
        return Body(self._blobs, digest(octets), octets, None, crc32(octets))

    def abort(self) -> None:
        """Throw away what was written. Harmless after finish()."""
        if not self._ended:
            self._ended = self._aborted = True
            self._chunks = []
            # Also when no file is known of yet: a write may be under way.
            unattended(self._blobs.threads, self._locked, self._drop_file)

    def _check(self) -> None:
        if self._ended:
            raise RuntimeError("the body was finished or aborted")
        if self._incomplete:
            raise StoreUnavailable(detail="an earlier write of this body failed")

    async def _in_thread(self, call: Callable[..., T], *args: object) -> T:
        self._incomplete = True
        result: T = await self._blobs.threads.run(self._locked, call, *args)
        self._incomplete = False
        return result

    # --- in a thread

    def _locked(self, call: Callable[..., T], *args: object) -> T:
        """The lock keeps abort() from closing the file under a write that nobody waits for any more."""
        with self._lock:
            try:
                return call(*args)
            except OSError as error:
                self._drop_file()
                kind = StorageFull if is_full(error) else StoreUnavailable
                raise kind(detail=f"blob: {error}") from error

    def _write(self, chunks: list[bytes]) -> BinaryIO:
        if self._aborted:
            raise StoreUnavailable(detail="the body was aborted")
        self._blobs.check_space()
        if self._file is None:
            self._name, self._file = self._blobs.create()
            self._file.seek(self._head_limit)
        octets = b"".join(chunks)
        self._checksum = crc32(octets, self._checksum)
        _write_all(self._file, octets)
        return self._file

    def _complete(self, chunks: list[bytes], head: bytes) -> Digest:
        file = self._write(chunks)
        start = self._head_limit - len(head)
        if head:
            file.seek(start)
            _write_all(file, head)
        self._blobs.sync(self._name, file)
        if self._head_limit:
            # The sum of the octets after the head is known, but sums cannot be put together.
            self._checksum = sum_of_file(file.fileno(), start)
        page = start - start % mmap.ALLOCATIONGRANULARITY
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ, offset=page) as octets:
            found = digest(octets, start - page)
        file.close()
        self._file = None
        return found

    def _drop_file(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None
        if self._name:
            self._blobs.remove(self._name)
