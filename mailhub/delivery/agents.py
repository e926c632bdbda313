"""The delivery agents of a queue: which there are, who is at work, and how they are replaced meanwhile."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import attrs
from twisted.internet.defer import Deferred, DeferredList, maybeDeferred

from mailhub.interfaces import IDeliveryAgent
from mailhub.log import Logger

_log = Logger(namespace="mailhub.queue")


@attrs.define(eq=False)
class _Desk:
    """One agent, and the number of attempts it has under way."""

    name: str
    agent: IDeliveryAgent
    attempts: int = 0
    leaving: bool = False


class Agents:
    """Agents by name. One that is replaced finishes what it has begun, and is stopped then."""

    def __init__(self, agents: Mapping[str, IDeliveryAgent]) -> None:
        self._desks = _desks(agents)
        self._stopping: set[Deferred[None]] = set()

    @contextmanager
    def at_work(self, name: str) -> Iterator[IDeliveryAgent | None]:
        """The agent of that name for one attempt; None when there is none."""
        desk = self._desks.get(name)
        if desk is None:
            yield None
            return
        desk.attempts += 1
        try:
            yield desk.agent
        finally:
            desk.attempts -= 1
            self._let_go(desk)

    def replace(self, agents: Mapping[str, IDeliveryAgent]) -> None:
        """Use these for every attempt that begins from now on."""
        left, self._desks = self._desks, _desks(agents)
        for desk in left.values():
            desk.leaving = True
            self._let_go(desk)

    def _let_go(self, desk: _Desk) -> None:
        if desk.leaving and not desk.attempts:
            stopping = Deferred.fromCoroutine(_stop(desk))
            self._stopping.add(stopping)
            stopping.addBoth(lambda _: self._stopping.discard(stopping))

    async def stop(self) -> None:
        """Have them close what they keep. No attempt is under way any more."""
        for desk in self._desks.values():
            await _stop(desk)
        await DeferredList(list(self._stopping))


def _desks(agents: Mapping[str, IDeliveryAgent]) -> dict[str, _Desk]:
    return {name: _Desk(name, agent) for name, agent in agents.items()}


async def _stop(desk: _Desk) -> None:
    try:
        await maybeDeferred(desk.agent.stop)
    except Exception:
        _log.failure("agent did not stop: agent={agent}", agent=desk.name)
