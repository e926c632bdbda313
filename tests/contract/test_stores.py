"""The built-in backends sit the exam that plug-ins sit."""

from __future__ import annotations

import sqlite3
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any, cast

import attrs
import pytest
from twisted.internet.task import Clock

from mailhub.errors import StoreUnavailable
from mailhub.guard import Guard
from mailhub.interfaces import Environment, IDatabase, IMailAccount, IMailStore
from mailhub.message.flags import NO_FLAGS, SEEN
from mailhub.message.record import Added, Expunged, FlagChange, FlagsChanged
from mailhub.store import changes
from mailhub.store.exam import AccountsExam, NamesExam, QueueExam, StateExam, StoreExam
from mailhub.store.exam.rig import message, question
from mailhub.store.guarded.store import GuardedStore
from mailhub.store.memory.database import MemoryDatabase
from mailhub.store.sql.transaction import Touched, Touching, Transaction
from mailhub.store.sqlite.database import Database
from mailhub.store.sqlite.dialect import SQLITE
from mailhub.store.sqlite.verify import verify
from mailhub.threads import ReactorThreads
from tests.store.harness import FAST, NOW, HandReactor, environment
from tests.store.maildir.rig import Site

TRIGGERS = (
    "CREATE TEMP TRIGGER IF NOT EXISTS made AFTER INSERT ON mailbox BEGIN INSERT INTO taken VALUES (NEW.id); END",
    *(
        f"CREATE TEMP TRIGGER IF NOT EXISTS {table}_{change} BEFORE {change} ON main.{table}"
        f" WHEN {row}.{column} NOT IN (SELECT id FROM taken) BEGIN SELECT RAISE(ABORT, 'not taken'); END"
        for table, column in (("mailbox", "id"), ("message", "mailbox"))
        for change, row in (("insert", "NEW"), ("update", "OLD"), ("delete", "OLD"))
        if (table, change) != ("mailbox", "insert")
    ),
)


class Backend(StoreExam, QueueExam, AccountsExam, NamesExam, StateExam):
    """All exams of a backend; each question gets a new one. Ours have more than the contract demands."""

    has_usual_folders = True
    tells_growth = True

    @question
    async def test_mod_sequences_are_counted_one_by_one(self) -> None:
        account, inbox = await self._inbox(NO_FLAGS, NO_FLAGS)
        before = await inbox.status()
        assert before.highest_modseq == (await inbox.entries())[-1].modseq
        one, two = [entry.uid for entry in await inbox.entries()]
        result = await inbox.change_flags([one, two], FlagChange("add", frozenset({SEEN})))
        assert {entry.modseq for entry in result.changed} == {before.highest_modseq + 1}
        heard: list[Any] = []
        inbox.watch(heard.append)
        await inbox.move([one, two], await account.mailbox("Sent"))
        assert heard == [Expunged((one, two), (await inbox.status()).highest_modseq)]

    @question
    async def test_each_change_is_announced_once_and_whole(self) -> None:
        account, inbox = await self._inbox()
        sent = await account.mailbox("Sent")
        heard: list[Any] = []
        (await account.mailbox("INBOX")).watch(heard.append)
        one = await self._append(account, inbox, message(1))
        two = await self._append(account, inbox, message(2))
        assert heard == [Added((entry,)) for entry in await inbox.entries()]
        changed = await inbox.change_flags([one, two], FlagChange("add", frozenset({SEEN})))
        assert heard[2:] == [FlagsChanged(changed.changed)]
        await inbox.copy([one], sent)
        assert len(heard) == 3
        await inbox.move([one], sent)
        assert heard[3:] == [Expunged((one,), (await inbox.status()).highest_modseq)]
        await sent.copy([entry.uid for entry in await sent.entries()], inbox)
        assert heard[4:] == [Added(tuple(await inbox.entries(since_modseq=heard[3].modseq)))]
        await inbox.expunge([two], deleted_only=False)
        assert heard[5:] == [Expunged((two,), (await inbox.status()).highest_modseq)]
        await inbox.refresh()
        assert len(heard) == 6

    @question
    async def test_what_is_held_is_in_bodies(self) -> None:
        account, inbox = await self._inbox(NO_FLAGS, NO_FLAGS)
        holding = await account.mailbox("INBOX")
        hold = holding.hold()
        found = await inbox.expunge(deleted_only=False)
        assert set(await holding.bodies(found)) == set(found)
        hold.end()

    def setup_method(self) -> None:
        self.folder = tempfile.TemporaryDirectory()
        self.clock = Clock()
        self.clock.advance(NOW)
        self.database = self.make(environment(Path(self.folder.name), clock=self.clock))

    def teardown_method(self) -> None:
        self.wait_for(self.database.stop())
        self.folder.cleanup()

    def make(self, environment: Environment) -> IDatabase:
        raise AssertionError

    def pass_time(self, seconds: int) -> None:
        self.clock.advance(seconds)

    async def open_store(self) -> IMailStore:
        await self.database.start()
        store: IMailStore = self.database.store
        return store

    async def add_account(self, store: IMailStore, user: str, quota: int = 0) -> IMailAccount:
        await self.database.accounts.add(user, "", quota)
        return await store.account(user)

    async def open_database(self) -> IDatabase:
        await self.database.start()
        return self.database


class TestMemory(Backend):
    def make(self, environment: Environment) -> IDatabase:
        return MemoryDatabase(environment)


