from __future__ import annotations

import sys
import threading
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from zope.interface.verify import verifyObject

from mailhub import threads as module
from mailhub.errors import Busy
from mailhub.interfaces import IThreads
from mailhub.threads import FewThreads, InlineThreads, Leave, ReactorThreads
from tests.store.harness import HandReactor


@pytest.fixture
def reactor() -> Any:
    reactor = HandReactor()
    yield reactor
    reactor.pool.stop()


def outcome(deferred: Deferred[Any]) -> Any:
    results: list[Any] = []
    deferred.addBoth(results.append)
    return results[0].value if results and isinstance(results[0], Failure) else (results or [None])[0]


def test_both_keep_the_contract(reactor: HandReactor) -> None:
    assert verifyObject(IThreads, ReactorThreads(reactor))
    assert verifyObject(IThreads, InlineThreads())


@pytest.mark.parametrize("threads", [InlineThreads(), FewThreads(InlineThreads(), "mine")])
def test_those_of_a_component_keep_it_too(threads: Any) -> None:
    assert verifyObject(IThreads, threads)
    assert outcome(threads.run(lambda a, b: a + b, 1, 2)) == 3
    assert isinstance(outcome(threads.run(int, "x")), ValueError)


def test_a_call_runs_in_another_thread_and_its_result_arrives_on_the_reactors(reactor: HandReactor) -> None:
    threads = ReactorThreads(reactor, size=2)
    assert reactor.size == 2
    result = threads.run(lambda name: (name, threading.get_ident()), "x")
    assert not result.called
    reactor.turn()
    name, thread = outcome(result)
    assert name == "x"
    assert thread != threading.get_ident()


def test_what_a_call_raises_arrives(reactor: HandReactor) -> None:
    result = ReactorThreads(reactor).run(int, "x")
    reactor.turn()
    assert isinstance(outcome(result), ValueError)


def test_too_many_calls_are_refused_until_some_have_ended(reactor: HandReactor) -> None:
    threads = ReactorThreads(reactor, backlog=3)
    go_on = threading.Event()
    running = [threads.run(go_on.wait, 30) for _ in range(3)]
    assert isinstance(outcome(threads.run(int)), Busy)
    # A caller that gives up does not free a thread.
    running[0].addErrback(lambda failure: True)
    running[0].cancel()
    assert isinstance(outcome(threads.run(int)), Busy)
    go_on.set()
    reactor.turn(3)
    result = threads.run(int, "7")
    reactor.turn()
    assert outcome(result) == 7


def test_a_loop_has_its_own_thread_and_does_not_keep_the_process_alive(reactor: HandReactor) -> None:
    threads = ReactorThreads(reactor)
    found: list[threading.Thread] = []
    threads.start_loop("writer", lambda: threads.call_in_reactor(found.append, threading.current_thread()))
    reactor.turn()
    assert found[0].name == "writer"
    assert found[0].daemon


def test_inline_everything_happens_at_once() -> None:
    threads = InlineThreads()
    assert outcome(threads.run(lambda a, b: a + b, 1, 2)) == 3
    assert isinstance(outcome(threads.run(int, "x")), ValueError)
    called: list[int] = []
    threads.call_in_reactor(called.append, 1)
    assert called == [1]
    with pytest.raises(RuntimeError):
        threads.start_loop("writer", lambda: None)


# --- Threads of one component ----------------------------------------------------------------------------------------


class Stuck:
    """Calls that do not return before they are let go."""

    def __init__(self) -> None:
        self.go_on = threading.Event()
        self.began = threading.Semaphore(0)
        self.called: list[int] = []

    def call(self, number: int) -> int:
        self.called.append(number)
        self.began.release()
        assert self.go_on.wait(60)
        return number

    def wait_for(self, calls: int) -> None:
        for _ in range(calls):
            assert self.began.acquire(timeout=30)


@pytest.fixture
def stuck() -> Any:
    stuck = Stuck()
    yield stuck
    stuck.go_on.set()


def test_what_is_stuck_takes_the_threads_of_its_own_component_alone(reactor: HandReactor, stuck: Stuck) -> None:
    shared = ReactorThreads(reactor)
    few = FewThreads(shared, "policy mine", size=3, backlog=2)
    running = [few.run(stuck.call, number) for number in range(3)]
    stuck.wait_for(3)
    waiting = [few.run(stuck.call, number) for number in (3, 4)]
    assert isinstance(outcome(few.run(stuck.call, 5)), Busy)
    # Everybody else is served: the pool, and another component.
    others = [shared.run(int, "7"), FewThreads(shared, "policy other").run(int, "8")]
    reactor.turn(2)
    assert [outcome(other) for other in others] == [7, 8]
    assert not any(each.called for each in running + waiting)
    stuck.go_on.set()
    reactor.turn(5)
    assert [outcome(each) for each in running + waiting] == [0, 1, 2, 3, 4]


