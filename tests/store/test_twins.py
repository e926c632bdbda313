"""Random operations on the SQLite store and on its twin in plain dicts.

Every answer, every error, every announced change and everything that can be seen afterwards must be the same.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Coroutine
from pathlib import Path
from random import Random
from typing import Any

import attrs
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from twisted.internet.task import Clock

from mailhub.errors import MailError
from mailhub.interfaces import Deposit, Plan, Route, Settlement, Submission
from mailhub.message.address import Address
from mailhub.message.envelope import Mail, Outcome
from mailhub.message.flags import DELETED, FLAGGED, SEEN
from mailhub.message.record import Change, FlagChange
from mailhub.store.exam.reading import DIGEST_NAMES
from mailhub.store.exam.rig import Exam, make_body, message, read_message
from mailhub.store.memory.database import MemoryDatabase
from mailhub.store.sql import content
from mailhub.store.sqlite.database import Database
from mailhub.store.sqlite.verify import verify
from tests.store.harness import FAST, NOW, environment, leftovers

SETTINGS = attrs.evolve(
    FAST, inline_body_octets=150, mailboxes_per_account=10, keywords_per_message=2, keywords_per_mailbox=3
)
USERS = st.sampled_from(["a@xx.example", "b@xx.example"])
NAMES = st.sampled_from(["INBOX", "inbox/x", "Sent", "a", "a/b", "a/b/c", "b", "b/b"])
UIDS = st.lists(st.integers(1, 12), unique=True, max_size=5).map(sorted)
FLAGS = st.frozensets(
    st.sampled_from([SEEN, DELETED, FLAGGED, "$Work", "Home", "x" * 120, "y" * 120, "z" * 120]), max_size=4
)
SIZES = st.sampled_from([0, 0, 0, 300])
AMOUNT = st.integers(0, 3)
wait = Exam().wait_for


class Side:
    """One of the two: database, the changes heard, and the names of messages in the queue in order of their making."""

    def __init__(self, database: Any) -> None:
        self.database = database
        self.heard: list[tuple[str, str, Change]] = []
        self.ids: list[str] = []

    def number(self, message_id: str) -> int:
        """Ids are random, so they are compared by their order. (Those of rows do not matter.)"""
        return self.ids.index(message_id)

    async def mailbox(self, user: str, name: str) -> Any:
        return await (await self.database.store.account(user)).mailbox(name)

    async def watch(self, user: str) -> None:
        account = await self.database.store.account(user)
        for info in await account.mailboxes():
            await self.watch_mailbox(user, info.name)

    async def watch_mailbox(self, user: str, name: str) -> None:
        mailbox = await self.mailbox(user, name)
        mailbox.watch(lambda change: self.heard.append((user, name, change)))

    async def seen(self) -> Any:
        """Everything that can be seen."""
        accounts = await self.database.accounts.all()
        found: list[Any] = [accounts, await self.database.queue.next_due()]
        for queued in await self.database.queue.messages():
            reader = await self.database.queue.open(queued.id)
            rows = tuple(attrs.evolve(row, id=0) for row in queued.recipients)
            found.append((attrs.evolve(queued, id=self.number(queued.id), recipients=rows), await reader.read()))
            reader.close()
        for row in accounts:
            account = await self.database.store.account(row.user)
            found += [await account.quota(), list(await account.subscriptions())]
            for info in await account.mailboxes():
                found += [info, *await self.seen_in(await account.mailbox(info.name))]
        return found

    async def seen_in(self, mailbox: Any) -> list[Any]:
        entries = list(await mailbox.entries())
        uids = [entry.uid for entry in entries]
        octets = [await read_message(mailbox, uid) for uid in uids]
        digests = await mailbox.digests([*uids, 999], DIGEST_NAMES)
        bodies = await mailbox.bodies(uids)
        return [await mailbox.status(), entries, octets, digests, bodies, list(await mailbox.vanished(2))]


Action = Callable[[Side], Coroutine[Any, Any, object]]


class Twins(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.clock = Clock()
        self.clock.advance(NOW)
        self.random = Random(2)
        self.model = Side(MemoryDatabase(environment(self.folder, clock=self.clock, seed=1), SETTINGS))
        self.real = Side(self.open())
        self.numbers = 0
        self.do(lambda side: side.database.accounts.add("a@xx.example", ""))
        self.do(lambda side: side.watch("a@xx.example"))

    def open(self) -> Database:
        # One generator for all runs: seeded again, it would give the names of the last run to other messages.
        database = Database(
            attrs.evolve(environment(self.folder, clock=self.clock), random=self.random), SETTINGS, create=True
        )
        wait(database.start())
        return database

    def do(self, action: Action) -> None:
        """On both sides; they must agree."""
        answers = []
        for side in (self.model, self.real):
            try:
                answers.append(wait(action(side)))
            except MailError as error:
                answers.append((type(error), error.status))
        assert answers[0] == answers[1]
        assert self.model.heard == self.real.heard

    def body_number(self) -> int:
        self.numbers += 1
        return self.numbers

    # --- accounts and names

    @rule(user=USERS, quota=st.sampled_from([0, 1000]))
    def add_account(self, user: str, quota: int) -> None:
        async def action(side: Side) -> None:
            await side.database.accounts.add(user, "x", quota)
            await side.watch(user)

        self.do(action)

    @rule()
    def remove_account(self) -> None:
        self.do(lambda side: side.database.accounts.remove("b@xx.example"))

    @rule(user=USERS, name=NAMES)
    def create(self, user: str, name: str) -> None:
        async def action(side: Side) -> None:
            await (await side.database.store.account(user)).create(name)
            await side.watch_mailbox(user, name)

        self.do(action)

    @rule(user=USERS, name=NAMES)
    def delete(self, user: str, name: str) -> None:
        async def action(side: Side) -> None:
            await (await side.database.store.account(user)).delete(name)

        self.do(action)

    @rule(user=USERS, old=NAMES, new=NAMES)
    def rename(self, user: str, old: str, new: str) -> None:
        async def action(side: Side) -> None:
            await (await side.database.store.account(user)).rename(old, new)

        self.do(action)

    @rule(user=USERS, name=NAMES, subscribed=st.booleans())
    def subscribe(self, user: str, name: str, subscribed: bool) -> None:
        async def action(side: Side) -> None:
            await (await side.database.store.account(user)).subscribe(name, subscribed)

        self.do(action)

    # --- messages

    @rule(user=USERS, name=NAMES, flags=FLAGS, size=SIZES, delivery=st.sampled_from(["", "", "d1", "d2"]))
    def append(self, user: str, name: str, flags: frozenset[str], size: int, delivery: str) -> None:
        octets = message(self.body_number(), size)

        async def action(side: Side) -> object:
            mailbox = await side.mailbox(user, name)
            account = await side.database.store.account(user)
            body = await make_body(account.new_body, octets)
            try:
                return await mailbox.append(body, flags, NOW + 5, delivery)
            finally:
                body.discard()

        self.do(action)

    @rule(user=USERS, name=NAMES, uids=UIDS, flags=FLAGS, mode=st.sampled_from(["add", "remove", "replace"]))
    def change_flags(self, user: str, name: str, uids: list[int], flags: frozenset[str], mode: Any) -> None:
        async def action(side: Side) -> object:
            mailbox = await side.mailbox(user, name)
            return await mailbox.change_flags(uids, FlagChange(mode, flags))

        self.do(action)

    @rule(user=USERS, name=NAMES, uids=UIDS, behind=AMOUNT)
    def change_flags_unless_changed(self, user: str, name: str, uids: list[int], behind: int) -> None:
        async def action(side: Side) -> object:
            mailbox = await side.mailbox(user, name)
            since = (await mailbox.status()).highest_modseq - behind
            return await mailbox.change_flags(uids, FlagChange("add", frozenset({"$New"})), since)

        self.do(action)

    @rule(user=USERS, name=NAMES, to_user=USERS, to_name=NAMES, uids=UIDS, how=st.sampled_from(["copy", "move"]))
    def copy_or_move(self, user: str, name: str, to_user: str, to_name: str, uids: list[int], how: str) -> None:
        async def action(side: Side) -> object:
            target = await side.mailbox(to_user, to_name)
            return await getattr(await side.mailbox(user, name), how)(uids, target)

        self.do(action)

    @rule(user=USERS, name=NAMES, uids=st.one_of(st.none(), UIDS), deleted_only=st.booleans())
    def expunge(self, user: str, name: str, uids: list[int] | None, deleted_only: bool) -> None:
        async def action(side: Side) -> object:
            return list(await (await side.mailbox(user, name)).expunge(uids, deleted_only))

        self.do(action)

    # --- queue

    @rule(
        deposits=st.lists(st.tuples(USERS, NAMES, FLAGS), max_size=3),
        routes=st.lists(st.sampled_from(["q", "r"]), max_size=2, unique=True),
        size=SIZES,
        refusals=st.sampled_from(["reply", "bounce"]),
    )
    def submit(self, deposits: list[Any], routes: list[str], size: int, refusals: Any) -> None:
        octets = message(self.body_number(), size)
        plan = Plan(
            tuple(Deposit(Address.parse(user), user, name, flags) for user, name, flags in deposits),
            tuple(Route("smtp", Address(local, "zz.example")) for local in routes),
        )

        async def action(side: Side) -> object:
            body = await make_body(side.database.queue.new_body, octets)
            receipt = await side.database.queue.submit(Submission(Mail(None), plan, body, 5), refusals)
            side.ids.append(receipt.id)
            body.discard()
            return receipt.refused

        self.do(action)

    @rule(pick=AMOUNT, outcomes=st.lists(st.sampled_from(["delivered", "delayed", "failed"]), max_size=3))
    def settle(self, pick: int, outcomes: list[str]) -> None:
        async def action(side: Side) -> None:
            queue = side.database.queue
            for claim in await queue.claim(NOW + 50, 10, 10):
                if side.number(claim.message.id) != pick:
                    await queue.release([claim])
                    continue
                settled = [
                    Settlement(row.id, getattr(Outcome, what)("reply"), NOW + 10 * (1 + row.attempts))
                    for row, what in zip(claim.message.recipients, outcomes, strict=False)
                ]
                await queue.settle(claim, settled)
                await queue.release([claim])

        self.do(action)

    @rule(picks=st.lists(st.integers(0, 5), max_size=3), how=st.sampled_from(["retry", "remove"]))
    def operate(self, picks: list[int], how: str) -> None:
        async def action(side: Side) -> object:
            chosen = [side.ids[pick] for pick in picks if pick < len(side.ids)]
            return await getattr(side.database.queue, how)(chosen)

        self.do(action)

    # --- the world

    @rule()
    def time_goes_on(self) -> None:
        self.clock.advance(1)

    @rule()
    def restart(self) -> None:
        """Sessions end, what is on disk stays."""
        wait(self.real.database.stop())
        self.real.database = self.open()
        self.real.heard.clear()
        self.model.heard.clear()
        self.model.database.store._engine.watchers.__init__()
        assert leftovers(self.folder) == []
        for side in (self.model, self.real):
            for row in wait(side.database.accounts.all()):
                wait(side.watch(row.user))

    @invariant()
    def all_that_can_be_seen_is_the_same(self) -> None:
        assert wait(self.model.seen()) == wait(self.real.seen())

    def teardown(self) -> None:
        wait(self.real.database.stop())
        problems = [*verify(self.folder), *leftovers(self.folder)]
        shutil.rmtree(self.folder)
        assert problems == []


class SweepingTwins(Twins):
    """All bodies go by the sweep."""

    def __init__(self) -> None:
        self.at_once, content.AT_ONCE = content.AT_ONCE, 0
        super().__init__()

    def teardown(self) -> None:
        content.AT_ONCE = self.at_once
        super().teardown()


TestTwins = Twins.TestCase
TestTwins.settings = settings(max_examples=20, stateful_step_count=25, deadline=None)
TestSweepingTwins = SweepingTwins.TestCase
TestSweepingTwins.settings = settings(max_examples=6, stateful_step_count=25, deadline=None)
