"""A plugin that blocks the reactor thread is named."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import ModuleType
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.logger import capturedLogs, formatEvent

from mailhub.guard import Guard, Guards
from mailhub.watchdog import Watchdog

CODE = """
def plainly(gate):
    gate()

async def later(gate, waited_for):
    await waited_for
    gate()
"""


def plugin(name: str = "twisted.plugins.slow", file: str = "/plugins/slow.py") -> Any:
    module = ModuleType(name)
    exec(compile(CODE, file, "exec"), module.__dict__)
    return module


class Gate:
    """What a plugin waits for: the test knows when it is there, and opens it."""

    def __init__(self) -> None:
        self.reached, self.opened = threading.Event(), threading.Event()

    def __call__(self) -> None:
        self.reached.set()
        assert self.opened.wait(20)


class Kennel:
    """A watchdog over a thread of the test's, which plays the reactor."""

    def __init__(self) -> None:
        self.clock, self.time, self.gate = Clock(), 100.0, Gate()
        self.guards = Guards(self.clock)
        self.guard = self.guards.make("policy", "slow", "/plugins/slow.py")
        self.dog = Watchdog(self.clock, lambda: self.guards.guards, lambda: self.time)

    @contextmanager
    def blocked(self, work: Callable[[], object]) -> Iterator[None]:
        def reactor() -> None:
            self.dog.tick()
            work()
            self.dog.tick()

        thread = threading.Thread(target=reactor)
        thread.start()
        assert self.gate.reached.wait(20)
        yield
        self.gate.opened.set()
        thread.join(20)

    def ask(self, function: Callable[..., Any], *arguments: object) -> None:
        Deferred.fromCoroutine(self.guard.ask("mail", function, *arguments))


def said(events: Sequence[Any]) -> list[str]:
    return [formatEvent(event) for event in events]


WHO = "kind=policy name=slow method=mail file=/plugins/slow.py line=3"


def test_the_plugin_is_named_once_while_it_blocks_and_when_it_lets_go() -> None:
    kennel = Kennel()
    with capturedLogs() as events, kennel.blocked(lambda: kennel.ask(plugin().plainly, kennel.gate)):
        kennel.time += 0.9
        kennel.dog.look()
        assert events == []
        kennel.time += 0.6
        kennel.dog.look()
        kennel.dog.look()
        kennel.time += 2
        kennel.dog.look()
    assert said(events) == [
        f"plugin blocks the server: {WHO} seconds=1.5",
        f"plugin has let go of the server: {WHO} seconds=3.5",
    ]
    assert kennel.guards.all()[0].blocked == 1


def test_one_that_blocks_after_it_has_waited_is_known_by_its_file() -> None:
    kennel = Kennel()
    waited_for: Deferred[None] = Deferred()
    kennel.ask(plugin("elsewhere").later, kennel.gate, waited_for)
    with capturedLogs() as events, kennel.blocked(lambda: waited_for.callback(None)):
        kennel.time += 1
        kennel.dog.look()
    assert said(events)[0] == "plugin blocks the server: kind=policy name=slow file=/plugins/slow.py line=7 seconds=1.0"


def test_which_of_several_parts_of_a_file_blocks_after_it_has_waited_is_not_guessed() -> None:
    kennel = Kennel()
    kennel.guards.make("agent", "slow", "/plugins/slow.py")
    waited_for: Deferred[None] = Deferred()
    kennel.ask(plugin("elsewhere").later, kennel.gate, waited_for)
    with capturedLogs() as events, kennel.blocked(lambda: waited_for.callback(None)):
        kennel.time += 1
        kennel.dog.look()
    assert said(events)[0] == "plugin blocks the server: file=/plugins/slow.py line=7 seconds=1.0"
    assert [row.blocked for row in kennel.guards.all()] == [0, 0]


def test_a_service_that_blocks_is_known_by_its_guard() -> None:
    kennel = Kennel()
    service = kennel.guards.make("service", "sv", "/plugins/slow.py")

    def work() -> None:
        service.within("dataReceived", plugin().plainly, kennel.gate)

    with capturedLogs() as events, kennel.blocked(work):
        kennel.time += 1
        kennel.dog.look()
    who = "kind=service name=sv method=dataReceived file=/plugins/slow.py line=3"
    assert said(events)[0] == f"plugin blocks the server: {who} seconds=1.0"


def test_a_plugin_that_nobody_has_asked_is_known_by_its_file_alone() -> None:
    kennel = Kennel()
    with capturedLogs() as events, kennel.blocked(lambda: plugin(file="/plugins/timer.py").plainly(kennel.gate)):
        kennel.time += 1
        kennel.dog.look()
    assert said(events)[0] == "plugin blocks the server: file=/plugins/timer.py line=3 seconds=1.0"


def test_who_is_no_plugin_is_not_named() -> None:
    kennel = Kennel()
    with capturedLogs() as events, kennel.blocked(kennel.gate):
        kennel.time += 10
        kennel.dog.look()
    assert events == []


def test_it_ticks_and_ends() -> None:
    kennel = Kennel()
    dog = kennel.dog
    dog.start()
    kennel.clock.advance(1)
    assert len(kennel.clock.getDelayedCalls()) == 1
    dog.stop()
    assert kennel.clock.getDelayedCalls() == []


def test_guards_know_the_frame_that_names_them() -> None:
    """The watchdog reads these names of a running call."""
    for call in (Guard.ask_about, Guard.within):
        assert {"self", "method"} <= set(call.__code__.co_varnames)
