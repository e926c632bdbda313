from __future__ import annotations

import builtins
import errno
import os
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any
from zlib import crc32

import pytest
from twisted.internet.defer import Deferred, fail
from zope.interface.verify import verifyObject

from mailhub.errors import Busy, MessageDamaged, MessageGone, StoreUnavailable
from mailhub.interfaces import IBlobReader, IBody, IBodyWriter
from mailhub.message.digest import digest
from mailhub.store.exam.rig import Exam
from mailhub.store.sqlite.blobs import LOST_AND_FOUND, WRITE_BLOCK, Blobs, blob_names, open_blob
from mailhub.threads import InlineThreads

LIMIT = 1000
LARGE = b"Subject: large\r\n\r\n" + b"0123456789\r\n" * 1000
wait = Exam().wait_for


class SlowThreads(InlineThreads):
    """Runs a call when told to."""

    def __init__(self) -> None:
        self.waiting: list[tuple[Deferred[Any], Callable[..., Any], Any]] = []

    def run(self, function: Callable[..., Any], *args: object) -> Deferred[Any]:
        result: Deferred[Any] = Deferred()
        self.waiting.append((result, function, args))
        return result

    def go_on(self) -> None:
        while self.waiting:
            result, function, args = self.waiting.pop(0)
            super().run(function, *args).addBoth(result.callback)


def make(folder: Path, threads: InlineThreads | None = None, durable: bool = False) -> Blobs:
    return Blobs(folder / "blobs", threads or InlineThreads(), Random(1), inline_limit=LIMIT, durable=durable)


@pytest.fixture
def blobs(tmp_path: Path) -> Blobs:
    return make(tmp_path)


async def written(blobs: Blobs, octets: bytes) -> Any:
    writer = blobs.new_body()
    await writer.write(octets)
    return await writer.finish()


def test_the_contracts_are_kept(blobs: Blobs) -> None:
    assert verifyObject(IBodyWriter, blobs.new_body())
    for octets in (b"small", LARGE):
        body = wait(written(blobs, octets))
        assert verifyObject(IBody, body)
        assert verifyObject(IBlobReader, body.open())
    assert verifyObject(IBlobReader, open_blob(blobs, body.blob, body.size))


def test_small_bodies_make_no_file_and_large_ones_one(blobs: Blobs) -> None:
    small = wait(written(blobs, b"x" * LIMIT))
    assert (small.octets, small.blob, blob_names(blobs.folder)) == (b"x" * LIMIT, None, set())
    large = wait(written(blobs, LARGE))
    assert (large.octets, blob_names(blobs.folder)) == (None, {large.blob})
    assert blobs.path(large.blob).read_bytes() == LARGE
    assert large.digest == digest(LARGE)


def test_memory_is_bounded_while_a_body_arrives(blobs: Blobs) -> None:
    async def arrive() -> None:
        writer = blobs.new_body()
        for _ in range(40):
            await writer.write(b"x" * 10_000)
            assert sum(map(len, writer._chunks)) <= WRITE_BLOCK + 10_000
        assert (await writer.finish()).size == 400_000

    wait(arrive())