class TestGuarded(StoreExam):
    """A store is no other for being asked through a guard."""

    has_usual_folders = True
    tells_growth = True

    async def open_store(self) -> IMailStore:
        clock = Clock()
        clock.advance(NOW)
        self.database = MemoryDatabase(environment(Path("/nonexistent"), clock=clock))
        self.guard = Guard("store", "mine", "mine.py", clock)
        return GuardedStore(self.database.store, self.guard)

    async def add_account(self, store: IMailStore, user: str, quota: int = 0) -> IMailAccount:
        await self.database.accounts.add(user, "", quota)
        return await store.account(user)

    def teardown_method(self) -> None:
        assert (self.guard.errors, self.guard.timeouts) == (0, 0)


class TestSqlite(Backend):
    def make(self, environment: Environment) -> IDatabase:
        return Database(environment, FAST, create=True)

    def teardown_method(self) -> None:
        """Whatever a question did, the database is sound after it."""
        self.wait_for(self.database.stop())
        problems = verify(Path(self.folder.name))
        self.folder.cleanup()
        assert problems == []


class TestSqliteInGroups(TestSqlite):
    """Units are committed in groups, one turn of the clock later."""

    def make(self, environment: Environment) -> IDatabase:
        return Database(environment, FAST, gather=True, create=True)

    def pump(self) -> None:
        self.clock.advance(0)


class TestSqliteTakingMailboxes(TestSqliteInGroups):
    """As on an engine where several transactions write at a time: each takes the mailboxes that its units have named,
    in the order of their numbers, before it writes anything. What it has not taken, and not made, it cannot touch."""

    @pytest.fixture(autouse=True)
    def _taking(self, monkeypatch: pytest.MonkeyPatch) -> None:
        take = Transaction.take

        def taking(transaction: Transaction, touching: Iterable[Touching]) -> list[int]:
            connection = transaction.connection
            assert isinstance(connection, sqlite3.Connection)
            connection.execute("CREATE TEMP TABLE IF NOT EXISTS taken (id INTEGER PRIMARY KEY)")
            for trigger in TRIGGERS:
                connection.execute(trigger)
            connection.execute("DELETE FROM taken")
            found = take(transaction, touching)
            assert found == sorted(set(found))
            connection.executemany("INSERT INTO taken VALUES (?)", [(number,) for number in found])
            return found

        monkeypatch.setattr(SQLITE, "lock", "")
        monkeypatch.setattr(Transaction, "take", taking)

    @question
    async def test_what_was_not_taken_cannot_be_touched(self) -> None:
        await self._inbox(NO_FLAGS)
        engine = self.database._engine  # type: ignore[attr-defined]
        statement = "UPDATE mailbox SET unseen = unseen WHERE messages > 0"
        await self.refuses(StoreUnavailable, engine.write(lambda transaction: transaction.execute(statement)))
        await engine.write(lambda transaction: transaction.execute(statement).rowcount, (), lambda: Touched((1,)))


class TestSqliteInThreads(TestSqlite):
    """As in production: the writer and the readers run in threads of their own."""

    def setup_method(self) -> None:
        self.reactor = HandReactor()
        super().setup_method()

    def make(self, environment: Environment) -> IDatabase:
        return Database(attrs.evolve(environment, threads=ReactorThreads(self.reactor)), FAST, create=True)

    def pump(self) -> None:
        """Calls from threads, and then what is due: parts of a large change."""
        self.reactor.turn()
        self.clock.advance(0)

    def teardown_method(self) -> None:
        super().teardown_method()
        self.reactor.pool.stop()

    def test_a_large_change_is_told_in_parts_before_the_call_returns(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(changes, "PART", 2)

        async def story() -> None:
            _, inbox = await self._inbox(*[NO_FLAGS] * 5)
            heard: list[Any] = []
            inbox.watch(heard.append)
            result = await inbox.change_flags(range(1, 6), FlagChange("add", frozenset({SEEN})))
            assert [len(part.entries) for part in heard] == [2, 2, 1]
            assert sum((part.entries for part in heard), ()) == result.changed
            assert len(await inbox.expunge(deleted_only=False)) == 5
            assert [part.uids for part in heard[3:]] == [(1, 2), (3, 4), (5,)]

        self.wait_for(story())


class TestMaildir(StoreExam):
    """Its accounts are those of the database; each has a Maildir, which others may change."""

    has_usual_folders = True
    tells_growth = True

    def setup_method(self) -> None:
        self.folder = tempfile.TemporaryDirectory()
        self.site = Site(Path(self.folder.name))

    def teardown_method(self) -> None:
        self.wait_for(self.site.store.stop())
        self.folder.cleanup()

    async def open_store(self) -> IMailStore:
        await self.site.store.start()
        return cast(IMailStore, self.site.store)

    async def add_account(self, store: IMailStore, user: str, quota: int = 0) -> IMailAccount:
        self.site.account(user, quota)
        return await store.account(user)


class TestMaildirInThreads(TestMaildir):
    """As in production: files and ledger have threads of their own."""

    def setup_method(self) -> None:
        super().setup_method()
        self.reactor = HandReactor()
        hub = self.site.hub
        hub.environment = attrs.evolve(hub.environment, threads=ReactorThreads(self.reactor))
        self.site.store = self.site.build()

    def pump(self) -> None:
        self.reactor.turn()

    def teardown_method(self) -> None:
        super().teardown_method()
        self.reactor.pool.stop()


del Backend
