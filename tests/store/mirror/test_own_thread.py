"""Methods that block have a thread of their own, and one that is stuck holds up nobody else."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import attrs
import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from mailhub.errors import Busy, StoreUnavailable
from mailhub.guard import Unanswered
from mailhub.store.mirror import own_thread
from mailhub.store.mirror.own_thread import OwnThread
from mailhub.threads import FEW, ReactorThreads
from tests.store.harness import HandReactor
from tests.store.mirror.simple_stores import DictStore, PlayedHub, environment

ANN = "ann@xx.example"
BEN = "ben@xx.example"


def test_calls_run_one_at_a_time_in_order_in_one_thread_of_their_own() -> None:
    reactor = HandReactor()
    thread = OwnThread(ReactorThreads(reactor), "mine")
    seen: list[Any] = []
    outcomes: list[Any] = []
    for number in range(5):
        thread.run(lambda n: seen.append((n, threading.current_thread().name)), number).addBoth(outcomes.append)
    while len(outcomes) < 5:
        reactor.turn()
    assert seen == [(number, "mine") for number in range(5)]
    thread.close()
    thread.run(print).addBoth(outcomes.append)
    assert outcomes[-1].check(StoreUnavailable)
    reactor.pool.stop()


def test_what_nobody_waits_for_any_more_is_never_called(monkeypatch: Any) -> None:
    monkeypatch.setattr(own_thread, "WAITING", 3)
    reactor = HandReactor()
    thread = OwnThread(ReactorThreads(reactor), "mine")
    stuck = threading.Event()
    called: list[int] = []
    first = thread.run(stuck.wait, 30)
    second = thread.run(called.append, 2).addErrback(lambda _: None)
    third = thread.run(called.append, 3)
    refused: list[Any] = []
    thread.run(called.append, 4).addBoth(refused.append)
    assert refused[0].check(Busy)
    second.cancel()
    stuck.set()
    while not third.called:
        reactor.turn()
    assert first.called
    assert called == [3]
    thread.close()
    reactor.pool.stop()


class Stuck(DictStore):
    """Lists an INBOX when it is told to, if it is Ann's."""

    def __init__(self, options: Any, hub: Any) -> None:
        super().__init__(options, hub)
        self.began = threading.Semaphore(0)
        self.go_on = threading.Event()
        self.mail = {ANN: {"INBOX": {}}, BEN: {"INBOX": {1: (b"Subject: x\r\n\r\n", frozenset(), 0)}}}

    def messages(self, user: str, folder: str) -> list[Any]:
        if user == ANN:
            self.began.release()
            self.go_on.wait(60)
        return super().messages(user, folder)


class Stage:
    """A store in real threads, with a clock that is set by hand."""

    def __init__(self, folder: Path) -> None:
        self.reactor, self.clock = HandReactor(), Clock()
        played = attrs.evolve(environment(folder, clock=self.clock), threads=ReactorThreads(self.reactor))
        self.store = Stuck(None, PlayedHub(played))
        assert self.outcome_of(self.store.start()) is None

    def outcome_of(self, coroutine: Any) -> Any:
        results: list[Any] = []
        Deferred.fromCoroutine(coroutine).addBoth(results.append)
        while not results:
            self.reactor.turn()
        return results[0]

    def list_inbox(self, user: str) -> Any:
        account = self.outcome_of(self.store.account(user))
        if isinstance(account, Failure):
            return account
        return self.outcome_of(self.outcome_of(account.mailbox("INBOX")).entries())

    def stick(self) -> Any:
        """What comes of listing Ann's INBOX when its time is over."""
        mailbox = self.outcome_of(self.outcome_of(self.store.account(ANN)).mailbox("INBOX"))
        results: list[Any] = []
        Deferred.fromCoroutine(mailbox.entries()).addBoth(results.append)
        while not self.store.began.acquire(timeout=0.001):
            if self.reactor.arrived.acquire(blocking=False):
                self.reactor.calls.pop(0)()
        self.clock.advance(30)
        return results[0]

    def end(self) -> None:
        assert self.outcome_of(self.store.stop()) is None
        self.store.go_on.set()
        self.reactor.pool.stop()


@pytest.fixture
def stage(tmp_path: Path) -> Any:
    stage = Stage(tmp_path)
    yield stage
    stage.end()


def test_a_store_that_is_stuck_times_out_and_stops_all_the_same(stage: Stage) -> None:
    assert stage.stick().check(Unanswered, StoreUnavailable)
    # The pool that all share is free.
    shared: list[Any] = []
    ReactorThreads(stage.reactor).run(lambda: 7).addBoth(shared.append)
    while not shared:
        stage.reactor.turn()
    assert shared == [7]


def test_one_call_that_is_stuck_holds_up_no_other_user_of_the_store(stage: Stage) -> None:
    assert stage.stick().check(Unanswered, StoreUnavailable)
    assert [entry.uid for entry in stage.list_inbox(BEN)] == [1]


def test_a_store_of_many_stuck_calls_is_busy_until_one_is_back(stage: Stage) -> None:
    for _ in range(FEW):
        assert stage.stick().check(Unanswered, StoreUnavailable)
    assert stage.list_inbox(BEN).check(Busy)
    stage.store.go_on.set()
    stage.reactor.turn(FEW)
    assert [entry.uid for entry in stage.list_inbox(BEN)] == [1]
    assert stage.list_inbox(ANN) == []