def test_file_and_folder_are_on_disk_before_the_body_is_finished(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[str] = []
    monkeypatch.setattr(os, "fsync", lambda number: synced.append(os.readlink(f"/proc/self/fd/{number}")))
    blobs = make(tmp_path, durable=True)
    body = wait(written(blobs, LARGE))
    path = blobs.path(body.blob)
    assert synced == [str(blobs.folder), str(path), str(path.parent)]


@pytest.mark.parametrize("call", ["fsync", "open"])
def test_a_full_disk_is_a_temporary_failure_and_leaves_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    def full(*arguments: Any, **more: Any) -> Any:
        raise OSError(errno.ENOSPC, "No space left on device")

    blobs = make(tmp_path, durable=True)
    writer = blobs.new_body()
    with monkeypatch.context() as patches:
        patches.setattr(os if call == "fsync" else builtins, call, full)
        with pytest.raises(StoreUnavailable):
            wait(write_and_finish(writer))
    for again in (writer.write(b"more"), writer.finish()):
        with pytest.raises(StoreUnavailable):
            wait(again)
    writer.abort()
    assert blob_names(blobs.folder) == set()


async def write_and_finish(writer: Any) -> Any:
    await writer.write(LARGE)
    return await writer.finish()


def test_a_body_with_a_hole_is_never_finished(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The pool refuses one block: what was taken for it is lost, so the body is."""
    threads = InlineThreads()
    blobs = make(tmp_path, threads)
    writer = blobs.new_body()
    wait(writer.write(LARGE))
    with monkeypatch.context() as patches:
        patches.setattr(threads, "run", lambda *arguments: fail(Busy()))
        with pytest.raises(Busy):
            wait(writer.write(bytes(WRITE_BLOCK + 1)))
    with pytest.raises(StoreUnavailable):
        wait(writer.finish())
    writer.abort()
    assert blob_names(blobs.folder) == set()


@pytest.mark.parametrize("finishing", [False, True])
def test_a_session_that_ends_during_a_write_leaves_no_file(tmp_path: Path, finishing: bool) -> None:
    threads = SlowThreads()
    blobs = make(tmp_path, threads)
    writer = blobs.new_body()
    under_way = Deferred.fromCoroutine(write_and_finish(writer))
    under_way.addErrback(lambda failure: None)
    if finishing:
        threads.waiting[0][0].callback(threads.waiting.pop(0)[1](writer._write, [LARGE]))
    assert len(threads.waiting) == 1
    under_way.cancel()
    writer.abort()
    writer.abort()
    threads.go_on()
    assert blob_names(blobs.folder) == set()


def test_after_the_end_nothing_is_written(blobs: Blobs) -> None:
    writer = blobs.new_body()
    wait(writer.finish())
    writer.abort()
    for call in (writer.write(b"x"), writer.finish()):
        with pytest.raises(RuntimeError):
            wait(call)


class TestDiscard:
    def test_a_body_that_nobody_commits_goes(self, blobs: Blobs) -> None:
        body = wait(written(blobs, LARGE))
        reader = body.open()
        body.discard()
        assert blob_names(blobs.folder) == set()
        with pytest.raises(MessageGone):
            wait(reader.read())

    def test_during_a_commit_it_waits_for_the_outcome(self, blobs: Blobs) -> None:
        kept, lost = wait(written(blobs, LARGE)), wait(written(blobs, LARGE))
        for body in (kept, lost):
            body.claim()
            body.discard()
            assert body.blob in blob_names(blobs.folder)
        kept.settle(True)
        lost.settle(False)
        assert blob_names(blobs.folder) == {kept.blob}
        kept.discard()
        assert blob_names(blobs.folder) == {kept.blob}

    def test_a_body_is_for_one_commit_but_a_failed_one_can_be_repeated(self, blobs: Blobs) -> None:
        body = wait(written(blobs, b"small"))
        body.claim()
        body.settle(False)
        body.claim()
        body.settle(True)
        with pytest.raises(RuntimeError):
            body.claim()


def test_a_reader_holds_its_file_open(blobs: Blobs) -> None:
    body = wait(written(blobs, LARGE))
    reader = open_blob(blobs, body.blob, body.size, offset=9)
    blobs.remove(body.blob)
    assert wait(reader.read()) == LARGE[9:]
    reader.close()
    with pytest.raises(MessageGone):
        wait(reader.read())
    with pytest.raises(MessageDamaged, match="is missing"):
        open_blob(blobs, body.blob, body.size)


def test_a_file_that_was_cut_is_an_error_and_no_short_message(blobs: Blobs) -> None:
    body = wait(written(blobs, LARGE))
    reader = open_blob(blobs, body.blob, body.size)
    os.truncate(blobs.path(body.blob), 100)
    with pytest.raises(MessageDamaged, match="100 octets instead of"):
        open_blob(blobs, body.blob, body.size)
    with pytest.raises(StoreUnavailable):
        wait(reader.read())


def test_closing_during_a_read_waits_for_it(tmp_path: Path) -> None:
    blobs = make(tmp_path)
    body = wait(written(blobs, LARGE))
    reader = open_blob(blobs, body.blob, body.size)
    with reader._lock:
        threads = blobs.threads = SlowThreads()
        reader._threads = threads
        reader.close()
        assert not reader._file.closed
    threads.go_on()
    assert reader._file.closed


def test_a_name_that_is_taken_is_not_used(tmp_path: Path) -> None:
    """The same seed again, as after a restart of a simulation."""
    first = wait(written(make(tmp_path), LARGE))
    second = wait(written(make(tmp_path), b"x" + LARGE))
    assert first.blob != second.blob
    assert make(tmp_path).path(first.blob).read_bytes() == LARGE


def test_a_start_sets_aside_what_is_not_known_and_keeps_what_is_there_already(blobs: Blobs, tmp_path: Path) -> None:
    known, unknown = wait(written(blobs, LARGE)), wait(written(blobs, LARGE))
    assert unknown.blob in blob_names(blobs.folder)
    foreign = blobs.folder / "lost+found"
    foreign.mkdir()
    (foreign / "#123").write_bytes(b"of the file system's own check")
    lost = tmp_path / LOST_AND_FOUND
    lost.mkdir()
    (lost / str(unknown.blob)).write_bytes(b"from before")
    assert blobs.set_others_aside({str(known.blob)}, lost) == 1
    assert blob_names(blobs.folder) == {known.blob}
    assert sorted(file.read_bytes() for file in lost.iterdir()) == sorted([b"from before", LARGE])
    assert (foreign / "#123").exists()


@pytest.mark.parametrize("head", [b"", b"X", b"Subject: late\r\n", b"A: " + 5000 * b"a" + b"\r\n"])
def test_a_head_is_put_in_front_of_a_file_without_moving_it(blobs: Blobs, head: bytes) -> None:
    writer = blobs.new_body(head_limit=8192)
    wait(writer.write(LARGE))
    body = wait(writer.finish(head))
    assert body.blob is not None
    path = blobs.path(body.blob)
    assert (body.start, path.stat().st_size) == (8192 - len(head), 8192 + len(LARGE))
    assert path.read_bytes() == bytes(body.start) + head + LARGE
    assert (body.digest, body.checksum) == (digest(head + LARGE), crc32(head + LARGE))
    wait(open_blob(blobs, body.blob, body.size, body.start, 0, body.checksum).read())
    with pytest.raises(MessageDamaged):
        open_blob(blobs, body.blob, body.size, body.start, 0, body.checksum ^ 1)


def test_a_small_message_with_a_large_head_is_in_a_file_as_every_large_one(blobs: Blobs) -> None:
    head = b"A: " + blobs.inline_limit * b"a" + b"\r\n"
    writer = blobs.new_body(head_limit=2 * len(head))
    wait(writer.write(b"\r\nx"))
    body = wait(writer.finish(head))
    assert body.octets is None
    assert wait(body.open().read()) == head + b"\r\nx"
    assert (body.digest, body.checksum) == (digest(head + b"\r\nx"), crc32(head + b"\r\nx"))


def test_a_head_above_its_limit_is_a_mistake_and_spoils_nothing(blobs: Blobs) -> None:
    writer = blobs.new_body(head_limit=3)
    wait(writer.write(LARGE))
    with pytest.raises(ValueError, match="4 octets"):
        wait(writer.finish(b"four"))
    assert wait(writer.finish(b"ok\n")).size == len(LARGE) + 3
