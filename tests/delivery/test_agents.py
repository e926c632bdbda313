"""Agents that are replaced while they work."""

from __future__ import annotations

from typing import Any

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.logger import capturedLogs, formatEvent
from zope.interface import implementer

from mailhub.delivery.agents import Agents, GuardedAgent
from mailhub.guard import Guard
from mailhub.interfaces import Delivery, IDeliveryAgent
from mailhub.message.envelope import Outcome
from mailhub.testing.waiting import result_of


@implementer(IDeliveryAgent)
@attrs.define(eq=False)
class Agent:
    """Its stop() may take a while."""

    stopped: int = 0
    stopping: Any = None

    async def deliver(self, delivery: Delivery) -> dict[int, Outcome]:
        return {}

    async def stop(self) -> None:
        self.stopped += 1
        if self.stopping is not None:
            await self.stopping


def guarded(agent: Any, name: str = "smtp") -> GuardedAgent:
    return GuardedAgent(agent, Guard("agent", name, "", Clock()))


def test_one_that_is_replaced_at_work_is_stopped_after_its_last_attempt() -> None:
    old, new = Agent(), Agent()
    desk = guarded(old)
    agents = Agents({"smtp": desk})
    first, second = agents.at_work("smtp"), agents.at_work("smtp")
    assert (first.__enter__(), second.__enter__()) == (desk, desk)
    agents.replace({"smtp": guarded(new)})
    with agents.at_work("smtp") as found:
        assert found is not None
        assert found.agent is new
    first.__exit__(None, None, None)
    assert old.stopped == 0
    second.__exit__(None, None, None)
    assert (old.stopped, new.stopped) == (1, 0)


def test_an_idle_one_is_stopped_at_once_and_one_that_is_no_more_is_none() -> None:
    old = Agent()
    agents = Agents({"uucp": guarded(old)})
    agents.replace({})
    assert old.stopped == 1
    with agents.at_work("uucp") as found:
        assert found is None


def test_the_end_waits_for_those_that_are_still_leaving() -> None:
    slow: Deferred[None] = Deferred()
    old, new = Agent(stopping=slow), Agent()
    agents = Agents({"smtp": guarded(old)})
    agents.replace({"smtp": guarded(new)})
    ended: list[object] = []
    Deferred.fromCoroutine(agents.stop()).addBoth(ended.append)
    assert (new.stopped, ended) == (1, [])
    slow.callback(None)
    assert ended == [None]


def test_one_that_cannot_be_stopped_keeps_nobody() -> None:
    broken: Any = object()
    agents = Agents({"a": guarded(broken, "a"), "b": guarded(good := Agent(), "b")})
    with capturedLogs() as events:
        result_of(agents.stop())
    (line,) = map(formatEvent, events)
    assert line.startswith("agent failed: agent=a method=stop ")
    assert good.stopped == 1
