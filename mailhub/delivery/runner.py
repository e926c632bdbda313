"""The runner of the queue: takes messages that are due, has agents deliver them, records what became of each recipient.

Nothing is kept here that a crash could lose: a row stays in the queue until its outcome is recorded. An attempt that
was cut short is repeated, under the same delivery id.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager

import attrs
from twisted.internet.defer import CancelledError, Deferred, DeferredList
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.task import deferLater

from mailhub.delivery.agents import Agents, GuardedAgent
from mailhub.delivery.attempts import (
    cancel_all,
    is_told,
    is_urgent,
    log_state,
    only,
    priority,
    run_out,
    travelling_together,
    verdict,
)
from mailhub.delivery.bounce import Bouncer
from mailhub.delivery.claiming import Claiming
from mailhub.delivery.dead_ends import without_agent
from mailhub.delivery.destination import Destination, Destinations, Turn
from mailhub.delivery.forwarding import Forwarding
from mailhub.delivery.limits import RunnerLimits
from mailhub.delivery.loops import Prefixed
from mailhub.delivery.notices import is_news
from mailhub.delivery.plan import mail_of
from mailhub.delivery.schedule import Schedule, deadline, ran_out, returned_at
from mailhub.delivery.standstill import Standstill
from mailhub.errors import MailError, MessageDamaged, MessageGone
from mailhub.guard import Unanswered
from mailhub.interfaces import (
    Claim,
    Delivery,
    Environment,
    IQueue,
    ITransports,
    QueuedMessage,
    QueuedRecipient,
    Settlement,
    Submission,
)
from mailhub.log import Logger
from mailhub.message.envelope import Outcome, Reach, Source, State
from mailhub.message.trace import delivered_to_fields

_log = Logger(namespace="mailhub.queue")

# Seconds by which wall clock and monotonic clock may drift apart between two looks at the queue.
CLOCK_SLACK = 60

_IN_ONE_TURN = 10  # attempts that are begun before the reactor has its next turn
# When a turn of the reactor has taken so many seconds, there is more at work than it can look after without keeping
# others waiting: of the places that become free half are given again, a few at the least.
_LATE = 0.02
_FEW = 4
_PUT_OFF_IN_ONE_TURN = 50  # claims
# Seconds between two looks at the queue while there is much at work: what comes meanwhile is found with one.
_BETWEEN_LOOKS = 0.01

_AWAY = frozenset({Reach.UNREACHED, Reach.LEFT_ALONE})
_TOO_LATE = Outcome.failed("Not delivered in the time that its sender has set", status="5.4.7")


class QueueRunner:
    """Works on one queue, which tells it when there is something to do."""

    def __init__(
        self,
        *,
        queue: IQueue,
        agents: Mapping[str, GuardedAgent],
        bouncer: Bouncer,
        schedule: Schedule,
        environment: Environment,
        limits: RunnerLimits | None = None,
        transports: ITransports | None = None,
        forwarding: Forwarding | None = None,
        leaves: Callable[[str], None] = lambda message_id: None,
    ) -> None:
        """`leaves` is called with the id of a message before anything that it was queued for is recorded as done."""
        self._queue = queue
        self._leaves = leaves
        self._agents = Agents(agents)
        self._bouncer = bouncer
        self._schedule = schedule
        self._environment = environment
        self._clock = environment.clock
        self._limits = limits or RunnerLimits()
        self._transports = transports
        self._forwarding = forwarding
        # An item is what is tried at once: a claim, or the part of one that travels together.
        self._destinations: Destinations[Claim] = Destinations(*self._limits.of_destinations)
        self._claiming = Claiming(queue, self._destinations, self._limits.held, self._take)
        self._standstill = Standstill(self._clock, self._give_back, self._wake)
        self._working: set[Deferred[None]] = set()
        self._trying: set[int] = set()
        self._timer: IDelayedCall | None = None
        self._turn_timer: IDelayedCall | None = None
        self._scan: Deferred[None] | None = None
        self._again = False
        self._looked_at = 0.0
        self._looking_since = 0  # the number of the standstill before the look that goes on
        # To be put off, each with why.
        self._putting_off: deque[tuple[Destination[Claim], Claim, Outcome]] = deque()
        self._freed = 0  # attempts that have ended since others were begun
        self._running = False
        self._unwatch: Callable[[], None] = lambda: None
        # Wall clock less monotonic clock, as last seen.
        self._offset: float | None = None

    # --- When to look ----------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin; what is due is tried at once."""
        self._running = True
        self._unwatch = self._queue.watch(self._wake)
        self._look_in(0)

    async def stop(self) -> None:
        """Start nothing more, wait for what is under way, cut it off when it takes too long, stop the agents."""
        self._running = False
        self._unwatch()
        self._disarm()
        if self._turn_timer is not None and self._turn_timer.active():
            self._turn_timer.cancel()
        await self._give_back()
        working = [*self._working, *([self._scan] if self._scan else [])]
        if working:
            cutter = self._clock.callLater(self._limits.stop_seconds, cancel_all, working)
            await DeferredList(working, consumeErrors=True)
            if cutter.active():
                cutter.cancel()
        await self._agents.stop()

    @property
    def under_way(self) -> frozenset[Deferred[None]]:
        """Attempts; each has a result when it is over."""
        return frozenset(self._working)

    @property
    def trying(self) -> frozenset[int]:
        """Rows that an attempt is under way for."""
        return frozenset(self._trying)

    def standstill(self) -> AbstractAsyncContextManager[None]:
        """A context in which nothing is begun: what the operator changes there is seen when it is claimed again."""
        return self._standstill.hold()

    async def _give_back(self) -> None:
        """What only waits for its turn."""
        waiting = [*self._destinations.give_up(), *(claim for _, claim, _ in self._putting_off)]
        self._putting_off.clear()
        for claim in waiting:
            self._claiming.gave(claim)
        await self._release(waiting)

    def standing(self, name: str) -> tuple[int, int, float, str]:
        """Of a destination: attempts at work, how many there may be, for how many seconds it is left alone, and why."""
        destination = self._destinations.known(name)
        if destination is None:
            return 0, 0, 0.0, ""
        paused = destination.paused_seconds(self._clock.seconds())
        why = destination.why.reply if paused and destination.why is not None else ""
        return destination.working, destination.window, paused, why

    def reform(
        self,
        *,
        agents: Mapping[str, GuardedAgent],
        bouncer: Bouncer,
        schedule: Schedule,
        limits: RunnerLimits,
        transports: ITransports | None = None,
        forwarding: Forwarding | None = None,
    ) -> None:
        """Work by other parts from the next attempt on. Those under way end as they began; their waits are told by the
        new schedule."""
        self._bouncer, self._schedule, self._limits = bouncer, schedule, limits
        self._transports, self._forwarding = transports, forwarding
        self._agents.replace(agents)
        self._destinations.resize(*limits.of_destinations)
        self._claiming.held = limits.held
        if self._running:
            self._dispatch_in(0)

    def _wake(self) -> None:
        """Something was put into the queue, or there is room for more: look now."""
        self._look_in(0)

    def _look_in(self, seconds: float) -> None:
        """Look after `seconds`, or earlier where that is planned already."""
        if not self._running:
            return
        if self._claiming.rows > 1:
            seconds = max(seconds, self._looked_at + _BETWEEN_LOOKS - self._clock.seconds())
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
        if self._standstill.lasts:
            return  # its end wakes us
        self._looking_since = self._standstill.number
        self._looked_at = self._clock.seconds()
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
            latest = now + self._schedule.longest_wait + CLOCK_SLACK
            await self._claiming.look(now, self._clock.seconds(), latest)
            due = await self._queue.next_due(now)
            # Rows due already are under way, or there was no room for them: their end wakes us.
            if due is not None:
                pause = min(pause, due - now)
            if self._claiming.now:
                pause = 0
        except MailError as error:
            _log.error("queue cannot be read: {error:text}", error=error)
        except Exception:
            _log.failure("queue cannot be read")
        self._look_in(max(pause, 0))

    def _look_at_clocks(self, now: int) -> None:
        """Say once that the wall clock was set. What waits needs nothing more: see `IQueue.claim` and `Schedule`."""
        offset = now - self._environment.monotonic()
        before, self._offset = self._offset, offset
        if before is not None and abs(offset - before) > CLOCK_SLACK:
            _log.warn("the clock was set, or the machine slept: seconds={seconds:+.0f}", seconds=offset - before)

    # --- Who is next -----------------------------------------------------------------------------------------------

    async def _take(self, claims: Sequence[Claim], back: Sequence[Claim]) -> None:
        if not self._running or self._looking_since != self._standstill.number:
            claims, back = (), [*claims, *back]
        if back:
            await self._release(back)
        for claim in claims:
            suspect = all(row.turns for row in claim.message.recipients)
            destination = self._destinations.at(claim.destination, suspect)
            for part in travelling_together(claim):
                self._claiming.took(part)
                urgent = is_urgent(part)
                if destination.why is not None and destination.is_paused(self._clock.seconds()) and not urgent:
                    self._put_off(destination, part, destination.why)
                else:
                    self._destinations.add(destination, part, urgent, priority(part))
        self._dispatch()

    def _dispatch(self) -> None:
        """Begin what may begin, a few attempts in one turn of the reactor: others have to do with it as well."""
        now, begun, most, timer = self._clock.seconds(), 0, _IN_ONE_TURN, self._turn_timer
        if timer is not None:
            if now - timer.getTime() > _LATE:
                most = max(_FEW, min(most, self._freed // 2))
            if timer.active():
                timer.cancel()
        self._turn_timer, self._freed = None, 0
        while self._running and begun < most and (taken := self._destinations.take(now)) is not None:
            destination, turn = taken
            self._watch(Deferred.fromCoroutine(self._work(destination, turn)))
            begun += 1
        if begun == most:
            self._dispatch_in(0)
        elif self._running and (at := self._destinations.wakes_at(now)) is not None:
            self._dispatch_in(max(0.0, at - now))

    def _dispatch_in(self, seconds: float) -> None:
        """Or earlier, where that is planned already: attempts that end together call for it once."""
        timer = self._turn_timer
        if timer is not None and timer.active():
            if timer.getTime() <= self._clock.seconds() + seconds:
                return
            timer.cancel()
        self._turn_timer = self._clock.callLater(seconds, self._dispatch)

    def _watch(self, work: Deferred[None]) -> None:
        self._working.add(work)
        work.addBoth(lambda _: self._working.discard(work))

    def _ended(self, destination: Destination[Claim], claim: Claim) -> None:
        """Its rows are in memory no more."""
        self._claiming.gave(claim)
        if destination.low or self._claiming.has_room:
            self._wake()

    def _put_off(self, destination: Destination[Claim], claim: Claim, why: Outcome) -> None:
        """Rows whose time has come while their destination is left alone: it would answer each as it did the last."""
        if not self._putting_off:
            self._clock.callLater(0, self._put_some_off)
        self._putting_off.append((destination, claim, why))

    def _put_some_off(self) -> None:
        """As many as leave the reactor its time for others."""
        for _ in range(min(len(self._putting_off), _PUT_OFF_IN_ONE_TURN)):
            self._watch(Deferred.fromCoroutine(self._record_delay(*self._putting_off.popleft())))
        if self._putting_off:
            self._clock.callLater(0, self._put_some_off)

    async def _record_delay(self, destination: Destination[Claim], claim: Claim, why: Outcome) -> None:
        rows = claim.message.recipients
        try:
            why = attrs.evolve(why, reach=Reach.LEFT_ALONE)
            await self._record(destination, claim, {row.id: why for row in rows}, quiet=True)
        except Exception as error:
            await self._failed(claim, error)
        self._ended(destination, claim)

    # --- One attempt -----------------------------------------------------------------------------------------------

    async def _work(self, destination: Destination[Claim], turn: Turn[Claim]) -> None:
        claim = turn.item
        rows = claim.message.recipients
        left: Sequence[QueuedRecipient] = ()
        outcomes: Mapping[int, Outcome] = {}
        numbers, since = [row.id for row in rows], self._standstill.number
        self._trying.update(numbers)
        try:
            outcomes = await self._deliver(claim)
            left = self._not_tried(destination, turn, outcomes)
            done = only(claim, [row for row in rows if row not in left]) if left else claim
            if done.message.recipients:
                await self._record(destination, done, outcomes)
        except Exception as error:
            outcomes, left = {}, ()
            await self._failed(claim, error)
        finally:
            self._trying.difference_update(numbers)
        self._conclude(destination, turn, outcomes)
        self._freed += 1
        if left and self._running and since == self._standstill.number:
            self._destinations.put_back(destination, only(claim, left), priority(claim))
            self._claiming.took(only(claim, left))
        elif left:
            await self._release([only(claim, left)])
            self._wake()
        self._ended(destination, claim)
        # Not from here: an agent that answers at once would nest one call in the other, a thousand deep.
        if self._running:
            self._dispatch_in(0)

    async def _failed(self, claim: Claim, error: Exception) -> None:
        """Nothing has become of an attempt: whoever comes next finds the rows as they were."""
        await self._release([claim])
        # Removed by the operator, or we stop: then the attempt is repeated after the next start.
        if not isinstance(error, (MessageGone, CancelledError)):
            _log.failure("attempt failed: id={id}", id=claim.message.id)
            self._look_in(self._limits.retry_seconds)

    async def _release(self, claims: Sequence[Claim]) -> None:
        try:
            await self._queue.release(claims)
        except MailError as error:
            _log.error("claims cannot be released: {error:text}", error=error)

    def _not_tried(
        self, destination: Destination[Claim], turn: Turn[Claim], outcomes: Mapping[int, Outcome]
    ) -> Sequence[QueuedRecipient]:
        """Rows for which there was no connection while others had one: that is no attempt, and they wait for the next
        turn, unless their time is up."""
        message = turn.item.message
        passed_by = {Reach.CROWDED, *(_AWAY if destination.was_reached(turn) else ())}
        left = [row for row in message.recipients if row.id in outcomes and outcomes[row.id].reach in passed_by]
        if not left:
            return ()
        now, back = self._environment.now(), returned_at(message)
        schedule = self._schedule.at(message.recipients[0].route)
        if now >= message.begins + schedule.time_of(message.mail) or (back is not None and now >= back):
            return ()
        return left

    def _conclude(self, destination: Destination[Claim], turn: Turn[Claim], outcomes: Mapping[int, Outcome]) -> None:
        """Tell the destination what has become of a turn."""
        now = self._clock.seconds()
        reaches = {outcome.reach: outcome for outcome in outcomes.values()}
        if not reaches:
            destination.dropped(turn)
        elif Reach.SERVED in reaches:
            if destination.served(turn, now):
                _log.info(
                    "destination is reached again: destination={destination} attempts={attempts}"
                    " crowded={crowded} unreached={unreached} delivered={delivered} delayed={delayed} failed={failed}",
                    destination=destination.name,
                    **attrs.asdict(destination.counters),
                )
        elif (away := _AWAY.intersection(reaches)) and not destination.was_reached(turn):
            self._leave_alone(destination, turn, reaches[min(away, key=lambda reach: reach.value)])
        else:
            destination.crowded(turn, now)
        self._destinations.done(destination)

    def _leave_alone(self, destination: Destination[Claim], turn: Turn[Claim], why: Outcome) -> None:
        seconds = destination.unreached(turn, why, self._clock.seconds())
        if not seconds:
            return
        _log.warn(
            "destination cannot be reached, and is left alone: destination={destination} seconds={seconds:.0f}"
            " failures={failures} reply={reply!r}",
            destination=destination.name,
            seconds=seconds,
            failures=destination.failures,
            reply=why.reply,
        )
        for claim in destination.give_up():
            self._put_off(destination, claim, why)

    async def _deliver(self, claim: Claim) -> Mapping[int, Outcome]:
        rows = claim.message.recipients
        name = rows[0].route.agent
        if not claim.destination:
            return {row.id: verdict(row) for row in rows}
        back = returned_at(claim.message)
        if back is not None and back <= self._environment.now():
            return {row.id: _TOO_LATE for row in rows}
        if without_agent(rows[0].route) is not None:
            return {row.id: outcome for row in rows if (outcome := without_agent(row.route)) is not None}
        with self._agents.at_work(name) as agent:
            if agent is None:
                outcome = Outcome.delayed(f"No delivery agent is named {name}", status="4.3.5")
                return {row.id: outcome for row in rows}
            return await self._ask(agent, claim)

    async def _ask(self, agent: GuardedAgent, claim: Claim) -> Mapping[int, Outcome]:
        message, rows = claim.message, claim.message.recipients
        route = rows[0].route
        try:
            body = await self._queue.open(message.id)
        except MessageDamaged as error:
            _log.error(
                "message is damaged, it is given up: id={id} reason={reason!r}", id=message.id, reason=str(error)
            )
            outcome = Outcome.failed(error.text, status=error.status)
            return {row.id: outcome for row in rows}
        needs = message.needs
        if route.via:
            fields = delivered_to_fields(route.via)
            body = Prefixed(fields, body)
            needs = needs if fields.isascii() else None  # another header: look again
        try:
            mail = mail_of(message, route, self._environment.now())
            if self._forwarding is not None:
                mail = await self._forwarding.rewritten(mail, route, message.begins)
            delivery = Delivery(message.id, mail, route.target, rows, body, needs, self._yields)
            return await agent.deliver(delivery, self._limits.attempt_seconds)
        except Unanswered:
            return {}
        except MailError as error:
            # Whatever it says: that mail cannot be delivered is told by an Outcome.
            outcome = Outcome.delayed(error.text, status=error.status if error.temporary else "4.3.0")
            return {row.id: outcome for row in rows}
        finally:
            body.close()

    def _yields(self) -> bool:
        return self._destinations.yields(self._clock.seconds())

    async def _record(
        self, destination: Destination[Claim], claim: Claim, outcomes: Mapping[int, Outcome], *, quiet: bool = False
    ) -> None:
        """With `quiet`, that rows wait on is no news: it was told of their destination."""
        now, message = self._environment.now(), claim.message
        rest: list[Settlement] = []
        told: dict[int, Settlement] = {}
        next_due: int | None = None
        for row in message.recipients:
            settlement = self._settlement(message, row, outcomes.get(row.id), now)
            state = settlement.outcome.state
            destination.counters.add(settlement.outcome)
            if state is State.FAILED or (claim.destination and not (quiet and state is State.DELAYED)):
                log_state(message, row, settlement)
            if is_told(message, row, settlement):
                told[row.id] = settlement
            else:
                rest.append(settlement)
            if state is State.DELAYED:
                next_due = settlement.due if next_due is None else min(next_due, settlement.due)
        if rest:
            await self._settle(claim, rest)
        if told:
            await self._tell(only(claim, [row for row in message.recipients if row.id in told]), told)
        if next_due is not None:
            self._look_in(max(0, next_due - now))

    def _settlement(
        self, message: QueuedMessage, row: QueuedRecipient, outcome: Outcome | None, now: int
    ) -> Settlement:
        outcome = outcome or Outcome.delayed("The delivery agent gave no answer", status="4.3.0")
        if outcome.state is not State.DELAYED:
            return Settlement(row.id, outcome)
        chance, schedule = self._environment.random.random(), self._schedule.at(row.route)
        due = schedule.next_attempt(message.begins, now, row.turns + 1, chance, schedule.time_of(message.mail))
        back = returned_at(message)
        if due is None or (back is not None and back <= now):
            reply = f"Delivery time expired; the last answer was: {outcome.reply}"
            source = Source.SESSION if outcome.source is Source.REMOTE else outcome.source
            expired = Outcome.failed(reply, status="5.4.7", remote=outcome.remote, source=source)
            return Settlement(row.id, attrs.evolve(expired, reach=outcome.reach))
        later = self._transports.later(message, row, row.turns + 2) if self._transports else None
        if (at := deadline(message, now)) is not None:
            due = min(due, at)
        before = max(row.tried, row.due - 1) if row.turns else 0  # what is put off is due when its time runs out
        late = ran_out(message, before, now)  # of that it is told whatever it was told of before
        late = late or (not row.warned and schedule.is_late(message, now, row.turns + 1))
        return Settlement(row.id, outcome, due, later, late and is_news(message.mail, row, outcome))

    async def _settle(
        self, claim: Claim, settlements: Sequence[Settlement], reports: Sequence[Submission] = ()
    ) -> None:
        """What has happened must be recorded: while the store is away we hold on to it."""
        self._leaves(claim.message.id)
        while True:
            try:
                if not await self._queue.settle(claim, settlements, reports):
                    _log.warn("outcome is not recorded, another has the message: id={id}", id=claim.message.id)
                return
            except MailError as error:
                _log.error("outcome cannot be recorded: id={id} ({error:text})", id=claim.message.id, error=error)
            await self._pause()

    async def _tell(self, claim: Claim, told: Mapping[int, Settlement]) -> None:
        """Record outcomes together with their DSN."""
        message = claim.message
        out = ran_out(message, 0, self._environment.now())
        outcomes = [(row, run_out(told[row.id].outcome) if out else told[row.id].outcome) for row in message.recipients]
        patience = self._clock.seconds() + self._schedule.expire_seconds
        until = message.begins + self._schedule.at(message.recipients[0].route).time_of(message.mail)
        while True:
            try:
                report = await self._bouncer.report(message, outcomes, until)
                break
            except MailError as error:
                _log.error("DSN cannot be made: id={id} ({error:text})", id=message.id, error=error)
                failed = {row: each for row, each in told.items() if each.outcome.state is State.FAILED}
                if len(failed) < len(told):
                    await self._tell_later(claim, [each for row, each in told.items() if row not in failed])
                    claim = only(claim, [row for row in message.recipients if row.id in failed])
                    if failed:
                        await self._tell(claim, failed)
                    return
                if not error.temporary or self._clock.seconds() >= patience:
                    report = None
                    break
            await self._pause()
        try:
            await self._settle(claim, list(told.values()), [report] if report else [])
        finally:
            if report is not None:
                report.body.discard()

    async def _tell_later(self, claim: Claim, settlements: Sequence[Settlement]) -> None:
        """Record what is no failure before its DSN, which cannot be made now: mail that is delivered must not be
        delivered again."""
        message, now = claim.message, self._environment.now()
        over = now >= message.begins + self._schedule.time_of(message.mail)
        due = now + self._schedule.wait(1, self._environment.random.random())
        await self._settle(
            claim,
            [
                attrs.evolve(each, warned=False)
                if each.outcome.state is State.DELAYED
                else attrs.evolve(each, due=due, untold=not over)
                for each in settlements
            ],
        )
        self._look_in(max(0, due - now))

    async def _pause(self) -> None:
        await deferLater(self._clock, self._limits.retry_seconds)
