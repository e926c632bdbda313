from __future__ import annotations

import sqlite3
from collections.abc import Iterator

import pytest

from mailhub.store.sql.keywords import Spelling, admit, register_keywords, spelling
from mailhub.store.sqlite.dialect import on
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
    register_keywords(on(old))
    assert old.execute("SELECT count(*) FROM keyword").fetchone() == (3,)


def test_an_older_database_gets_to_know_what_its_flags_take(old: sqlite3.Connection) -> None:
    mailboxes = [(1, 1, "INBOX", "", 7), (2, 1, "Sent", "", 8)]
    old.executemany(
        "INSERT INTO mailbox (id, account, name, special_use, uid_validity) VALUES (?, ?, ?, ?, ?)", mailboxes
    )
    messages = [(1, 1, "x" * 300), (1, 2, "x" * 256), (1, 3, "x" * 257), (2, 1, "")]
    old.executemany("INSERT INTO message VALUES (?, ?, 1, ?, 1, 1, 1)", messages)
    MIGRATIONS[1](old)
    assert old.execute("SELECT flag_octets FROM mailbox ORDER BY id").fetchall() == [(45,), (0,)]


def test_system_flags_are_nobodys_keywords(old: sqlite3.Connection) -> None:
    MIGRATIONS[1](old)
    transaction = on(old)
    assert admit(transaction, 1, frozenset({"\\Seen"})) == {"\\Seen"}
    assert spelling(transaction, 1, [frozenset({"\\Seen"}), frozenset()]) == Spelling()
    assert old.execute("SELECT * FROM keyword").fetchall() == []
