"""What a server does from time to time for its data."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from pathlib import Path

from twisted.internet.task import Clock

from mailhub.interfaces import Deposit, Plan, Submission
from mailhub.message.address import Address
from mailhub.message.envelope import Mail
from mailhub.store.exam.rig import Exam, make_body, message
from mailhub.store.sqlite.blobs import BLOBS, LOST_AND_FOUND, blob_names, blob_path
from mailhub.store.sqlite.database import Database
from mailhub.store.sqlite.upkeep import EVERY_SECONDS, FIRST_SECONDS, LEFTOVER_SECONDS
from mailhub.store.sqlite.verify import verify
from tests.store.harness import FAST, NOW, environment

wait = Exam().wait_for

USER = "b@yy.example"
LARGE = message(1, 200_000)


def opened(data: Path) -> tuple[Database, Clock]:
    clock = Clock()
    clock.advance(NOW)
    database = Database(environment(data, clock=clock), FAST, create=True)
    wait(database.start())
    wait(database.accounts.add(USER, ""))
    return database, clock


def set_age(data: Path, name: str, seconds: int) -> None:
    os.utime(blob_path(data / BLOBS, name), (NOW, NOW + FIRST_SECONDS - seconds))


def test_what_parts_were_to_remember_for_a_time_goes(tmp_path: Path) -> None:
    database, clock = opened(tmp_path)
    wait(database.state.of("tls").put({"a": b"1"}, FIRST_SECONDS))
    wait(database.state.of("tls").put({"b": b"1"}, FIRST_SECONDS + 1))
    wait(database.state.of("tls").put({"c": b"1"}))
    clock.advance(FIRST_SECONDS)
    wait(database.stop())
    with closing(sqlite3.connect(database.path)) as connection:
        assert [row[0] for row in connection.execute("SELECT name FROM state ORDER BY name")] == ["b", "c"]


def test_bodies_that_nothing_has_named_for_a_day_are_set_aside_while_the_server_runs(tmp_path: Path) -> None:
    database, clock = opened(tmp_path)

    async def fill() -> None:
        body = await make_body(database.queue.new_body, LARGE)
        await database.queue.submit(Submission(Mail(None), Plan((Deposit(Address.parse(USER), USER),)), body))

    wait(fill())
    (named,) = blob_names(tmp_path / BLOBS)
    pending = wait(make_body(database.queue.new_body, LARGE))  # a session may still commit it
    (waits,) = blob_names(tmp_path / BLOBS) - {named}
    old, young = "00" + "1" * 30, "00" + "2" * 30
    for name in (old, young):
        path = blob_path(tmp_path / BLOBS, name)
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"left")
    for name in (named, waits, old):
        set_age(tmp_path, name, LEFTOVER_SECONDS + 10)
    set_age(tmp_path, young, LEFTOVER_SECONDS - 10)
    clock.advance(FIRST_SECONDS)
    assert blob_names(tmp_path / BLOBS) == {named, waits, young}
    assert (tmp_path / LOST_AND_FOUND / old).read_bytes() == b"left"
    clock.advance(EVERY_SECONDS)
    assert blob_names(tmp_path / BLOBS) == {named, waits}
    pending.discard()
    assert blob_names(tmp_path / BLOBS) == {named}
    wait(database.stop())
    assert clock.getDelayedCalls() == []
    assert verify(tmp_path) == []


def test_what_is_kept_of_submissions_goes_after_a_day(tmp_path: Path) -> None:
    database, clock = opened(tmp_path)

    async def come(name: str, *users: str) -> int:
        body = await make_body(database.queue.new_body, message(1))
        plan = Plan(tuple(Deposit(Address.parse(user), user) for user in users))
        await database.queue.submit(Submission(Mail(None), plan, body, delivery_id=name), "reply")
        inbox = await (await database.store.account(USER)).mailbox("INBOX")
        return len(await inbox.expunge(deleted_only=False))

    name = database.queue.new_delivery_id()
    assert wait(come(name, USER, "nobody@yy.example")) == 1
    assert wait(come(name, USER, "nobody@yy.example")) == 0
    count = "SELECT (SELECT count(*) FROM departed), (SELECT count(*) FROM refusal)"
    assert wait(database._engine.read(lambda snapshot: snapshot.row(count))) == (1, 1)
    clock.advance(FIRST_SECONDS)
    assert wait(come(name, USER)) == 0
    clock.advance(2 * EVERY_SECONDS)
    assert wait(database._engine.read(lambda snapshot: snapshot.row(count))) == (0, 0)
    wait(database.stop())
