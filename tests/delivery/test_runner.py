"""The runner on a real database: attempts, back-off, expiry, DSNs, bounds, stop."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Mapping
from email import message_from_bytes
from email.message import Message
from itertools import pairwise
from pathlib import Path
from random import Random
from typing import Any

import attrs
import pytest
from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock
from twisted.logger import capturedLogs, formatEvent
from zope.interface import implementer

from mailhub.delivery.agents import GuardedAgent
from mailhub.delivery.bounce import Bouncer
from mailhub.delivery.limits import RunnerLimits
from mailhub.delivery.names import LocalNames, NamesInFile
from mailhub.delivery.runner import QueueRunner
from mailhub.delivery.schedule import Schedule
from mailhub.errors import NotPermitted, StoreUnavailable, TemporaryError
from mailhub.guard import Guard, GuardLimits
from mailhub.interfaces import (
    Delivery,
    Deposit,
    Environment,
    IDeliveryAgent,
    Plan,
    QueuedMessage,
    Route,
    Submission,
)
from mailhub.message.address import Address
from mailhub.message.aliases import AliasTable
from mailhub.message.envelope import DeliverBy, Mail, Outcome, Reach, Source
from mailhub.store.limits import StoreLimits
from mailhub.store.sqlite.database import Database
from mailhub.testing.waiting import result_of
from mailhub.threads import InlineThreads
from tests.delivery.routers import standard_routing

SENDER = Address("a", "xx.example")
DOMAINS = frozenset({"xx.example"})
MESSAGE = b"Return-Path: <a@xx.example>\r\nSubject: hello\r\n\r\nbody\r\n"
DONE, LATER = Outcome.delivered("250 ok", remote="mx"), Outcome.delayed("450 busy", status="4.2.0", remote="mx")
NO = Outcome.failed("550 no such user", status="5.1.1", remote="mx.yy.example")


@implementer(IDeliveryAgent)
class Scripted:
    """An agent whose answers come from a list per recipient; the last one repeats. With `hold`, it waits first."""

    def __init__(self, hold: bool = False, **answers: list[Any]) -> None:
        self.answers = answers
        self.calls: list[tuple[str, list[str]]] = []
        self.bodies: list[bytes] = []
        self.working = self.most = 0
        self.stopped = False
        self.hold = hold
        self._waiting: list[Deferred[None]] = []

    async def deliver(self, delivery: Delivery) -> Mapping[int, Outcome]:
        self.calls.append((delivery.target, [row.route.recipient.local for row in delivery.recipients]))
        self.bodies.append(await delivery.body.read())
        self.working += 1
        self.most = max(self.most, self.working)
        try:
            if self.hold:
                waiter: Deferred[None] = Deferred()
                self._waiting.append(waiter)
                await waiter
            return {row.id: self._answer(row.route.recipient.local) for row in delivery.recipients}
        finally:
            self.working -= 1

    def release(self) -> None:
        self.hold = False
        for waiter in self._waiting:
            if not waiter.called:
                waiter.callback(None)

    def _answer(self, name: str) -> Outcome:
        script = self.answers.get(name, [DONE])
        answer = script.pop(0) if len(script) > 1 else script[0]
        if isinstance(answer, Exception):
            raise answer
        assert isinstance(answer, Outcome)
        return answer

    async def stop(self) -> None:
        self.stopped = True


@attrs.define
class World:
    """A database, a runner and a clock."""

    data: Path
    agent: Any = attrs.field(factory=Scripted)
    schedule: Schedule = attrs.field(factory=lambda: Schedule((60, 300), 3600, jitter=0.0))
    limits: RunnerLimits = attrs.field(factory=RunnerLimits)
    aliases: dict[str, list[str]] = attrs.field(factory=dict)
    clock: Clock = attrs.field(factory=Clock)
    guard: Guard = attrs.field(init=False)
    database: Database = attrs.field(init=False)
    runner: QueueRunner = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        nothing: Any = None
        self.clock.advance(1_000_000)
        self.guard = Guard("agent", "smtp", "", self.clock, late_counts=False)
        environment = Environment(self.clock, InlineThreads(), nothing, nothing, Random(7), self.data)
        self.database = Database(environment, StoreLimits(durable=False), create=True)
        result_of(self.database.start())
        if not result_of(self.database.accounts.all()):
            result_of(self.database.accounts.add("a@xx.example", "", 0))
        store = self.database.store
        aliases = AliasTable.parse(self.aliases, DOMAINS)
        bouncer = Bouncer(
            hostname="mx.xx.example",
            environment=environment,
            store=store,
            queue=self.database.queue,
            routing=standard_routing("mx.xx.example", LocalNames(NamesInFile(DOMAINS, aliases)), store, {}),
        )
        self.runner = QueueRunner(
            queue=self.database.queue,
            agents={"smtp": GuardedAgent(self.agent, self.guard)},
            bouncer=bouncer,
            schedule=self.schedule,
            environment=environment,
            limits=self.limits,
        )

    def submit(
        self,
        *to: str,
        sender: Address | None = SENDER,
        target: str = "next",
        deposits: Any = (),
        by: DeliverBy | None = None,
    ) -> str:
        queue = self.database.queue
        writer = queue.new_body()
        result_of(writer.write(MESSAGE))
        body = result_of(writer.finish())
        routes = tuple(Route("smtp", Address(name, "yy.example"), target) for name in to)
        submission = Submission(Mail(sender, by=by), Plan(tuple(deposits), routes), body, MESSAGE.index(b"Subject"))
        return result_of(queue.submit(submission)).id

    def run(self, seconds: float = 0) -> None:
        """Let everything happen that is due within `seconds`."""
        for _ in range(5):
            self.clock.advance(0)
        if seconds:
            self.clock.pump([min(seconds, 1.0)] * max(1, int(seconds)) + [0] * 5)

    def queued(self) -> list[QueuedMessage]:
        return list(result_of(self.database.queue.messages()))

    def inbox(self) -> list[Message]:
        mailbox = result_of(result_of(self.database.store.account("a@xx.example")).mailbox("INBOX"))
        entries = result_of(mailbox.entries())
        return [message_from_bytes(result_of(result_of(mailbox.open(entry.uid)).read())) for entry in entries]

    def close(self) -> None:
        stopped = Deferred.fromCoroutine(self.runner.stop())
        self.clock.pump([1.0] * 40)
        assert stopped.called
        result_of(self.database.stop())


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path)
    yield made
    made.close()


def remade(world: World, **changes: Any) -> World:
    """The same data with another runner, as after a restart."""
    world.close()
    return World(world.data, **changes)


def test_a_message_that_is_delivered_leaves_the_queue(world: World) -> None:
    world.runner.start()
    world.submit("b", "c")
    world.run()
    assert world.agent.calls == [("next", ["b", "c"])]
    assert world.agent.bodies == [b"Subject: hello\r\n\r\nbody\r\n"]
    assert world.queued() == []


def test_what_another_process_puts_into_the_queue_is_found_without_waking(world: World) -> None:
    world.runner.start()
    world.run()
    world.submit("b")
    world.run(5)
    assert world.queued() == []


def test_back_off_per_recipient_until_delivered(world: World) -> None:
    world.agent.answers = {"b": [LATER, LATER, DONE]}
    world.submit("b", "c")
    world.runner.start()
    world.run()
    (row,) = world.queued()[0].recipients
    assert (row.route.recipient.local, row.attempts, row.due, row.last) == ("b", 1, 1_000_060, LATER)
    world.run(59)
    assert len(world.agent.calls) == 1
    world.run(2)
    assert world.agent.calls[1:] == [("next", ["b"])]
    world.run(298)
    assert len(world.agent.calls) == 2
    world.run(3)
    assert world.queued() == []
    assert world.inbox() == []


def test_the_log_tells_what_became_of_each_recipient(world: World) -> None:
    world.agent.answers = {"c": [LATER], "d": [NO]}
    name = world.submit("b", "c", "d")
    with capturedLogs() as events:
        world.runner.start()
        world.run()
    how = "agent=smtp target=next"
    assert [formatEvent(event) for event in events if "log_line" in event] == [
        f"delivered: id={name} to=<b@yy.example> {how} remote=mx status=2.0.0 reply='250 ok'",
        f"delayed: id={name} to=<c@yy.example> {how} remote=mx status=4.2.0 reply='450 busy'"
        " attempts=1 next=1970-01-12T13:47:40+00:00",
        f"bounced: id={name} to=<d@yy.example> {how} remote=mx.yy.example status=5.1.1 reply='550 no such user'",
    ]


def test_the_log_tells_how_another_server_has_answered(world: World) -> None:
    said = attrs.evolve(DONE, source=Source.REMOTE, protocol="smtp", tls="TLSv1.3/X")
    world.agent.answers = {"b": [said]}
    world.submit("b")
    with capturedLogs() as events:
        world.runner.start()
        world.run()
    (line,) = [formatEvent(event) for event in events if "log_line" in event]
    assert str(line).endswith("reply='250 ok' protocol=smtp tls=TLSv1.3/X")


def test_recipients_travel_together_by_agent_and_next_hop(world: World) -> None:
    queue = world.database.queue
    writer = queue.new_body()
    result_of(writer.write(MESSAGE))
    routes = [("b", "yy.example", ""), ("c", "zz.example", ""), ("d", "YY.example", ""), ("e", "yy.example", "hub")]
    plan = Plan(routes=tuple(Route("smtp", Address(n, d.lower()), t) for n, d, t in routes))
    result_of(queue.submit(Submission(Mail(SENDER), plan, result_of(writer.finish()))))
    world.runner.start()
    world.run()
    assert sorted(world.agent.calls) == [("", ["b", "d"]), ("", ["c"]), ("hub", ["e"])]


def test_a_failure_is_reported_to_a_local_sender_in_the_same_step(world: World) -> None:
    world.agent.answers = {"b": [NO]}
    world.submit("b", "c")
    world.runner.start()
    world.run()
    assert world.queued() == []
    (dsn,) = world.inbox()
    assert dsn["Return-Path"] == "<>"
    assert dsn.get_content_type() == "multipart/report"
    status = dsn.get_payload(1).get_payload()  # type: ignore[union-attr]
    assert status[1]["Final-Recipient"] == "rfc822; b@yy.example"  # type: ignore[index]
    assert status[1]["Status"] == "5.1.1"  # type: ignore[index]
    assert len(status) == 2
    assert "Subject: hello" in dsn.get_payload(2).get_payload()  # type: ignore[union-attr]


def test_a_remote_sender_gets_the_report_by_the_queue_with_the_null_reverse_path(world: World) -> None:
    world.agent.answers = {"b": [NO]}
    world.submit("b", sender=Address("s", "zz.example"))
    world.runner.start()
    world.run()
    assert world.agent.calls == [("next", ["b"]), ("", ["s"])]
    assert world.agent.bodies[1].startswith(b"From: Mail Delivery System")
    assert world.queued() == []


@pytest.mark.parametrize("sender", [None, Address("gone", "xx.example")])
def test_nobody_to_tell_means_no_report(world: World, sender: Address | None) -> None:
    world.agent.answers = {"b": [NO]}
    world.submit("b", sender=sender)
    world.runner.start()
    world.run()
    assert world.queued() == []
    assert world.inbox() == []
    assert len(world.agent.calls) == 1


def test_a_report_that_cannot_be_delivered_ends_there(world: World) -> None:
    world.agent.answers = {"b": [NO], "s": [NO]}
    world.submit("b", sender=Address("s", "zz.example"))
    world.runner.start()
    world.run(600)
    assert len(world.agent.calls) == 2
    assert world.queued() == []


def test_the_way_to_the_sender_may_be_unknown_for_a_while(tmp_path: Path) -> None:
    ring = {f"n{i}@xx.example": [f"n{i + 1}@xx.example"] for i in range(12)}
    world = World(tmp_path, Scripted(b=[NO]), aliases=ring)
    world.submit("b", "c", sender=Address("n0", "xx.example"))
    world.runner.start()
    world.run(20)
    assert [row.route.recipient.local for row in world.queued()[0].recipients] == ["b"]
    assert len(world.agent.calls) == 1
    world.run(3700 + 300)
    assert world.queued() == []
    world.close()


def test_a_refused_deposit_is_reported_without_an_attempt(world: World) -> None:
    gone = Deposit(Address("gone", "xx.example"), "gone@xx.example")
    kept = Deposit(SENDER, "a@xx.example")
    world.submit(deposits=[gone, kept])
    world.runner.start()
    world.run()
    assert world.agent.calls == []
    assert [message.get_content_type() for message in world.inbox()] == ["text/plain", "multipart/report"]
    assert world.queued() == []


def test_after_the_time_is_up_the_delay_becomes_a_failure(world: World) -> None:
    world.agent.answers = {"b": [LATER]}
    world.submit("b")
    world.runner.start()
    world.run(3599)
    assert len(world.queued()) == 1
    world.run(3)
    assert world.queued() == []
    (dsn,) = world.inbox()
    text = dsn.as_string()
    assert "Status: 5.4.7" in text
    assert "450 busy" in text


@pytest.mark.parametrize("trouble", [RuntimeError("bug"), TemporaryError("away")])
def test_an_agent_that_raises_delays_its_recipients(world: World, trouble: Exception) -> None:
    world.agent.answers = {"b": [trouble, DONE]}
    world.submit("b")
    world.runner.start()
    world.run()
    assert world.queued()[0].recipients[0].attempts == 1
    world.run(61)
    assert world.queued() == []


@pytest.mark.parametrize("way", [lambda found: found, succeed], ids=["plain", "Deferred"])
def test_an_agent_may_give_its_outcomes_in_any_way(world: World, way: Callable[[Any], Any]) -> None:
    agent: Any = world.agent
    agent.deliver = lambda delivery: way({row.id: DONE for row in delivery.recipients})
    agent.stop = lambda: way(None)
    world.submit("b")
    world.runner.start()
    world.run()
    assert world.queued() == []


def test_what_an_agent_raises_as_an_answer_is_the_reply_and_no_failure(world: World) -> None:
    world.agent.answers = {"b": [NotPermitted("not at night")]}
    world.submit("b")
    world.runner.start()
    world.run()
    (row,) = world.queued()[0].recipients
    assert row.last is not None
    assert (row.last.reply, row.last.status) == ("not at night", "4.3.0")
    assert world.guard.errors == 0


def test_an_agent_that_fails_again_and_again_rests(world: World) -> None:
    world.agent.answers = {"b": [RuntimeError("bug")]}
    for _ in range(7):
        world.submit("b")
    with capturedLogs() as events:
        world.runner.start()
        world.run()
    assert (world.guard.calls, world.guard.errors, world.guard.rested) == (5, 5, 2)
    said = [formatEvent(event) for event in events]
    assert any(line.startswith("agent failed: agent=smtp id=") and "RuntimeError: bug" in line for line in said)
    assert all(message.recipients[0].attempts == 1 for message in world.queued())


def test_slow_hops_do_not_make_an_agent_rest(tmp_path: Path) -> None:
    world = World(tmp_path, Scripted(hold=True), limits=RunnerLimits(attempt_seconds=100))
    for _ in range(6):
        world.submit("b")
    world.runner.start()
    world.guard.limits = GuardLimits(failures=1)
    world.run(101)
    assert world.guard.timeouts > 1
    assert not world.guard.rests
    world.close()


def test_an_agent_that_never_stops_does_not_keep_the_server_from_it(world: World) -> None:
    agent: Any = world.agent
    agent.stop = Deferred
    world.runner.start()
    stopping = Deferred.fromCoroutine(world.runner.stop())
    world.run(31)
    assert stopping.called
    assert world.guard.timeouts == 1


_SOUND: Any = Outcome.delivered()


@pytest.mark.parametrize(
    "wrong",
    [
        None,
        [DONE],
        {1: "done"},
        {1: attrs.evolve(_SOUND, status="fine")},
        {1: attrs.evolve(_SOUND, reply=b"250 Ok")},
        {1: attrs.evolve(_SOUND, state="delivered")},
    ],
)
def test_what_is_no_outcome_counts_as_an_attempt_that_failed(world: World, wrong: Any) -> None:
    agent: Any = world.agent
    agent.deliver = lambda delivery: wrong
    world.submit("b")
    world.runner.start()
    world.run()
    assert world.queued()[0].recipients[0].attempts == 1


def test_an_agent_that_is_replaced_finishes_what_it_has_begun(tmp_path: Path) -> None:
    old, new = Scripted(hold=True), Scripted()
    world = World(tmp_path, old)
    world.submit("b")
    world.runner.start()
    world.run()
    nobody: Any = None
    agents = {"smtp": GuardedAgent(new, world.guard)}
    world.runner.reform(agents=agents, bouncer=nobody, schedule=Schedule(), limits=RunnerLimits())
    world.submit("c")
    world.run(10)
    assert (old.working, len(world.queued())) == (1, 1)
    assert not old.stopped
    old.release()
    world.run(10)
    assert world.queued() == []
    assert old.stopped
    world.close()


def test_an_agent_that_never_answers_is_cut_off(tmp_path: Path) -> None:
    agent = Scripted(hold=True)
    world = World(tmp_path, agent, limits=RunnerLimits(attempt_seconds=100))
    world.submit("b")
    world.runner.start()
    world.run(99)
    assert agent.working == 1
    world.run(2)
    assert agent.working == 0
    assert world.queued()[0].recipients[0].attempts == 1
    world.close()


def test_an_unknown_agent_delays(world: World) -> None:
    queue = world.database.queue
    writer = queue.new_body()
    result_of(writer.write(MESSAGE))
    plan = Plan(routes=(Route("carrier-pigeon", Address("b", "yy.example")),))
    result_of(queue.submit(Submission(Mail(SENDER), plan, result_of(writer.finish()))))
    world.runner.start()
    world.run()
    last = world.queued()[0].recipients[0].last
    assert last is not None
    assert last.status == "4.3.5"


def test_attempts_are_bounded_in_all_and_per_target(tmp_path: Path) -> None:
    agent = Scripted(hold=True)
    world = World(tmp_path, agent, limits=RunnerLimits(attempts=6, attempts_per_target=2, held=25))
    for number in range(40):
        world.submit("b", target=f"t{number % 5}")
    world.runner.start()
    world.run()
    assert agent.working == 6
    assert max([target for target, _ in agent.calls].count(f"t{n}") for n in range(5)) <= 2
    agent.release()
    world.run(10)
    assert world.queued() == []
    assert len(agent.calls) == 40
    assert agent.most == 6
    world.close()


def test_many_answers_at_once_do_not_nest(tmp_path: Path) -> None:
    world = World(tmp_path, limits=RunnerLimits(attempts=1, attempts_per_target=1))
    for _ in range(1100):
        world.submit("b")
    world.runner.start()
    for _ in range(1200):
        world.clock.advance(0)
    world.run(10)
    assert world.queued() == []
    world.close()


def test_an_outcome_is_held_until_the_store_takes_it(world: World) -> None:
    world.submit("b")
    queue: Any = world.database.queue
    settle, trouble = queue.settle, [StoreUnavailable(), StoreUnavailable()]

    async def failing(*args: Any) -> Any:
        if trouble:
            raise trouble.pop()
        return await settle(*args)

    queue.settle = failing
    world.runner.start()
    world.run(30)
    assert len(world.agent.calls) == 1
    assert world.queued() == []


def test_a_store_that_cannot_be_read_is_asked_again(world: World) -> None:
    world.submit("b")
    queue: Any = world.database.queue
    claim, trouble = queue.claim, [StoreUnavailable(), ValueError("bug")]

    async def failing(*args: Any) -> Any:
        if trouble:
            raise trouble.pop()
        return await claim(*args)

    queue.claim = failing
    world.runner.start()
    world.run(11)
    assert world.queued() == []


def test_a_message_the_operator_removes_meanwhile_is_forgotten(world: World) -> None:
    agent = world.agent
    agent.hold = True
    agent.answers = {"b": [NO]}
    message_id = world.submit("b")
    world.runner.start()
    world.run()
    result_of(world.database.queue.remove([message_id]))
    agent.release()
    world.run()
    assert world.queued() == []


def test_stop_waits_for_attempts_under_way_and_then_repeats_what_was_cut(tmp_path: Path) -> None:
    agent = Scripted(hold=True)
    world = World(tmp_path, agent, limits=RunnerLimits(stop_seconds=30, attempts=1))
    world.submit("b")
    world.submit("c")
    world.runner.start()
    world.run()
    stopped = Deferred.fromCoroutine(world.runner.stop())
    world.run(10)
    assert not stopped.called
    agent.release()
    world.run()
    assert stopped.called
    assert agent.stopped
    assert [message.recipients[0].route.recipient.local for message in world.queued()] == ["c"]

    again = Scripted(hold=True)
    world = remade(world, agent=again)
    world.runner.start()
    world.run()
    stopped = Deferred.fromCoroutine(world.runner.stop())
    world.run(31)
    assert stopped.called
    assert world.queued()[0].recipients[0].attempts == 0
    last = remade(world)
    last.runner.start()
    last.run()
    assert last.queued() == []
    last.close()


def test_what_is_queued_before_the_start_and_after_the_end_is_left_alone(world: World) -> None:
    planned = world.clock.getDelayedCalls()
    world.submit("b")
    assert world.clock.getDelayedCalls() == planned
    world.runner.start()
    stopped = Deferred.fromCoroutine(world.runner.stop())
    world.submit("c")
    world.run(30)
    assert stopped.called
    assert world.agent.calls == []


@pytest.mark.parametrize("lost", ["octets", "content"])
def test_a_message_whose_octets_are_lost_is_given_up_and_its_sender_told(world: World, lost: str) -> None:
    """It is not taken for one that the operator removed."""
    message_id = world.submit("b", "c")
    damage = "UPDATE content SET octets = x'00'" if lost == "octets" else "DELETE FROM content"
    with sqlite3.connect(world.database.path) as connection:
        connection.execute(damage)
    connection.close()
    with capturedLogs() as logs:
        world.runner.start()
        world.run()
    (told,) = [event for event in logs if event["log_level"].name == "error"]
    assert told["id"] == message_id
    assert world.agent.calls == []
    assert world.queued() == []
    (report,) = world.inbox()
    assert "b@yy.example" in str(report)
    assert "c@yy.example" in str(report)
    assert "5.3.0" in str(report)
    assert ("Subject: " in report.as_string().rpartition("Content-Type")[2]) is (lost == "octets")


def test_fewer_attempts_are_begun_while_the_reactor_is_late(tmp_path: Path) -> None:
    """Each takes a hundredth of a second of everybody's time: only the first turn is as long as ten of them."""
    clock = Clock()

    class Slow(Scripted):
        async def deliver(self, delivery: Delivery) -> Mapping[int, Outcome]:
            clock.rightNow += 0.01
            return await super().deliver(delivery)

    world = World(tmp_path, agent=Slow(), clock=clock)
    for number in range(40):
        world.submit("b", target=f"host-{number}")
    ticks = [clock.seconds()]

    def tick() -> None:
        ticks.append(clock.seconds())
        clock.callLater(0.001, tick)

    tick()
    world.runner.start()
    for _ in range(100):
        clock.advance(0.001)
    assert len(world.agent.calls) == 40
    *usual, longest = sorted(after - before for before, after in pairwise(ticks))
    assert longest < 0.12
    assert usual[-1] < 0.07
    world.close()


