"""A store that cannot be written to sits its own part of the exam, and one that lies is found out."""

from __future__ import annotations

import unittest
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.task import Clock

from mailhub.errors import NotPermitted
from mailhub.interfaces import IMailAccount, IMailStore
from mailhub.message.flags import NO_FLAGS
from mailhub.message.record import READ_ONLY
from mailhub.store.exam.rig import same
from mailhub.store.memory import MemoryDatabase
from mailhub.testing.exams import StoreExam, question
from tests.store.harness import environment

WRITING = ("append", "change_flags", "copy", "move", "expunge")


class Refusing:
    """A mailbox or an account without some of its methods."""

    rights = READ_ONLY

    def __init__(self, thing: Any, names: tuple[str, ...]) -> None:
        self._thing, self._names = thing, names

    def __getattr__(self, name: str) -> Any:
        return self._refuse if name in self._names else getattr(self._thing, name)

    async def _refuse(self, *arguments: object, **named: object) -> None:
        raise NotPermitted

    async def mailbox(self, name: str) -> Any:
        return Refusing(await self._thing.mailbox(name), WRITING)


class ReadOnlyStore(Refusing):
    async def account(self, user: str, create: bool = False) -> Any:
        return Refusing(await self._thing.account(user), ("create", "delete", "rename", "subscribe"))


class ReadOnly(StoreExam):
    __test__ = False
    read_only = True
    makes_accounts = False

    def wrapped(self, store: IMailStore) -> Any:
        return ReadOnlyStore(store, ())

    async def open_store(self) -> IMailStore:
        clock = Clock()
        clock.advance(1_700_000_000)
        database = MemoryDatabase(environment(Path("/nonexistent"), clock=clock))
        await database.accounts.add(self.user, "")
        account: IMailAccount = await database.store.account(self.user)
        inbox = await account.mailbox("INBOX")
        for number in (1, 2, 3):
            await self._append(account, inbox, b"Subject: %d\r\n\r\nHello\r\n" % number, NO_FLAGS)
        store: IMailStore = self.wrapped(database.store)
        return store


class TestReadOnly(ReadOnly):
    """Sits all of it."""

    __test__ = True


class Lying(ReadOnly):
    """Says that nothing can be written, and writes."""

    def wrapped(self, store: IMailStore) -> Any:
        return store


def test_a_store_that_writes_without_a_right_is_found_out() -> None:
    with pytest.raises(AssertionError, match="was expected"):
        Lying().test_without_a_right_nothing_is_changed()


def test_what_is_not_there_is_not_asked() -> None:
    with pytest.raises(unittest.SkipTest, match="no right to i"):
        TestReadOnly().test_a_message_comes_out_as_it_went_in()
    with pytest.raises(unittest.SkipTest, match="read-only"):
        TestReadOnly().test_bad_names_are_refused()


def test_faults_say_what_was_expected_and_what_came() -> None:
    class Short(ReadOnly):
        @question
        async def test_bare(self) -> None:
            came = 3
            assert came == 4

        @question
        async def test_shown(self) -> None:
            same([1], [2])

    with pytest.raises(AssertionError, match=r"\[2\] was expected; \[1\] came"):
        Short().test_shown()
