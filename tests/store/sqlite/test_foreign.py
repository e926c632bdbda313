"""Messages that another process adds while the server runs: sessions see them, in the order of their UIDs."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import attrs
import pytest
from twisted.internet.task import Clock

from mailhub.errors import StoreUnavailable
from mailhub.interfaces import IMailbox
from mailhub.message.flags import NO_FLAGS
from mailhub.message.record import Added, Change, Expunged, FlagChange, FlagsChanged, MailboxGone
from mailhub.store.exam.rig import DATE, SEEN_ONLY, make_body, message
from mailhub.store.sqlite.database import Database
from mailhub.testing.waiting import result_of
from tests.store.harness import FAST, environment

USER = "ann@xx.example"


class Process:
    """One of two processes with the same database."""

    def __init__(self, data: Path, *, owner: bool) -> None:
        self.database = Database(environment(data, clock=Clock()), FAST, owner=owner, create=owner)
        result_of(self.database.start())

    @property
    def inbox(self) -> IMailbox:
        return result_of(result_of(self.database.store.account(USER)).mailbox("INBOX"))

    def add(self, number: int) -> int:
        account = result_of(self.database.store.account(USER))
        body = result_of(make_body(account.new_body, message(number)))
        return result_of(self.inbox.append(body, NO_FLAGS, DATE))

    def uids(self) -> list[int]:
        return [entry.uid for entry in result_of(self.inbox.entries())]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Process]:
    process = Process(tmp_path, owner=True)
    result_of(process.database.accounts.add(USER, ""))
    yield process
    result_of(process.database.stop())


@pytest.fixture
def command(server: Process, tmp_path: Path) -> Iterator[Process]:
    process = Process(tmp_path, owner=False)
    yield process
    result_of(process.database.stop())


def noted(tmp_path: Path) -> int:
    with closing(sqlite3.connect(tmp_path / "mailhub.sqlite")) as connection:
        return int(connection.execute("SELECT count(*) FROM foreign_addition").fetchone()[0])


def test_who_opens_the_mailbox_sees_what_was_added_though_its_index_was_in_memory(
    server: Process, command: Process, tmp_path: Path
) -> None:
    server.add(1)
    assert server.uids() == [1]
    heard: list[Change] = []
    server.inbox.watch(heard.append)
    assert command.add(2) == 2
    assert noted(tmp_path) == 1
    with closing(sqlite3.connect(tmp_path / "mailhub.sqlite", isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")  # to read it, nothing has to be written
        assert server.uids() == [1, 2]
    assert server.add(3) == 3
    assert noted(tmp_path) == 0
    told = [entry.uid for change in heard if isinstance(change, Added) for entry in change.entries]
    assert told == [2, 3]


def test_a_session_is_told_with_the_next_commit_and_before_what_that_adds(server: Process, command: Process) -> None:
    heard: list[Change] = []
    server.inbox.watch(heard.append)
    result_of(server.inbox.entries())
    command.add(1)
    command.add(2)
    assert server.add(3) == 3
    told = [entry.uid for change in heard if isinstance(change, Added) for entry in change.entries]
    assert told == [1, 2, 3]
    assert server.uids() == [1, 2, 3]


def test_what_was_added_between_looking_and_committing_is_not_passed_over(server: Process, command: Process) -> None:
    """The last moment at which another process can write is before the lock is taken."""
    result_of(server.inbox.entries())
    connection = server.database._writer._connection
    assert connection is not None
    pending = [1]

    def at_the_last_moment(statement: str) -> None:
        if statement == "BEGIN IMMEDIATE" and pending:
            command.add(pending.pop())

    connection.set_trace_callback(at_the_last_moment)
    server.add(2)
    connection.set_trace_callback(None)
    assert server.uids() == [1, 2]


def test_a_start_forgets_what_was_noted_while_nobody_served(tmp_path: Path) -> None:
    first = Process(tmp_path, owner=True)
    result_of(first.database.accounts.add(USER, ""))
    result_of(first.database.stop())
    command = Process(tmp_path, owner=False)
    command.add(1)
    result_of(command.database.stop())
    assert noted(tmp_path) == 1
    again = Process(tmp_path, owner=True)
    assert noted(tmp_path) == 0
    assert again.uids() == [1]
    result_of(again.database.stop())


def test_a_known_user_comes_in_while_another_process_keeps_the_lock(tmp_path: Path) -> None:
    settings = attrs.evolve(FAST, busy_seconds=0.0)
    database = Database(environment(tmp_path), settings, create=True)
    result_of(database.start())
    result_of(database.accounts.add(USER, ""))
    with closing(sqlite3.connect(tmp_path / "mailhub.sqlite", isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        account = result_of(database.store.account(USER, create=True))
        assert result_of(result_of(account.mailbox("INBOX")).status()).messages == 0
        with pytest.raises(StoreUnavailable):
            result_of(database.store.account("new@xx.example", create=True))
    assert result_of(database.store.account("new@xx.example", create=True)).user == "new@xx.example"
    result_of(database.stop())


def test_who_asks_is_told_what_another_server_has_done_and_not_announced(server: Process, command: Process) -> None:
    """Two servers on one database, none of whose announcements arrive at the other."""
    for number in (1, 2, 3):
        server.add(number)
    server.database._engine.alone = False
    inbox = server.inbox
    heard: list[Change] = []
    inbox.watch(heard.append)
    result_of(inbox.entries())
    there = command.inbox
    result_of(there.expunge([1], deleted_only=False))
    result_of(there.change_flags([2], FlagChange("add", SEEN_ONLY)))
    assert command.add(4) == 4
    result_of(inbox.refresh())
    assert [type(change) for change in heard] == [Expunged, FlagsChanged, Added]
    assert [entry.uid for entry in result_of(inbox.entries())] == [2, 3, 4]
    assert result_of(inbox.entries([2]))[0].flags == SEEN_ONLY
    result_of(inbox.refresh())
    assert server.add(5) == 5  # with which UID 4 is announced late
    assert [entry.uid for entry in result_of(inbox.entries())] == [2, 3, 4, 5]
    assert len(heard) == 4
    result_of(command.database.accounts.remove(USER))
    result_of(inbox.refresh())
    assert heard[4:] == [MailboxGone()]