def test_a_turn_in_which_its_host_is_left_alone_is_no_attempt_and_brings_the_end_nearer(tmp_path: Path) -> None:
    away = attrs.evolve(Outcome.delayed("No route to host"), reach=Reach.UNREACHED)
    world = World(tmp_path, agent=Scripted(b=[away]))
    for _ in range(60):
        world.submit("b")
    world.runner.start()
    world.run(3500)
    rows = [message.recipients[0] for message in world.queued()]
    assert sum(row.attempts for row in rows) == len(world.agent.calls) < 40
    assert {row.last for row in rows} == {away}
    never = [row for row in rows if not row.attempts]
    assert {row.tried for row in never} == {0}
    assert min(row.turns for row in rows) > 5
    world.run(300)
    assert world.queued() == []
    reports = [str(message) for message in world.inbox()]
    assert len(reports) == len(rows)
    assert sum("Last-Attempt-Date:" not in report for report in reports) >= len(never) - 10 > 10
    assert all("Status: 5.4.7" in report for report in reports)
    world.close()


def test_that_the_time_has_run_out_is_told_once_also_while_a_host_is_left_alone(tmp_path: Path) -> None:
    """RFC 2852 4.1.3, of what is not tried meanwhile."""
    away = attrs.evolve(Outcome.delayed("No route to host"), reach=Reach.UNREACHED)
    world = World(tmp_path, agent=Scripted(b=[away]))
    for _ in range(20):
        world.submit("b", by=DeliverBy(700, "N"))
    world.runner.start()
    world.run(3500)
    assert len(world.agent.calls) < 30
    delayed = [str(message) for message in world.inbox() if "Action: delayed" in str(message)]
    assert len(delayed) == 20
    world.close()


def test_what_is_put_off_leaves_time_for_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the rows of a host that cannot be reached each takes a thousandth of a second to be put off."""
    clock = Clock()
    away = attrs.evolve(Outcome.delayed("No route to host"), reach=Reach.UNREACHED)
    world = World(tmp_path, agent=Scripted(b=[away]), clock=clock)
    ids = [world.submit("b") for _ in range(200)]
    settle, ticks = world.database.queue.settle, [clock.seconds()]

    async def slow(*arguments: Any) -> bool:
        clock.rightNow += 0.001
        return await settle(*arguments)

    def tick() -> None:
        ticks.append(clock.seconds())
        clock.callLater(0.001, tick)

    monkeypatch.setattr(world.database.queue, "settle", slow)
    tick()
    world.runner.start()
    for _ in range(100):
        clock.advance(0.001)
    assert [message.recipients[0].turns for message in world.queued()] == [1] * len(ids)
    assert sum(message.recipients[0].attempts for message in world.queued()) == len(world.agent.calls) < 5
    assert max(after - before for before, after in pairwise(ticks)) < 0.06
    world.close()
