"""What is expunged while sessions still count it: kept within bounds, gone when they are told, and after a crash."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import pytest

from mailhub.errors import MessageGone
from mailhub.message.flags import NO_FLAGS
from mailhub.store.exam.rig import Exam, make_body, message, read_message, uids
from mailhub.store.held import Held
from mailhub.store.sqlite.blobs import BLOBS, blob_names
from mailhub.store.sqlite.database import Database
from mailhub.store.sqlite.verify import verify
from tests.store.harness import FAST, NOW, environment, leftovers

USER = "b@yy.example"
LARGE = 140_000  # octets: a file
exam = Exam()
wait = exam.wait_for


@pytest.fixture
def open_(tmp_path: Path) -> Any:
    opened: list[Database] = []

    def open_database(**settings: Any) -> Database:
        database = Database(environment(tmp_path), attrs.evolve(FAST, **settings), create=True)
        wait(database.start())
        opened.append(database)
        return database

    yield open_database
    for database in opened:
        wait(database.stop())
    assert (verify(tmp_path), leftovers(tmp_path)) == ([], [])


Open = Callable[..., Database]


async def two_sessions(database: Database, count: int, size: int = LARGE) -> tuple[Any, Any]:
    """INBOX with so many messages, as two sessions have it."""
    await database.accounts.add(USER, "hash")
    account = await database.store.account(USER)
    inbox = await account.mailbox("INBOX")
    for number in range(count):
        await inbox.append(await make_body(account.new_body, message(number, size)), NO_FLAGS, NOW)
    return inbox, await account.mailbox("INBOX")


def contents(database: Database) -> int:
    """How many contents the database has."""
    return wait(
        database._engine.read(lambda connection: int(connection.execute("SELECT count(*) FROM content").fetchone()[0]))
    )


def test_files_go_when_the_last_session_lets_go(open_: Open, tmp_path: Path) -> None:
    database = open_()
    reader, other = wait(two_sessions(database, 3))
    hold = reader.hold()
    third = wait(wait(database.store.account(USER)).mailbox("INBOX"))
    second_hold = third.hold()
    one, two, three = wait(uids(other))
    wait(other.expunge(deleted_only=False))
    assert verify(tmp_path) == []
    assert (len(blob_names(tmp_path / BLOBS)), contents(database)) == (3, 3)
    hold.let_go([one, two, three])
    assert contents(database) == 3
    second_hold.let_go([two])
    assert (len(blob_names(tmp_path / BLOBS)), contents(database)) == (2, 2)
    assert wait(read_message(third, three)) == message(2, LARGE)
    second_hold.end()
    assert (len(blob_names(tmp_path / BLOBS)), contents(database)) == (0, 0)


def test_who_expunges_holds_nothing_up(open_: Open) -> None:
    database = open_()
    reader, _ = wait(two_sessions(database, 2))
    reader.hold()
    wait(reader.expunge(deleted_only=False))
    assert contents(database) == 0


def test_the_queue_and_other_mailboxes_leave_what_is_held(open_: Open) -> None:
    database = open_()
    reader, other = wait(two_sessions(database, 2))
    hold = reader.hold()
    account = wait(database.store.account(USER))
    trash = wait(account.mailbox("Trash"))
    one, two = wait(uids(other))
    wait(other.move([one, two], trash))
    wait(trash.expunge([1], deleted_only=False))
    wait(account.delete("Trash"))
    assert wait(read_message(reader, two)) == message(1, LARGE)
    hold.end()
    assert contents(database) == 0


def test_what_a_process_held_at_its_end_goes_after_the_next_start(open_: Open, tmp_path: Path) -> None:
    database = open_()
    reader, other = wait(two_sessions(database, 2))
    reader.hold()
    wait(other.expunge(deleted_only=False))
    wait(database.stop())
    assert len(blob_names(tmp_path / BLOBS)) == 2
    assert contents(open_()) == 0
    assert blob_names(tmp_path / BLOBS) == set()


@pytest.mark.parametrize(
    ("settings", "kept"), [({"held_octets": 12 * LARGE + 4000}, 3), ({"held_messages": 8}, 2), ({"held_octets": 0}, 0)]
)
def test_it_is_bounded(settings: dict[str, int], kept: int, open_: Open) -> None:
    database = open_(**settings)
    reader, other = wait(two_sessions(database, 5))
    hold = reader.hold()
    numbers = wait(uids(other))
    wait(other.expunge(deleted_only=False))
    assert contents(database) == kept
    for uid in numbers[:kept]:
        assert wait(read_message(reader, uid))
    wait(exam.refuses(MessageGone, reader.open(numbers[kept])))
    hold.end()
    assert contents(database) == 0


def test_all_sessions_together_are_bounded() -> None:
    held = Held(octets_limit=100, messages_limit=1000)
    holds = [held.hold(mailbox) for mailbox in range(10)]
    for mailbox in range(10):
        held.note(mailbox, [(1, mailbox, 20)])
    assert sorted(held.contents()) == [0, 1, 2, 3, 4]
    holds[0].let_go([1])
    held.note(9, [(1, 9, 20)])
    assert sorted(held.contents()) == [1, 2, 3, 4, 9]
    for hold in holds:
        hold.end()
    assert held.contents() == []
