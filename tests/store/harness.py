"""What the tests of the store are built with."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

from twisted.internet.task import Clock
from twisted.python.threadpool import ThreadPool

from mailhub.interfaces import Environment, IThreads
from mailhub.store.limits import StoreLimits
from mailhub.store.sqlite import schema
from mailhub.store.sqlite.blobs import BLOBS, blob_names
from mailhub.threads import InlineThreads

NOW = 1_700_000_000
FAST = StoreLimits(durable=False)


def environment(
    data: Path, *, clock: Clock | None = None, threads: IThreads | None = None, seed: int = 1
) -> Environment:
    """An environment without network; its clock stands at NOW."""
    if clock is None:
        clock = Clock()
        clock.advance(NOW)
    nothing = cast(Any, None)
    return Environment(clock, threads or InlineThreads(), nothing, nothing, random.Random(seed), data)


class HandReactor:
    """A pool with real threads; what they hand over is run by hand."""

    def __init__(self) -> None:
        self.pool = ThreadPool(0, 2)
        self.pool.start()
        self.size = 0
        self.calls: list[Callable[[], object]] = []
        self.arrived = threading.Semaphore(0)

    def getThreadPool(self) -> ThreadPool:
        return self.pool

    def suggestThreadPoolSize(self, size: int) -> None:
        self.size = size

    def callFromThread(self, callable: Callable[..., object], *args: object, **kwargs: object) -> None:
        self.calls.append(lambda: callable(*args, **kwargs))
        self.arrived.release()

    def turn(self, calls: int = 1) -> None:
        """Wait for so many calls from threads and make them."""
        for _ in range(calls):
            assert self.arrived.acquire(timeout=30)
            self.calls.pop(0)()


def leftovers(data: Path) -> list[str]:
    """Names of bodies that no message refers to. Right after a start there are none."""
    connection = schema.connect_reader(data / schema.FILE, busy_seconds=10, read_only=True)
    try:
        known = {row[0] for row in connection.execute("SELECT blob FROM content WHERE blob IS NOT NULL")}
    finally:
        connection.close()
    return sorted(blob_names(data / BLOBS) - known)
