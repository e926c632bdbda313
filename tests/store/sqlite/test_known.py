from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from mailhub.errors import NoSuchUser, OverQuota
from mailhub.interfaces import Deposit, Plan, Submission
from mailhub.message.address import Address
from mailhub.message.envelope import Mail
from mailhub.store.exam.rig import Exam, make_body, message
from mailhub.store.known import FRESH_SECONDS, KnownAccounts
from mailhub.store.sqlite.database import Database
from mailhub.threads import InlineThreads
from tests.store.harness import FAST, NOW, environment

T = TypeVar("T")

USER = "b@yy.example"
QUOTA = 10_000
wait = Exam().wait_for


class CountingThreads(InlineThreads):
    """Counts hops; with `held` set, the results of calls wait there instead."""

    def __init__(self) -> None:
        self.count = 0
        self.held: list[Callable[[], object]] | None = None

    def run(self, function: Callable[..., T], *args: object) -> Deferred[T]:
        self.count += 1
        done: Deferred[T] = super().run(function, *args)
        if self.held is None:
            return done
        later: Deferred[T] = Deferred()
        self.held.append(lambda: done.chainDeferred(later))
        return later


class Server:
    def __init__(self, folder: Path) -> None:
        self.clock = Clock()
        self.clock.advance(NOW)
        self.threads = CountingThreads()
        self.database = Database(environment(folder, clock=self.clock, threads=self.threads), FAST, create=True)
        wait(self.database.start())

    def hops(self, call: Callable[[], Any]) -> int:
        before = self.threads.count
        wait(call())
        return self.threads.count - before

    async def ask(self) -> bool:
        """What RCPT asks."""
        if not await self.database.store.exists(USER):
            return False
        await self.database.store.check_quota(USER, 100)
        return True

    async def deliver(self, size: int) -> Any:
        body = await make_body(self.database.queue.new_body, message(1, size))
        plan = Plan((Deposit(Address("b", "yy.example"), USER),))
        return await self.database.queue.submit(Submission(Mail(None), plan, body))


@pytest.fixture
def server(tmp_path: Path) -> Any:
    server = Server(tmp_path)
    wait(server.database.accounts.add(USER, "", QUOTA))
    yield server
    wait(server.database.stop())


def test_a_recipient_costs_one_read_and_then_none_for_a_second(server: Server) -> None:
    assert server.hops(server.ask) == 1
    assert server.hops(server.ask) == 0
    server.clock.advance(FRESH_SECONDS)
    assert server.hops(server.ask) == 1


def test_only_good_news_is_kept(server: Server) -> None:
    store = server.database.store
    assert wait(store.exists("new@yy.example")) is False
    wait(server.database.accounts.add("new@yy.example", ""))
    assert wait(store.exists("new@yy.example")) is True
    # Full a moment ago, and now there is room.
    inbox = wait(wait(store.account(USER)).mailbox("INBOX"))
    wait(server.deliver(6000))
    for _ in range(2):
        with pytest.raises(OverQuota):
            wait(store.check_quota(USER, 6000))
    wait(inbox.expunge(deleted_only=False))
    wait(store.check_quota(USER, 6000))


def test_the_commit_looks_for_itself(server: Server) -> None:
    wait(server.ask())
    wait(server.deliver(6000))
    wait(server.database.store.check_quota(USER, 6000))  # what was known a moment ago
    assert wait(server.deliver(6000)).refused


def test_an_account_that_is_removed_here_is_gone_at_once(server: Server) -> None:
    wait(server.ask())
    wait(server.database.accounts.remove(USER))
    assert wait(server.ask()) is False
    with pytest.raises(NoSuchUser):
        wait(server.database.store.check_quota(USER, 1))


def test_a_read_that_a_removal_has_overtaken_is_not_kept(server: Server) -> None:
    server.threads.held = []
    asked = Deferred.fromCoroutine(server.database.store.exists(USER))
    (answer,) = server.threads.held
    server.threads.held = None
    wait(server.database.accounts.remove(USER))
    answer()
    answers: list[bool] = []
    asked.addCallback(answers.append)
    assert answers == [True]
    assert wait(server.ask()) is False


def test_an_account_that_another_process_removes_is_gone_with_the_next_commit_or_soon(
    server: Server, tmp_path: Path
) -> None:
    other = Database(environment(tmp_path, seed=2), FAST, owner=False)
    wait(other.start())
    wait(server.ask())
    wait(other.accounts.remove(USER))
    assert wait(server.ask()) is True
    assert wait(server.deliver(10)).refused
    assert wait(server.ask()) is False
    wait(other.accounts.add(USER, ""))
    wait(server.ask())
    wait(other.accounts.remove(USER))
    server.clock.advance(FRESH_SECONDS)
    assert wait(server.ask()) is False
    wait(other.stop())


def test_the_ones_read_first_are_forgotten_first() -> None:
    known = KnownAccounts(Clock(), size=2)
    for user in ("a", "b", "a", "c"):
        known.put(user, None, 0.0)
    assert [known.has(user) for user in "abc"] == [True, False, True]


def test_a_clock_that_is_set_back_keeps_nothing_alive() -> None:
    clock = Clock()
    known = KnownAccounts(clock)
    known.put("a", None, 10.0)
    assert not known.has("a")
    assert not known.fits("a", 1)
