"""The runner of the queue: takes messages that are due, has agents deliver them, records what became of each recipient.

Nothing is kept here that a crash could lose: a row stays in the queue until its outcome is recorded. An attempt that
was cut short is repeated, under the same delivery id.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

import attrs
from twisted.internet.defer import CancelledError, Deferred, DeferredList, maybeDeferred
from twisted.internet.defer import TimeoutError as DeferredTimeout
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.task import deferLater

from mailhub.delivery.agents import Agents
from mailhub.delivery.bounce import Bouncer
from mailhub.delivery.lanes import Lanes
from mailhub.delivery.limits import RunnerLimits
from mailhub.delivery.loops import LOOP, LOOP_STATUS, LOOP_TEXT, Prefixed
from mailhub.delivery.plan import mail_of
from mailhub.delivery.schedule import Schedule
from mailhub.errors import MailError, MessageDamaged, MessageGone
from mailhub.interfaces import (
    Delivery,
    Environment,
    IDeliveryAgent,
    IQueue,
    QueuedMessage,
    QueuedRecipient,
    ReversePath,
    Settlement,
    Submission,
)
from mailhub.log import Logger
from mailhub.message.envelope import Outcome, Source, State
from mailhub.message.trace import delivered_to_fields

_log = Logger(namespace="mailhub.queue")

# What recipients must share to travel together: agent, target, and the domain where the target is found by MX.
Lane = tuple[str, str, str]
_FAILED: Lane = ("", "", "")

# Seconds by which wall clock and monotonic clock may drift apart between two looks at the queue.
CLOCK_SLACK = 60


@attrs.frozen
class _Attempt:
    message: QueuedMessage
    rows: tuple[QueuedRecipient, ...]


class QueueRunner:
    """Works on one queue. `wake` may be called at any time, before `start` too."""

    def __init__(
        self,
        *,
        queue: IQueue,
        agents: Mapping[str, IDeliveryAgent],
        bouncer: Bouncer,
        schedule: Schedule,
        environment: Environment,
        limits: RunnerLimits | None = None,
    ) -> None:
        self._queue = queue
        self._agents = Agents(agents)
        self._bouncer = bouncer
        self._schedule = schedule
        self._environment = environment
        self._clock = environment.clock
        self._limits = limits or RunnerLimits()
        self._lanes: Lanes[Lane, _Attempt] = Lanes(self._limits.attempts, self._limits.attempts_per_target)
        # Message ids that are under way or wait for it, with the number of attempts each is part of.
        self._held: dict[str, int] = {}
        self._working: set[Deferred[None]] = set()
        self._timer: IDelayedCall | None = None
        self._scan: Deferred[None] | None = None
        self._again = False
        self._full = False
        self._running = False
        # Wall clock less monotonic clock, as last seen.
        self._offset: float | None = None

    # --- When to look ----------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin; what is due is tried at once."""
        self._running = True
        self._look_in(0)

    async def stop(self) -> None:
        """Start nothing more, wait for what is under way, cut it off when it takes too long, stop the agents."""
        self._running = False
        self._disarm()
        self._lanes.clear()
        working = [*self._working, *([self._scan] if self._scan else [])]
        if working:
            cutter = self._clock.callLater(self._limits.stop_seconds, _cancel_all, working)
            await DeferredList(working, consumeErrors=True)
            if cutter.active():
                cutter.cancel()
        await self._agents.stop()

    def reform(
        self,
        *,
        agents: Mapping[str, IDeliveryAgent],
        bouncer: Bouncer,
        schedule: Schedule,
        limits: RunnerLimits,
    ) -> None:
        """Work by other parts from the next attempt on. Those under way end as they began; their waits are told by the
        new schedule."""
        self._bouncer, self._schedule, self._limits = bouncer, schedule, limits
        self._agents.replace(agents)
        self._lanes.resize(limits.attempts, limits.attempts_per_target)
        if self._running:
            self._clock.callLater(0, self._dispatch)

    def wake(self) -> None:
        """Something was put into the queue: look now."""
        self._look_in(0)

    def _look_in(self, seconds: float) -> None:
        """Look after `seconds`, or earlier where that is planned already."""
        if not self._running:
            return
        if self._timer is not None:
            if self._timer.getTime() <= self._clock.seconds() + seconds:
                return
            self._disarm()
        self._timer = self._clock.callLater(seconds, self._look)

    def _disarm(self) -> None:
        timer, self._timer = self._timer, None
        if timer is not None and timer.active():
            timer.cancel()

    def _look(self) -> None:
        self._timer = None
        if self._scan is not None:
            self._again = True
            return
        self._scan = Deferred.fromCoroutine(self._look_at_queue())
        self._scan.addBoth(self._looked)

    def _looked(self, _: object) -> None:
        self._scan = None
        if self._again:
            self._again = False
            self._look_in(0)

    async def _look_at_queue(self) -> None:
        pause = self._limits.poll_seconds
        try:
            now = self._environment.now()
            self._look_at_clocks(now)
            room = self._limits.held - len(self._held)
            latest = now + self._schedule.longest_wait + CLOCK_SLACK
            messages = await self._queue.due(now, room, tuple(self._held), latest) if room > 0 else ()
            self._full = len(messages) >= room
            if not self._running:
                return
            for message in messages:
                self._take(message)
            due = await self._queue.next_due()
            # Rows due already are under way, or there was no room for them: their end wakes us.
            if due is not None and due > now:
                pause = min(pause, due - now)
        except MailError as error:
            _log.error("queue cannot be read: {error:text}", error=error)
        except Exception:
            _log.failure("queue cannot be read")
        self._look_in(max(pause, 0))

    def _look_at_clocks(self, now: int) -> None:
        """Say once that the wall clock was set. What waits needs nothing more: see `IQueue.due` and `Schedule`."""
        offset = now - self._environment.monotonic()
        before, self._offset = self._offset, offset
        if before is not None and abs(offset - before) > CLOCK_SLACK:
            _log.warn("the clock was set, or the machine slept: seconds={seconds:+.0f}", seconds=offset - before)

    # --- Who is next -----------------------------------------------------------------------------------------------

    def _take(self, message: QueuedMessage) -> None:
        groups: dict[tuple[Lane, tuple[str, ...], ReversePath | None], list[QueuedRecipient]] = {}
        for row in message.recipients:
            # What came through other aliases, or has another reverse-path, is another message to the next hop, though
            # one lane bounds both.
            groups.setdefault((_lane(row), row.route.via, row.route.reverse_path), []).append(row)
        self._held[message.id] = len(groups)
        for (lane, _, _), rows in groups.items():
            self._lanes.add(lane, _Attempt(message, tuple(rows)))
        self._dispatch()

    def _dispatch(self) -> None:
        while self._running and (turn := self._lanes.take()) is not None:
            lane, attempt = turn
            work = Deferred.fromCoroutine(self._work(lane, attempt))
            self._working.add(work)
            work.addBoth(self._worked, work, lane, attempt.message.id)

    def _worked(self, _: object, work: Deferred[None], lane: Lane, message_id: str) -> None:
        self._working.discard(work)
        self._lanes.done(lane)
        self._held[message_id] -= 1
        if not self._held[message_id]:
            del self._held[message_id]
            if self._full:
                self.wake()
        # Not from here: an agent that answers at once would nest one call in the other, a thousand deep.
        if self._running:
            self._clock.callLater(0, self._dispatch)

    # --- One attempt -----------------------------------------------------------------------------------------------

    async def _work(self, lane: Lane, attempt: _Attempt) -> None:
        message = attempt.message
        try:
            failed = {row.id: row.last for row in attempt.rows if row.last is not None}
            await self._record(attempt, failed if lane == _FAILED else await self._deliver(lane, attempt))
        except (MessageGone, CancelledError):
            # Removed by the operator, or we stop: then the attempt is repeated after the next start.
            return
        except Exception:
            _log.failure("attempt failed: id={id}", id=message.id)
            self._look_in(self._limits.retry_seconds)

    async def _deliver(self, lane: Lane, attempt: _Attempt) -> Mapping[int, Outcome]:
        if lane[0] == LOOP:
            return {row.id: Outcome.failed(LOOP_TEXT, status=LOOP_STATUS) for row in attempt.rows}
        with self._agents.at_work(lane[0]) as agent:
            if agent is None:
                outcome = Outcome.delayed(f"No delivery agent is named {lane[0]}", status="4.3.5")
                return {row.id: outcome for row in attempt.rows}
            return await self._ask(agent, lane, attempt)

    async def _ask(self, agent: IDeliveryAgent, lane: Lane, attempt: _Attempt) -> Mapping[int, Outcome]:
        message = attempt.message
        try:
            body = await self._queue.open(message.id)
        except MessageDamaged as error:
            _log.error(
                "message is damaged, it is given up: id={id} reason={reason!r}", id=message.id, reason=str(error)
            )
            outcome = Outcome.failed(error.text, status=error.status)
            return {row.id: outcome for row in attempt.rows}
        needs = message.needs
        if via := attempt.rows[0].route.via:
            fields = delivered_to_fields(via)
            body = Prefixed(fields, body)
            needs = needs if fields.isascii() else None  # another header: look again
        try:
            mail = mail_of(message, attempt.rows[0].route, self._environment.now())
            delivery = Delivery(message.id, mail, lane[1], attempt.rows, body, needs)
            answer = maybeDeferred(agent.deliver, delivery)
            outcomes = await answer.addTimeout(self._limits.attempt_seconds, self._clock)
            return _checked(outcomes)
        except DeferredTimeout:
            _log.error("agent timed out: id={id} agent={agent}", id=message.id, agent=lane[0])
        except Exception as error:
            if isinstance(error, CancelledError) and not self._running:
                raise
            _log.failure("agent failed: id={id} agent={agent}", id=message.id, agent=lane[0])
        finally:
            body.close()
        return {}

    async def _record(self, attempt: _Attempt, outcomes: Mapping[int, Outcome]) -> None:
        now = self._environment.now()
        settlements = [self._settlement(attempt.message, row, outcomes.get(row.id), now) for row in attempt.rows]
        for row, settlement in zip(attempt.rows, settlements, strict=True):
            _log_state(attempt.message, row, settlement)
        going_on = [settlement for settlement in settlements if settlement.outcome.state is not State.FAILED]
        if going_on:
            await self._settle(attempt.message, going_on)
        failed = {settlement.id: settlement for settlement in settlements if settlement.outcome.state is State.FAILED}
        if failed:
            rows = [row for row in attempt.rows if row.id in failed]
            await self._bounce(attempt.message, rows, list(failed.values()))
        for settlement in going_on:
            if settlement.outcome.state is State.DELAYED:
                self._look_in(max(0, settlement.due - now))

    def _settlement(
        self, message: QueuedMessage, row: QueuedRecipient, outcome: Outcome | None, now: int
    ) -> Settlement:
        outcome = outcome or Outcome.delayed("The delivery agent gave no answer", status="4.3.0")
        if outcome.state is not State.DELAYED:
            return Settlement(row.id, outcome)
        chance = self._environment.random.random()
        due = self._schedule.next_attempt(message.queued_at, now, row.attempts + 1, chance)
        if due is None:
            reply = f"Delivery time expired; the last answer was: {outcome.reply}"
            source = Source.SESSION if outcome.source is Source.REMOTE else outcome.source
            return Settlement(row.id, Outcome.failed(reply, status="5.4.7", remote=outcome.remote, source=source))
        return Settlement(row.id, outcome, due)

    async def _settle(
        self, message: QueuedMessage, settlements: Sequence[Settlement], reports: Sequence[Submission] = ()
    ) -> None:
        """What has happened must be recorded: while the store is away we hold on to it."""
        while True:
            try:
                await self._queue.settle(message.id, settlements, reports)
                return
            except MailError as error:
                _log.error("outcome cannot be recorded: id={id} ({error:text})", id=message.id, error=error)
            await self._pause()

    async def _bounce(
        self, message: QueuedMessage, rows: Sequence[QueuedRecipient], settlements: Sequence[Settlement]
    ) -> None:
        """Record failures together with their DSN."""
        outcomes = [settlement.outcome for settlement in settlements]
        patience = self._clock.seconds() + self._schedule.expire_seconds
        while True:
            try:
                report = await self._bouncer.report(message, list(zip(rows, outcomes, strict=True)))
                break
            except MailError as error:
                _log.error("DSN cannot be made: id={id} ({error:text})", id=message.id, error=error)
                if not error.temporary or self._clock.seconds() >= patience:
                    report = None
                    break
            await self._pause()
        try:
            await self._settle(message, settlements, [report] if report else [])
        finally:
            if report is not None:
                report.body.discard()
        if report is not None and report.plan.routes:
            self.wake()

    async def _pause(self) -> None:
        await deferLater(self._clock, self._limits.retry_seconds)


