"""The delivery agents of a queue: how they are asked, which there are, who is at work, and how they are replaced
meanwhile."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from itertools import islice
from typing import Any

import attrs
from twisted.internet.defer import Deferred, DeferredList

from mailhub.answers import TEXT_LIMIT, Nonsense, cut, shown
from mailhub.errors import MailError
from mailhub.guard import Guard
from mailhub.interfaces import Delivery, IDeliveryAgent
from mailhub.message.envelope import Outcome, Reach, Source, State


@attrs.frozen(eq=False)
class GuardedAgent:
    """An agent, and the guard that it is asked by."""

    agent: IDeliveryAgent
    guard: Guard

    async def deliver(self, delivery: Delivery, seconds: float) -> Mapping[int, Outcome]:
        """What has become of the recipients within so many seconds; those that are left out have to wait. Raises
        MailError, of which Unanswered is in the log already."""
        about = {"id": delivery.id}
        outcomes = await self.guard.ask_about(about, "deliver", self._deliver, delivery, seconds=seconds)
        asked = [recipient.id for recipient in delivery.recipients]
        found, fault = self.guard.look("deliver", lambda given: _outcomes(given, asked), outcomes, about)
        if fault:
            self.guard.fault("deliver", fault, about)
        return found

    async def stop(self) -> None:
        """Have it close what it keeps. Whatever it makes of that, it is the last that is heard of it."""
        with suppress(MailError):
            await self.guard.ask_about({}, "stop", self._stop, in_any_case=True)

    # One that has no such method fails as others do.
    def _deliver(self, delivery: Delivery) -> Any:
        return self.agent.deliver(delivery)

    def _stop(self) -> Any:
        return self.agent.stop()


def _outcomes(given: object, asked: Sequence[int]) -> tuple[dict[int, Outcome], str]:
    """Those of the recipients that were asked about, and what is wrong with others. Raises Nonsense."""
    if not isinstance(given, Mapping):
        raise Nonsense(f"it gave {shown(given)}, not an Outcome by the id of each")
    found = {each: given[each] for each in asked if each in given}
    if not all(map(_is_sound, found.values())):
        raise Nonsense(f"it gave {shown(given)}, not an Outcome by the id of each")
    others = () if len(given) == len(found) else [each for each in islice(given, len(found) + 1) if each not in found]
    fault = f"it gave an Outcome for {shown(others[0])}, an id that it was not asked about" if others else ""
    return {each: _bounded(outcome) for each, outcome in found.items()}, fault


def _bounded(outcome: Outcome) -> Outcome:
    """What it says is kept, and told in a DSN."""
    if len(outcome.reply) + len(outcome.remote) + len(outcome.protocol) + len(outcome.tls) <= TEXT_LIMIT:
        return outcome
    return attrs.evolve(
        outcome,
        reply=cut(outcome.reply),
        remote=cut(outcome.remote),
        protocol=cut(outcome.protocol),
        tls=cut(outcome.tls),
    )


def _is_sound(outcome: object) -> bool:
    """Whether its parts are what they should be. Later a mistake would be nobody's."""
    return (
        isinstance(outcome, Outcome)
        and isinstance(outcome.state, State)
        and isinstance(outcome.source, Source)
        and isinstance(outcome.reach, Reach)
        and all(isinstance(text, str) for text in (outcome.reply, outcome.remote, outcome.protocol, outcome.tls))
        and isinstance(outcome.status, str)
        and _STATUS.fullmatch(outcome.status) is not None
    )


_STATUS = re.compile(r"[245]\.[0-9]{1,3}\.[0-9]{1,3}")  # RFC 3463 2


@attrs.define(eq=False)
class _Desk:
    """One agent, and the number of attempts it has under way, each a context. `let_go` is for one that is leaving,
    after the last of them."""

    agent: GuardedAgent
    attempts: int = 0
    let_go: Callable[[GuardedAgent], None] | None = None

    def __enter__(self) -> GuardedAgent:
        self.attempts += 1
        return self.agent

    def __exit__(self, *_: object) -> None:
        self.attempts -= 1
        if self.let_go is not None and not self.attempts:
            self.let_go(self.agent)

    def leave(self, let_go: Callable[[GuardedAgent], None]) -> None:
        """Begin no more attempts."""
        if self.attempts:
            self.let_go = let_go
        else:
            let_go(self.agent)


class Agents:
    """Agents by name. One that is replaced finishes what it has begun, and is stopped then."""

    def __init__(self, agents: Mapping[str, GuardedAgent]) -> None:
        self._desks = _desks(agents)
        self._stopping: set[Deferred[None]] = set()

    def at_work(self, name: str) -> AbstractContextManager[GuardedAgent | None]:
        """The agent of that name for one attempt; None when there is none."""
        desk = self._desks.get(name)
        return nullcontext() if desk is None else desk

    def replace(self, agents: Mapping[str, GuardedAgent]) -> None:
        """Use these for every attempt that begins from now on."""
        left, self._desks = self._desks, _desks(agents)
        for desk in left.values():
            desk.leave(self._let_go)

    def _let_go(self, agent: GuardedAgent) -> None:
        stopping = Deferred.fromCoroutine(agent.stop())
        self._stopping.add(stopping)
        stopping.addBoth(lambda _: self._stopping.discard(stopping))

    async def stop(self) -> None:
        """Have them close what they keep. No attempt is under way any more."""
        for desk in self._desks.values():
            await desk.agent.stop()
        await DeferredList(list(self._stopping))


def _desks(agents: Mapping[str, GuardedAgent]) -> dict[str, _Desk]:
    return {name: _Desk(agent) for name, agent in agents.items()}
