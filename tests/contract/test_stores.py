"""The built-in backends sit the exam that plug-ins sit."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import attrs
import pytest
from twisted.internet.task import Clock

from mailhub.interfaces import Environment, IDatabase, IMailAccount, IMailStore
from mailhub.message.flags import NO_FLAGS, SEEN
from mailhub.message.record import FlagChange
from mailhub.store import changes
from mailhub.store.exam import AccountsExam, NamesExam, QueueExam, StoreExam
from mailhub.store.memory.database import MemoryDatabase
from mailhub.store.sqlite.database import Database
from mailhub.store.sqlite.verify import verify
from mailhub.threads import ReactorThreads
from tests.store.harness import FAST, NOW, HandReactor, environment


class Backend(StoreExam, QueueExam, AccountsExam, NamesExam):
    """All exams of a backend; each question gets a new one."""

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


del Backend
