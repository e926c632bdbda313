"""Submissions that are committed together become what they would have become one by one."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from mailhub.interfaces import Deposit, IDatabase, Plan, Receipt, Route, Submission
from mailhub.message.address import Address
from mailhub.message.envelope import Mail
from mailhub.message.record import Change
from mailhub.store.exam.rig import Exam, make_body, message, read_message
from mailhub.store.limits import StoreLimits
from mailhub.store.memory.database import MemoryDatabase
from mailhub.store.sqlite.database import Database
from mailhub.store.sqlite.verify import verify
from tests.store.harness import NOW, environment

USERS = ("a@yy.example", "b@yy.example", "c@yy.example")
SIZE = len(message(1))
QUOTAS = {USERS[0]: 0, USERS[1]: 2 * SIZE + 10}  # the third is not there
FLAGS = (frozenset[str](), frozenset({"\\Seen"}), frozenset({"red"}), frozenset({"Red", "blue"}), frozenset({"green"}))
LIMITS = StoreLimits(durable=False, keywords_per_mailbox=2)

DEPOSITS = st.tuples(
    st.sampled_from(USERS), st.sampled_from(["INBOX", "Junk", "Lists/none", "inbox"]), st.sampled_from(FLAGS)
)
# Deposits, whether it is relayed too, its refusals, and whether it comes twice.
SUBMISSIONS = st.lists(
    st.tuples(
        st.lists(DEPOSITS, max_size=3), st.booleans(), st.sampled_from(["bounce", "reply"]), st.sampled_from([1, 1, 2])
    ).filter(lambda each: bool(each[0]) or each[1]),
    min_size=1,
    max_size=9,
)


def wait(clock: Clock, work: Any) -> Any:
    exam = Exam()
    exam.pump = lambda: clock.advance(0)  # type: ignore[method-assign]
    return exam.wait_for(work)


def outcome(database: IDatabase, clock: Clock, submissions: Any, *, together: bool) -> Any:
    """All that can be seen of a database after these submissions."""
    heard: dict[str, list[Change]] = {}
    receipts: list[Receipt] = []

    async def fill() -> None:
        await database.start()
        for user, quota in QUOTAS.items():
            await database.accounts.add(user, "", quota)
            account = await database.store.account(user)
            await account.delete("Junk")
            inbox = await account.mailbox("INBOX")
            inbox.watch(heard.setdefault(user, []).append)
            await inbox.entries()

    async def bodies() -> list[Any]:
        return [await make_body(database.queue.new_body, message(1 + number % 9)) for number in range(40)]

    wait(clock, fill())
    spare = wait(clock, bodies())
    waiting: list[Deferred[Receipt]] = []
    for deposits, relayed, refusals, times in submissions:
        plan = Plan(
            tuple(Deposit(Address.parse(user), user, mailbox, flags) for user, mailbox, flags in deposits),
            (Route("smtp", Address("q", "zz.example")),) if relayed else (),
        )
        name = database.queue.new_delivery_id() if times > 1 else ""
        first = spare.pop()
        for body in [first] if times == 1 else [first, wait(clock, again(database, first))]:
            submission = Submission(Mail(None), plan, body, delivery_id=name)
            waiting.append(Deferred.fromCoroutine(database.queue.submit(submission, refusals)))
            if not together:
                clock.advance(0)
    clock.advance(0)
    for each in waiting:
        each.addCallback(receipts.append)
    assert len(receipts) == len(waiting)
    return wait(clock, look(database, receipts, heard))


async def again(database: IDatabase, body: Any) -> Any:
    reader = body.open()
    return await make_body(database.queue.new_body, await reader.read())


async def look(database: IDatabase, receipts: list[Receipt], heard: dict[str, list[Change]]) -> Any:
    seen: list[Any] = [[sorted((index, each.status) for index, each in one.refused.items()) for one in receipts]]
    for user in QUOTAS:
        account = await database.store.account(user)
        seen.append((await account.quota()).used)
        for info in await account.mailboxes():
            mailbox = await account.mailbox(info.name)
            entries = await mailbox.entries()
            seen.append((info.name, info.special_use, await mailbox.status(), entries))
            seen.append([await read_message(mailbox, entry.uid) for entry in entries])
    queued = await database.queue.messages()
    seen.append([[(row.route, row.last and row.last.status) for row in each.recipients] for each in queued])
    return seen, heard


@settings(deadline=None, max_examples=8)
@given(SUBMISSIONS)
def test_a_group_becomes_what_its_submissions_become_one_by_one(submissions: Any) -> None:
    found = []
    for kind in ("memory", "one by one", "together"):
        clock = Clock()
        clock.advance(NOW)
        with tempfile.TemporaryDirectory() as folder:
            world = environment(Path(folder), clock=clock)
            database: Any = MemoryDatabase(world, LIMITS)
            if kind != "memory":
                database = Database(world, LIMITS, gather=True, create=True)
            found.append(outcome(database, clock, submissions, together=kind == "together"))
            wait(clock, database.stop())
            assert kind == "memory" or verify(Path(folder)) == []
    assert found[2] == found[1]
    assert found[1] == found[0]