def test_a_thread_is_taken_until_it_is_back_whoever_still_waits_for_it(reactor: HandReactor, stuck: Stuck) -> None:
    few = FewThreads(ReactorThreads(reactor), "mine", size=1, backlog=2)
    first, second, third = (few.run(stuck.call, number) for number in range(3))
    stuck.wait_for(1)
    for given_up in (first, second):
        given_up.addErrback(lambda failure: None)
        given_up.cancel()
    fourth = few.run(stuck.call, 3)  # there is room again for one that waits
    assert stuck.called == [0]
    stuck.go_on.set()
    reactor.turn(3)
    assert (outcome(third), outcome(fourth)) == (2, 3)
    assert stuck.called == [0, 2, 3]


def test_its_threads_do_not_keep_the_process_alive_and_end_when_they_are_idle(
    reactor: HandReactor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "IDLE_SECONDS", 0.001)
    few = FewThreads(ReactorThreads(reactor), "mine")
    for _ in range(2):
        result = few.run(threading.current_thread)
        while not result.called:  # it may ask whether it may go before it has begun
            reactor.turn()
        thread = outcome(result)
        assert (thread.name, thread.daemon) == ("mine", True)
        reactor.turn()  # it asks whether it may go
        thread.join(30)
        assert not thread.is_alive()


def test_one_that_wants_to_go_is_given_what_there_is_to_do(
    reactor: HandReactor, monkeypatch: pytest.MonkeyPatch
) -> None:
    few = FewThreads(ReactorThreads(reactor), "mine")
    monkeypatch.setattr(module, "IDLE_SECONDS", 0.001)
    first = few.run(int)
    while not first.called:
        reactor.turn()
    assert reactor.arrived.acquire(timeout=30)  # it asks,
    result = few.run(int, "7")  # and meanwhile there is something
    reactor.calls.pop(0)()
    reactor.turn()
    assert outcome(result) == 7


def test_a_system_without_threads_is_busy(reactor: HandReactor, monkeypatch: pytest.MonkeyPatch) -> None:
    few = FewThreads(ReactorThreads(reactor), "mine", size=1)
    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", lambda _: _no_thread())
        assert isinstance(outcome(few.run(int)), Busy)
    result = few.run(int, "7")
    reactor.turn()
    assert outcome(result) == 7


def _no_thread() -> None:
    raise RuntimeError("can't start new thread")


def test_sys_exit_in_a_call_ends_nothing_but_the_call(reactor: HandReactor) -> None:
    few = FewThreads(ReactorThreads(reactor), "mine", size=1)
    first, second = few.run(sys.exit, 3), few.run(int, "7")
    reactor.turn(2)
    assert isinstance(outcome(first), SystemExit)
    assert outcome(second) == 7


def given_up(result: Deferred[Any]) -> None:
    result.addErrback(lambda failure: None)
    result.cancel()


def test_a_call_that_takes_too_long_is_left_behind_but_not_before_its_time(reactor: HandReactor, stuck: Stuck) -> None:
    clock = Clock()
    one = FewThreads(ReactorThreads(reactor), "mine", size=1, leave=Leave(clock, 30))
    first = one.run(stuck.call, 1)
    stuck.wait_for(1)
    clock.advance(20)
    given_up(first)  # a client has gone
    second = one.run(stuck.call, 2)
    clock.advance(9)
    assert stuck.called == [1]
    clock.advance(1)
    stuck.wait_for(1)
    clock.advance(30)
    given_up(second)  # at the end of its time
    third = one.run(int, "3")
    reactor.turn()
    assert outcome(third) == 3
    # What is late is nobody's, and one is called at a time again.
    stuck.go_on.set()
    reactor.turn(2)
    fourth, fifth = one.run(int, "4"), one.run(int, "5")
    reactor.turn(2)
    assert (outcome(fourth), outcome(fifth)) == (4, 5)
    assert clock.getDelayedCalls() == []


def test_one_that_comes_back_within_its_time_was_not_stuck(reactor: HandReactor, stuck: Stuck) -> None:
    clock = Clock()
    one = FewThreads(ReactorThreads(reactor), "mine", size=1, leave=Leave(clock, 30, calls=1))
    first = one.run(stuck.call, 1)
    given_up(first)
    stuck.go_on.set()
    reactor.turn()
    clock.advance(30)
    second = one.run(int, "2")
    reactor.turn()
    assert outcome(second) == 2


def test_few_are_left_behind_and_then_all_are_refused_until_one_is_back(reactor: HandReactor, stuck: Stuck) -> None:
    clock = Clock()
    one = FewThreads(ReactorThreads(reactor), "mine", size=1, leave=Leave(clock, 30, calls=2))
    first = one.run(stuck.call, 1)
    second, waiting = one.run(stuck.call, 2), one.run(int, "3")
    clock.advance(30)
    given_up(first)
    stuck.wait_for(2)
    clock.advance(30)
    given_up(second)
    assert isinstance(outcome(waiting), Busy)
    assert isinstance(outcome(one.run(int, "4")), Busy)
    stuck.go_on.set()
    reactor.turn()
    fifth = one.run(int, "5")
    reactor.turn(2)
    assert outcome(fifth) == 5
