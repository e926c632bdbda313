"""SQL as SQLite has it."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Sequence
from typing import Any

from mailhub.store.sql.transaction import Transaction


def is_damage(error: BaseException) -> bool:
    """Whether SQLite says that what it reads is broken: a page, or a text that is not UTF-8 (which has no code)."""
    if not isinstance(error, sqlite3.DatabaseError):
        return False
    code = getattr(error, "sqlite_errorcode", None)
    if code is None:
        return isinstance(error, sqlite3.OperationalError)
    return code & 0xFF in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_IOERR)


class SqliteDialect:
    """See `mailhub.store.sql.dialect`. One transaction writes at a time, so mailboxes need not be taken."""

    numbers = texts = "(SELECT value FROM json_each(?))"
    lock: str | None = None
    errors: tuple[type[Exception], ...] = (sqlite3.Error,)

    def many(self, values: Iterable[int | str]) -> object:
        """As JSON."""
        return json.dumps(values if isinstance(values, list) else list(values))

    def packed(self, columns: str) -> str:
        """As JSON."""
        return f"json_array({columns})"

    def all_packed(self, columns: str) -> str:
        """As JSON."""
        return f"json_group_array(json_array({columns}))"

    def unpacked(self, value: Any) -> Sequence[Any]:
        """Of JSON."""
        found: list[Any] = json.loads(value)
        return found

    def greatest(self, *values: str) -> str:
        """Its max() takes several."""
        return f"max({', '.join(values)})"

    def contains(self, text: str, part: str) -> str:
        """By position."""
        return f"instr({text}, {part}) > 0"

    def is_damage(self, error: BaseException) -> bool:
        """By its code."""
        return is_damage(error)


SQLITE = SqliteDialect()
_NO_FILES: Any = None


def on(connection: sqlite3.Connection) -> Transaction:
    """A connection for units that have nothing to do with bodies; transactions are begun and ended by hand."""
    return Transaction(connection, SQLITE, _NO_FILES)
