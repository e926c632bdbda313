"""What waits for some keeps nobody else's mail out of memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs
import pytest
from twisted.internet.defer import Deferred

from mailhub.delivery.limits import RunnerLimits
from mailhub.interfaces import Claim, Delivery
from mailhub.message.envelope import Outcome, Reach
from mailhub.testing.waiting import result_of
from tests.delivery.test_runner import NO, Scripted, World, remade

SILENT = attrs.evolve(Outcome.delayed("No greeting"), reach=Reach.UNREACHED)


class Silent(Scripted):
    """Hosts whose name begins with `dead` accept a connection and say nothing for five minutes."""

    def __init__(self, **answers: list[Any]) -> None:
        super().__init__(False, **answers)
        self.world: World | None = None
        self.at_work = 0

    async def deliver(self, delivery: Delivery) -> Mapping[int, Outcome]:
        if not delivery.target.startswith("dead"):
            return await super().deliver(delivery)
        assert self.world is not None
        self.at_work += 1
        waiter: Deferred[None] = Deferred()
        self.world.clock.callLater(300, waiter.callback, None)
        await waiter
        self.at_work -= 1
        return {row.id: SILENT for row in delivery.recipients}

    @property
    def targets(self) -> list[str]:
        return [target for target, _ in self.calls]


def made(folder: Path, **answers: list[Any]) -> tuple[World, Silent]:
    agent = Silent(**answers)
    world = agent.world = World(folder, agent)
    return world, agent


def with_large_message(world: World, count: int = 1) -> str:
    """Of a thousand recipients at a silent host, and at work."""
    for _ in range(count):
        name = world.submit(*(f"r{number}" for number in range(1000)), target="dead")
    world.runner.start()
    world.run(2)
    return name


@pytest.mark.parametrize("count", [1, 8])
def test_a_large_message_for_a_silent_host_keeps_nothing_else(tmp_path: Path, count: int) -> None:
    world, agent = made(tmp_path, no=[NO])
    with_large_message(world, count)
    assert 0 < agent.at_work <= 5
    assert len(result_of(world.database.queue.claim(2**60, 10**6, 10**6))) >= count - 5, "the others are not in memory"
    world.submit("b", target="good")
    world.submit("no", target="third")
    world.run(2)
    assert sorted(agent.targets) == ["good", "third"]
    assert len(world.inbox()) == 1, "DSNs go"
    world.close()


def test_an_operator_is_heard_while_a_large_message_is_at_work(tmp_path: Path) -> None:
    world, agent = made(tmp_path, b=[Outcome.delayed("450 busy", status="4.2.0"), Outcome.delivered()])
    queue = world.database.queue
    world.submit("b", target="good")
    world.runner.start()
    world.run(1)
    large = with_large_message(world)
    later = world.queued()[0].id
    assert result_of(queue.retry([later])) == 1
    world.run(1)
    assert agent.targets == ["good"] * 2
    assert result_of(queue.remove([large])) == 1
    assert world.queued() == []
    world.run(310)
    assert agent.at_work == 0
    assert world.runner.standing("smtp dead")[0] == 0
    assert not world.runner.trying
    world.close()


def many_silent(world: World, count: int = 3000) -> None:
    for number in range(count):
        world.submit("b", target=f"dead{number}")
    world.run(20)


def test_many_silent_hosts_leave_a_good_one_its_places(tmp_path: Path) -> None:
    world, agent = made(tmp_path, no=[NO])
    world.runner.start()
    world.submit("b", target="good")
    world.run(1)
    many_silent(world)
    assert agent.at_work == 180
    claimed = world.database.queue._claims.rows
    assert len(claimed) <= RunnerLimits().held + 180
    del agent.calls[:]
    for _ in range(5):
        world.submit("b", target="good")
        world.submit("no", target="good")
        world.run(1)
    assert agent.targets == ["good"] * 10
    assert len(world.inbox()) == 5, "DSNs go"
    assert len(world.database.queue._claims.rows) <= RunnerLimits().held + 180
    # What the operator wants tried now has places, too.
    waiting = [message.id for message in world.queued()][-1]
    before = agent.at_work
    result_of(world.database.queue.retry([waiting]))
    world.run(1)
    assert agent.at_work == before + 1
    world.close()


def test_hosts_that_were_slow_leave_new_ones_half_of_the_places(tmp_path: Path) -> None:
    """Of rows that were put off before nobody knows more after a restart."""
    world, agent = made(tmp_path)
    for number in range(500):
        world.submit("b", target=f"dead{number}")

    def tried(claims: Sequence[Claim]) -> None:
        for claim in claims:
            settled = [
                world.runner._settlement(claim.message, row, SILENT, 1_000_000) for row in claim.message.recipients
            ]
            assert result_of(world.database.queue.settle(claim, settled))

    tried(result_of(world.database.queue.claim(1_000_000, 10_000, 10)))
    world = agent.world = remade(world, agent=agent, limits=RunnerLimits(held=300))
    world.clock.advance(100)
    world.runner.start()
    world.run(20)
    assert agent.at_work == 100
    assert len(world.database.queue._claims.rows) <= 150 + 100
    for number in range(50):
        world.submit("b", target=f"new{number}")
    world.run(2)
    assert len(set(agent.targets)) == 50
    world.close()
