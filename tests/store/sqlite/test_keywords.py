from __future__ import annotations

import sqlite3
from collections.abc import Iterator

import pytest

from mailhub.store.sqlite.keywords import register_keywords, spelled, spelling
from mailhub.store.sqlite.schema import MIGRATIONS


@pytest.fixture
def old() -> Iterator[sqlite3.Connection]:
    """A database of before keywords were registered."""
    connection = sqlite3.connect(":memory:", isolation_level=None)
    MIGRATIONS[0](connection)
    yield connection
    connection.close()


def test_an_older_database_gets_one_spelling_of_each_keyword_in_each_mailbox(old: sqlite3.Connection) -> None:
    messages = [(1, 1, "\\Seen Foo bar"), (1, 2, "FOO"), (1, 3, "\\Seen BAR foo"), (2, 1, "FOO"), (2, 2, "")]
    old.executemany("INSERT INTO message VALUES (?, ?, 1, ?, 1, 1, 1)", messages)
    MIGRATIONS[1](old)
    flags = [row[0] for row in old.execute("SELECT flags FROM message ORDER BY mailbox, uid")]
    assert flags == ["\\Seen Foo bar", "Foo", "\\Seen Foo bar", "FOO", ""]
    assert old.execute("SELECT * FROM keyword ORDER BY 1, 2").fetchall() == [(1, "bar"), (1, "Foo"), (2, "FOO")]
    register_keywords(old)
    assert old.execute("SELECT count(*) FROM keyword").fetchone() == (3,)


def test_system_flags_are_nobodys_keywords(old: sqlite3.Connection) -> None:
    MIGRATIONS[1](old)
    assert spelled(old, 1, frozenset({"\\Seen"})) == {"\\Seen"}
    assert spelling(old, 1, [frozenset({"\\Seen"}), frozenset()]) == {}
    assert old.execute("SELECT * FROM keyword").fetchall() == []
