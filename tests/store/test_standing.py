"""What is known of mailboxes from one group of messages to the next is what a look at them would find."""

from __future__ import annotations

import sqlite3
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from mailhub.errors import MailError
from mailhub.interfaces import Deposit, IDatabase, Plan, Receipt, Submission
from mailhub.message.address import Address
from mailhub.message.envelope import Mail
from mailhub.message.flags import NO_FLAGS
from mailhub.store.exam.rig import DATE, make_body, message
from mailhub.store.memory.database import MemoryDatabase
from mailhub.store.sqlite.database import Database
from mailhub.store.sqlite.verify import verify
from tests.store.harness import FAST, NOW, environment
from tests.store.test_groups import SIZE, USERS, look, wait

BOXES = ("INBOX", "Junk", "Lists", "Work")


async def deliver(database: IDatabase, user: str, mailbox: str) -> Receipt:
    body = await make_body(database.queue.new_body, message(1))
    deposit = Deposit(Address.parse(user), user, mailbox, NO_FLAGS)
    return await database.queue.submit(Submission(Mail(None), Plan((deposit,)), body), "reply")


async def append(database: IDatabase, user: str, mailbox: str) -> object:
    account = await database.store.account(user)
    found = await account.mailbox(mailbox)
    return await found.append(await make_body(account.new_body, message(2)), NO_FLAGS, DATE)


async def expunge(database: IDatabase, user: str, mailbox: str) -> object:
    found = await (await database.store.account(user)).mailbox(mailbox)
    return list(await found.expunge(deleted_only=False))


async def create(database: IDatabase, user: str, mailbox: str) -> None:
    await (await database.store.account(user)).create(mailbox)


async def delete(database: IDatabase, user: str, mailbox: str) -> None:
    await (await database.store.account(user)).delete(mailbox)


async def rename(database: IDatabase, user: str, mailbox: str) -> None:
    await (await database.store.account(user)).rename(mailbox, "Work")


async def limit(database: IDatabase, user: str, mailbox: str) -> None:
    await database.accounts.set_quota(user, (BOXES.index(mailbox) + 1) * 2 * SIZE)


async def renew(database: IDatabase, user: str, mailbox: str) -> None:
    await database.accounts.remove(user)
    await database.accounts.add(user, "", 0)


ACTIONS = (deliver, deliver, deliver, append, expunge, create, delete, rename, limit, renew)
STEPS = st.lists(
    st.tuples(st.sampled_from(ACTIONS), st.sampled_from(USERS), st.sampled_from(BOXES)), min_size=1, max_size=25
)


async def play(database: IDatabase, steps: Any) -> Any:
    await database.start()
    for user in USERS[:2]:
        await database.accounts.add(user, "", 0)
    results: list[object] = []
    for step, user, mailbox in steps:
        try:
            result = await step(database, user, mailbox)
        except MailError as error:
            results.append(type(error))
        else:
            results.append([each.status for each in result.refused.values()] if isinstance(result, Receipt) else result)
    return results, await look(database, [], {})


@settings(deadline=None, max_examples=25)
@given(STEPS)
def test_mail_between_all_that_is_done_to_mailboxes_comes_where_it_should(steps: Any) -> None:
    found = []
    for kind in (MemoryDatabase, Database):
        clock = Clock()
        clock.advance(NOW)
        with tempfile.TemporaryDirectory() as folder:
            world = environment(Path(folder), clock=clock)
            made: Any = {"create": True, "gather": True} if kind is Database else {}
            database = kind(world, FAST, **made)
            found.append(wait(clock, play(database, steps)))
            wait(clock, database.stop())
            assert kind is MemoryDatabase or verify(Path(folder)) == []
    assert found[1] == found[0]


