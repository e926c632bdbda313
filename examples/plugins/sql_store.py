"""Mail in a table of a database; another program may write there, too. `sqlite3 mail.db` and SCHEMA make one."""

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

from attrs import frozen

from mailhub.api import Component, Flags, Message, SimpleStore

SCHEMA = """
CREATE TABLE folder (user TEXT NOT NULL, name TEXT NOT NULL, PRIMARY KEY (user, name));
CREATE TABLE mail (
  id INTEGER PRIMARY KEY AUTOINCREMENT, user TEXT NOT NULL, folder TEXT NOT NULL, octets BLOB NOT NULL,
  flags TEXT NOT NULL DEFAULT '', date INTEGER
);
"""


@frozen
class SqlOptions:
    path: Path


class SqlStore(SimpleStore):
    options: SqlOptions

    def _run(self, statement: str, *values: object) -> list[Any]:
        with closing(sqlite3.connect(self.options.path.as_uri() + "?mode=rw", uri=True)) as database, database:
            return database.execute(statement, values).fetchall()

    def users(self) -> list[str]:
        return [user for (user,) in self._run("SELECT DISTINCT user FROM folder")]

    def folders(self, user: str) -> set[str]:
        return {"INBOX", *(name for (name,) in self._run("SELECT name FROM folder WHERE user = ?", user))}

    def messages(self, user: str, folder: str) -> list[Message]:
        rows = self._run("SELECT id, flags, date FROM mail WHERE user = ? AND folder = ? ORDER BY id", user, folder)
        return [Message(key, frozenset((flags or "").split()), date) for key, flags, date in rows]

    def read(self, user: str, folder: str, key: int) -> bytes:
        ((octets,),) = self._run("SELECT CAST(octets AS BLOB) FROM mail WHERE id = ?", key)
        return bytes(octets)

    def add(self, user: str, folder: str, octets: bytes, flags: Flags, date: int) -> int:
        row = (user, folder, octets, " ".join(flags), date)
        ((key,),) = self._run("INSERT INTO mail VALUES (NULL, ?, ?, ?, ?, ?) RETURNING id", *row)
        return int(key)

    def change(self, user: str, folder: str, key: int, flags: Flags) -> None:
        self._run("UPDATE mail SET flags = ? WHERE id = ?", " ".join(flags), key)

    def remove(self, user: str, folder: str, key: int) -> None:
        self._run("DELETE FROM mail WHERE id = ?", key)


sql_store = Component("store", "sql", SqlStore, SqlOptions)
