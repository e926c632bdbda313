"""Methods that block have a thread of their own, and one that is stuck holds up nobody else."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from mailhub.errors import Busy, StoreUnavailable
from mailhub.guard import Unanswered
from mailhub.store.mirror import own_thread
from mailhub.store.mirror.own_thread import OwnThread
from mailhub.threads import ReactorThreads
from tests.store.harness import HandReactor
from tests.store.mirror.simple_stores import DictStore, PlayedHub, environment

ANN = "ann@xx.example"


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


def test_a_store_that_is_stuck_times_out_and_stops_all_the_same(tmp_path: Path) -> None:
    reactor, clock, stuck = HandReactor(), Clock(), threading.Event()

    class Stuck(DictStore):
        def messages(self, user: str, folder: str) -> list[Any]:
            stuck.wait(60)
            return []

    played = attrs.evolve(environment(tmp_path, clock=clock), threads=ReactorThreads(reactor))
    store = Stuck(None, PlayedHub(played))
    store.mail[ANN] = {"INBOX": {}}

    def outcome_of(coroutine: Any, *, seconds: float = 0) -> Any:
        results: list[Any] = []
        Deferred.fromCoroutine(coroutine).addBoth(results.append)
        while not results:
            if reactor.arrived.acquire(timeout=0.5):
                reactor.calls.pop(0)()
            elif seconds:
                clock.advance(seconds)
        return results[0]

    assert outcome_of(store.start()) is None
    mailbox = outcome_of(outcome_of(store.account(ANN)).mailbox("INBOX"))
    assert outcome_of(mailbox.entries(), seconds=10).check(Unanswered, StoreUnavailable)
    # The pool that all share is free.
    shared: list[Any] = []
    ReactorThreads(reactor).run(lambda: 7).addBoth(shared.append)
    while not shared:
        reactor.turn()
    assert shared == [7]
    assert outcome_of(store.stop()) is None
    clock.advance(30)  # the look that nobody waits for any more
    stuck.set()
    reactor.pool.stop()
