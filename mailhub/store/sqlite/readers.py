"""Reading: connections of their own, each query in a snapshot, off the reactor thread."""

from __future__ import annotations

import sqlite3
import threading
from pathlib import Path
from typing import TypeVar

from mailhub.errors import StoreUnavailable
from mailhub.interfaces import IThreads
from mailhub.store.sql.transaction import Files, Query, Snapshot, Unreadable
from mailhub.store.sqlite.dialect import SQLITE, is_damage
from mailhub.store.sqlite.schema import connect_reader

T = TypeVar("T")


class Readers:
    """Connections are opened as needed, never more than threads that read at once, and used again."""

    def __init__(
        self, path: Path, threads: IThreads, files: Files, busy_seconds: float, *, read_only: bool = False
    ) -> None:
        self._path = path
        self._threads = threads
        self._files = files
        self._busy_seconds = busy_seconds
        self._read_only = read_only
        self._lock = threading.Lock()
        self._idle: list[sqlite3.Connection] = []
        self._closed = False

    async def read(self, query: Query[T]) -> T:
        """Run `query` in a thread; all that it reads is one snapshot. Raises StoreUnavailable, and what it raises."""
        return await self._threads.run(self._run, query)

    def _run(self, query: Query[T]) -> T:
        try:
            connection = self._take()
            try:
                connection.execute("BEGIN")
                result = query(Snapshot(connection, SQLITE, self._files))
            except BaseException as error:
                self._give_back(connection, broken=isinstance(error, sqlite3.Error))
                raise
            self._give_back(connection)
        except sqlite3.Error as error:
            kind = Unreadable if is_damage(error) else StoreUnavailable
            raise kind(detail=f"read: {error}") from error
        return result

    def _take(self) -> sqlite3.Connection:
        with self._lock:
            if self._closed:
                raise StoreUnavailable(detail="read: the store is stopped")
            if self._idle:
                return self._idle.pop()
        return connect_reader(self._path, self._busy_seconds, read_only=self._read_only)

    def _give_back(self, connection: sqlite3.Connection, broken: bool = False) -> None:
        if not broken:
            try:
                connection.execute("COMMIT")  # ends the snapshot, so that the log can be folded back
            except sqlite3.Error:
                broken = True  # a page met on the way was damaged; what was read of the others is good
        with self._lock:
            keep = not broken and not self._closed
            if keep:
                self._idle.append(connection)
        if not keep:
            connection.close()

    def close(self) -> None:
        """Close now what is idle, and the others when their query is done."""
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()
