from __future__ import annotations

import threading
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure
from zope.interface.verify import verifyObject

from mailhub.errors import Busy
from mailhub.interfaces import IThreads
from mailhub.threads import InlineThreads, ReactorThreads
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