def _checked(outcomes: Mapping[int, Outcome]) -> Mapping[int, Outcome]:
    """An agent may be anybody's."""
    if not isinstance(outcomes, Mapping) or not all(isinstance(outcome, Outcome) for outcome in outcomes.values()):
        raise TypeError("deliver() must give an Outcome by the id of each recipient")
    return outcomes


def _lane(row: QueuedRecipient) -> Lane:
    if row.last is not None and row.last.state is State.FAILED:
        return _FAILED
    route = row.route
    return (route.agent, route.target, "" if route.target else route.recipient.ascii_domain)


def _cancel_all(working: Sequence[Deferred[None]]) -> None:
    for work in working:
        work.cancel()


_WORDS = {State.DELIVERED: "delivered", State.DELAYED: "delayed", State.FAILED: "bounced"}


def _log_state(message: QueuedMessage, row: QueuedRecipient, settlement: Settlement) -> None:
    outcome = settlement.outcome
    fields: dict[str, object] = {
        "id": message.id,
        "to": row.route.recipient,
        "agent": row.route.agent,
        "target": row.route.target,
        "remote": outcome.remote,
        "status": outcome.status,
        "reply": _without_status(outcome),
    }
    if outcome.state is State.DELAYED:
        fields["attempts"] = row.attempts + 1
        fields["next"] = datetime.fromtimestamp(settlement.due, UTC).isoformat()
    _log.event(_WORDS[outcome.state], fields)


def _without_status(outcome: Outcome) -> str:
    """The reply, where its enhanced status code is that of the outcome without it: `550 5.1.1 No` is `550 No`."""
    code, _, text = outcome.reply.partition(" ")
    if code == outcome.status:
        return text
    return f"{code} {text.removeprefix(f'{outcome.status} ')}" if text else outcome.reply
