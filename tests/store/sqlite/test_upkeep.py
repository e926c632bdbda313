"""What a server does from time to time for its data."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from pathlib import Path

from twisted.internet.task import Clock

from mailhub.interfaces import Deposit, IMailbox, Plan, Route, Settlement, Submission
from mailhub.message.address import Address
from mailhub.message.envelope import Mail, Outcome
from mailhub.store.exam.rig import Exam, make_body, message
from mailhub.store.queue_ids import derived
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


def test_what_is_kept_of_what_a_row_of_the_queue_has_led_to_stays_as_long_as_the_row(tmp_path: Path) -> None:
    """A list whose last members cannot be looked up for days: the others have their mail, and must not get it again."""
    database, clock = opened(tmp_path)
    route = Route("list", Address("team", "yy.example"), "team@yy.example")

    async def post() -> str:
        body = await make_body(database.queue.new_body, message(2))
        return (await database.queue.submit(Submission(Mail(None), Plan(routes=(route,)), body))).id

    async def to_members(row: str) -> int:
        body = await make_body(database.queue.new_body, message(1))
        plan = Plan(tuple(Deposit(Address.parse(user), user) for user in (USER, "nobody@yy.example")))
        await database.queue.submit(Submission(Mail(None), plan, body, delivery_id=derived(f"{row} 1", 0)), "reply")
        return len(await (await inbox()).expunge(deleted_only=False))

    async def inbox() -> IMailbox:
        return await (await database.store.account(USER)).mailbox("INBOX")

    async def end() -> None:
        for claim in await database.queue.claim(int(clock.seconds()), 10, 10):
            delivered = [Settlement(row.id, Outcome.delivered("", status="2.0.0")) for row in claim.message.recipients]
            await database.queue.settle(claim, delivered)

    row = wait(post())
    clock.advance(5)
    assert [wait(to_members(row)), wait(to_members(row))] == [1, 0]
    for _ in range(5):
        clock.advance(EVERY_SECONDS)
    assert wait(to_members(row)) == 0
    count = "SELECT (SELECT count(*) FROM departed), (SELECT count(*) FROM refusal)"
    assert wait(database._engine.read(lambda snapshot: snapshot.row(count))) == (1, 1)
    wait(end())
    clock.advance(EVERY_SECONDS)
    assert wait(database._engine.read(lambda snapshot: snapshot.row(count))) == (0, 0)
    wait(database.stop())