@attrs.define
class Desk:
    """A database, its writing connection, and the statements that were run on that."""

    database: Database
    clock: Clock
    statements: list[str] = attrs.field(factory=list)

    @property
    def connection(self) -> sqlite3.Connection:
        connection = self.database._writer._connection
        assert connection is not None
        return connection

    def deliver(self, user: str = USERS[0]) -> Receipt:
        self.statements.clear()
        receipt: Receipt = wait(self.clock, deliver(self.database, user, "INBOX"))
        return receipt

    @property
    def looked(self) -> bool:
        """Whether the last delivery has read mailboxes."""
        return any("FROM mailbox m JOIN account" in statement for statement in self.statements)

    def uids(self) -> list[int]:
        async def inbox() -> list[int]:
            found = await (await self.database.store.account(USERS[0])).mailbox("INBOX")
            return [entry.uid for entry in await found.entries()]

        uids: list[int] = wait(self.clock, inbox())
        return uids


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    clock = Clock()
    clock.advance(NOW)
    database = Database(environment(tmp_path, clock=clock), FAST, gather=True, create=True)
    desk = Desk(database, clock)
    wait(clock, database.start())
    for user in USERS:
        wait(clock, database.accounts.add(user, "", 0))
    desk.connection.set_trace_callback(desk.statements.append)
    yield desk
    wait(clock, database.stop())
    assert verify(tmp_path) == []


def test_mailboxes_are_looked_up_once_while_only_mail_comes(desk: Desk) -> None:
    assert [(desk.deliver(), desk.looked)[1] for _ in range(3)] == [True, False, False]
    assert [(desk.deliver(USERS[1]), desk.looked)[1] for _ in range(2)] == [True, False]
    desk.deliver()
    assert len(desk.statements) == 6  # begin, another process?, content, message, counters, commit
    assert desk.uids() == [1, 2, 3, 4]


def test_after_anything_else_they_are_looked_up_again(desk: Desk) -> None:
    desk.deliver()
    wait(desk.clock, desk.database.accounts.set_quota(USERS[1], SIZE))
    desk.deliver()
    assert desk.looked
    wait(desk.clock, desk.database.state.of("mine").put({"a": b"b"}))
    desk.deliver()
    assert desk.looked


def test_what_another_process_has_done_to_them_counts(desk: Desk) -> None:
    desk.deliver()
    with sqlite3.connect(desk.database.path) as other:
        other.execute("UPDATE account SET quota = 1")
    assert [each.status for each in desk.deliver().refused.values()] == ["5.2.2"]
    with sqlite3.connect(desk.database.path) as other:
        other.execute("UPDATE account SET quota = 0")
        other.execute("UPDATE mailbox SET uid_next = 7")
    assert not desk.deliver().refused
    assert desk.uids() == [1, 7]


def test_what_is_rolled_back_is_not_counted_on(desk: Desk) -> None:
    """Of a message and a unit that breaks their common transaction, one is tried again alone."""
    desk.deliver()

    def breaks(transaction: Any) -> None:
        transaction.execute("UPDATE account SET quota = 7")
        raise ValueError("half done")

    waiting = [Deferred.fromCoroutine(deliver(desk.database, USERS[0], "INBOX")) for _ in range(2)]
    broken = desk.database._writer.submit(breaks)
    waiting.append(Deferred.fromCoroutine(deliver(desk.database, USERS[0], "INBOX")))
    desk.clock.advance(0)
    failures: list[Any] = []
    broken.addErrback(failures.append)
    assert failures[0].check(ValueError)
    receipts: list[Any] = []
    for each in waiting:
        each.addBoth(receipts.append)
    assert [receipt.refused for receipt in receipts] == [{}, {}, {}]
    assert desk.uids() == [1, 2, 3, 4]


def test_a_submission_that_is_refused_after_it_was_counted_leaves_no_gap(desk: Desk) -> None:
    """Its deposit was made when the writer found what no row can keep."""
    desk.deliver()

    async def wrong() -> None:
        body = await make_body(desk.database.queue.new_body, message(1))
        deposits = tuple(Deposit(Address.parse(user), user) for user in (USERS[0], "nobody@yy.example"))
        await desk.database.queue.submit(Submission(Mail(None, envid="\n"), Plan(deposits), body))

    with pytest.raises(ValueError, match="ENVID"):
        wait(desk.clock, wrong())
    desk.deliver()
    assert desk.uids() == [1, 2]
