"""What the operator does with the queue of a running server counts at once."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import attrs
import pytest
from twisted.internet.defer import Deferred
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import deferLater
from twisted.logger import capturedLogs, formatEvent

from mailhub.config.settings import parse
from mailhub.delivery.runner import QueueRunner
from mailhub.errors import ConfigurationError, StoreUnavailable
from mailhub.interfaces import Claim
from mailhub.questions import QUESTIONS
from mailhub.queue_desk import QueueDesk
from mailhub.service import MailService
from mailhub.testing.hubs import Host, Internet

HOUR = 3600
MESSAGE = b"From: ann@xx.example\r\nSubject: hello\r\n\r\nHow are you?\r\n"


@attrs.define
class World:
    internet: Internet
    xx: Host
    yy: Host

    def ask(self, **question: Any) -> Any:
        return self.internet.wait(QUESTIONS["queue"](self.xx.hub, question))  # type: ignore[arg-type]

    def change(self, what: str, **more: Any) -> int:
        return int(self.ask(queue="change", change=what, **more)["changed"])

    def places(self) -> list[Any]:
        return list(self.ask(queue="destinations")["destinations"])

    def send(self, count: int = 1) -> None:
        for _ in range(count):
            self.xx.submit("ann@xx.example", ["ben@yy.example"], MESSAGE)


@pytest.fixture
def world() -> Iterator[World]:
    with Internet(seed=3, poll_seconds=600) as internet:
        yield World(
            internet, internet.hub("xx.example", users=["ann"]), internet.hub("yy.example", users=["ben", "bob"])
        )


def test_it_says_that_a_host_is_away_and_retry_asks_it_at_once(world: World) -> None:
    world.yy.unlisten()
    world.send(3)
    world.internet.run(20)
    (place,) = world.places()
    assert (place["destination"], place["state"], place["messages"]) == ("smtp yy.example", "paused", 3)
    assert place["paused_until"] > place["oldest"]
    assert place["last_status"].startswith("4.")
    world.yy.listen()
    assert world.change("retry") == 3
    world.internet.run(5)
    assert (len(world.yy.inbox("ben@yy.example")), world.places()) == (3, [])


def test_what_is_held_stays_even_where_it_only_waited_for_its_turn(world: World) -> None:
    world.yy.unlisten()
    world.send(30)
    held = world.xx.queued()[-1].id
    assert world.change("hold", which={"ids": [held]}) == 1
    world.yy.listen()
    world.internet.run(2 * HOUR)
    assert len(world.yy.inbox("ben@yy.example")) == 29
    (place,) = world.places()
    assert (place["state"], place["held"], place["next_attempt"]) == ("held", 1, None)
    assert world.change("release") == 1
    world.internet.run(60)
    assert len(world.yy.inbox("ben@yy.example")) == 30


def test_what_is_given_up_comes_back_with_its_last_answer(world: World) -> None:
    world.yy.unlisten()
    world.send()
    world.internet.run(120)
    assert world.change("bounce", which={"domain": "yy.example"}) == 1
    world.internet.run(10)
    (report,) = world.xx.inbox("ann@xx.example")
    assert b"\r\nAction: failed\r\nStatus: 5.3.0\r\n" in report
    assert b"cancelled by the administrator; the last answer was: " in report
    assert b"\r\nLast-Attempt-Date: " in report
    assert world.places() == []


def test_mail_goes_by_another_host(world: World) -> None:
    world.internet.resolver.add("zz.example", "mx.zz.example", "10.0.7.7")
    world.xx.submit("ann@xx.example", ["ben@zz.example"], MESSAGE)
    world.internet.run(60)
    assert world.change("reroute", target=world.yy.address) == 1
    world.internet.run(5)
    (report,) = world.xx.inbox("ann@xx.example")  # that host takes no mail for this domain, and says so
    assert f"\r\nRemote-MTA: dns; [{world.yy.address}]\r\nDiagnostic-Code: smtp; 550 ".encode() in report


def test_the_server_is_asked_by_its_socket_and_its_log_says_what_was_done(world: World, tmp_path: Path) -> None:
    config = parse('hostname = "mx.xx.example"\ndata = "data"\n', tmp_path / "m.toml")
    reactor: Any = world.internet.clock
    service = MailService(config, world.xx.hub, reactor)
    world.yy.unlisten()
    world.send()
    answer = world.internet.wait(service._asked({"queue": "destinations"}))
    assert [place["messages"] for place in answer["destinations"]] == [1]
    with capturedLogs() as events:
        world.internet.wait(service._asked({"queue": "change", "change": "hold"}))
    assert "queue changed by command: change=hold messages=1 which=None" in map(formatEvent, events)
    which = {"ids": ["one", "two"], "sender": "ann@xx.example"}
    with capturedLogs() as events:
        world.internet.wait(service._asked({"queue": "change", "change": "hold", "which": which}))
    told = "queue changed by command: change=hold messages=0 ids=one,two sender=ann@xx.example"
    assert told in map(formatEvent, events)
    for question in ({"queue": "nonsense"}, {"queue": "change", "change": "x"}, {"queue": "messages", "which": 1}):
        with pytest.raises(ConfigurationError):
            world.internet.wait(service._asked(question))


def test_a_large_queue_is_told_by_the_page(world: World) -> None:
    world.yy.unlisten()
    world.send(450)
    seen: list[str] = []
    after = ""
    while page := world.ask(queue="messages", after=after)["messages"]:
        assert len(page) <= 200
        seen += [message["id"] for message in page]
        after = seen[-1]
    assert len(set(seen)) == len(seen) == 450
    done = world.ask(queue="change", change="remove")
    assert (done["changed"], bool(done["after"])) == (200, True)


@pytest.fixture
def silent(world: World) -> str:
    """The domain of a host that takes connections and says nothing."""
    world.internet.resolver.add("slow.example", "mx.slow.example", "10.0.9.9")
    world.internet.network.listen("10.0.9.9", 25, Factory.forProtocol(Protocol))
    return "slow.example"


def test_what_is_given_up_during_an_attempt_comes_back_as_soon_as_that_has_failed_for_now(
    world: World, silent: str
) -> None:
    world.xx.submit("ann@xx.example", [f"ben@{silent}"], MESSAGE)
    world.internet.run(2)
    assert world.change("bounce") == 1
    world.internet.run(600)
    (report,) = world.xx.inbox("ann@xx.example")
    assert b"cancelled by the administrator" in report
    assert world.xx.queued() == []


def test_mail_is_not_kept_waiting_by_an_attempt_whose_mail_was_removed(world: World, silent: str) -> None:
    world.xx.submit("ann@xx.example", [f"ben@{silent}"], MESSAGE)
    world.internet.run(2)
    assert world.change("remove") == 1
    world.send()
    world.internet.run(5)
    assert len(world.yy.inbox("ben@yy.example")) == 1


def test_filters_know_a_domain_in_either_form_and_say_what_they_cannot_take(world: World) -> None:
    world.yy.unlisten()
    world.xx.submit("ann@xn--bcher-kva.example", ["ben@yy.example"], MESSAGE)
    for which in (
        {"sender": "<ann@bücher.example>"},
        {"sender": "@BÜCHER.example"},
        {"sender": "@xn--bcher-kva.example"},
        {"sender": "ann@xn--bcher-kva.example"},
        {"domain": "YY.example."},
        {"recipient": "<ben@yy.example>"},
    ):
        assert len(world.ask(queue="messages", which=which)["messages"]) == 1, which
    for which in ({"domain": "a b"}, {"sender": "a.example"}, {"recipient": "@"}):
        with pytest.raises(ConfigurationError, match="is not a"):
            world.ask(queue="messages", which=which)


def test_it_says_what_is_being_tried(world: World, silent: str) -> None:
    world.xx.submit("ann@xx.example", [f"ben@{silent}"], MESSAGE)
    world.internet.run(2)
    done = world.ask(queue="change", change="hold")
    assert (done["changed"], done["trying"]) == (1, 1)
    world.internet.run(HOUR)
    assert world.ask(queue="change", change="release")["trying"] == 0


def test_mail_goes_by_lmtp_where_no_table_speaks_of_it(world: World) -> None:
    world.yy.unlisten()
    world.send()
    assert world.change("reroute", agent="lmtp", target=f"{world.yy.address}:24") == 1
    world.internet.run(5)
    (message,) = world.ask(queue="messages")["messages"]
    assert "No delivery agent" not in message["recipients"][0]["last_reply"]
    with pytest.raises(ConfigurationError, match="there are lmtp, smtp"):
        world.change("reroute", agent="pipe", target="x")


def test_what_waits_for_its_dsn_with_a_delay_noted_comes_free(tmp_path: Path) -> None:
    with Internet(folder=tmp_path) as internet:
        xx = internet.hub("xx.example", ["ann"], {"database": {"type": "inline"}})
        internet.resolver.add("away.example", "mx.away.example", "10.0.9.9")
        xx.submit("ann@xx.example", ["ben@away.example"], MESSAGE)
        internet.run(5)
        (file,) = tmp_path.rglob("mailhub.sqlite")
        with closing(sqlite3.connect(file)) as connection:
            changed = connection.execute("UPDATE queue_recipient SET destination = '', due = 0 WHERE state = 'delayed'")
            assert changed.rowcount == 1
            connection.commit()
        internet.run(HOUR)
        assert len(xx.inbox("ann@xx.example")) == 1
        assert xx.queued() == []


@attrs.define
class Slowly:
    """A queue with a moment before each page is read, and time going by before each change."""

    internet: Internet
    queue: Any
    seconds: float

    async def messages(self, *arguments: Any) -> Any:
        await deferLater(self.internet.clock, 0.1)
        return await self.queue.messages(*arguments)

    async def change(self, changes: Any) -> Any:
        await deferLater(self.internet.clock, self.seconds)
        if self.seconds > 100:
            raise StoreUnavailable("The disk is away")
        return await self.queue.change(changes)


@pytest.fixture
def begun(world: World, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The messages of which xx has begun an attempt, each of which takes half a second."""
    found: list[str] = []
    ask, ours = QueueRunner._ask, world.xx.hub.runner

    async def begin(runner: QueueRunner, agent: Any, claim: Claim) -> Any:
        if runner is ours:
            found.append(claim.message.id)
            await deferLater(world.internet.clock, 0.5)
        return await ask(runner, agent, claim)

    monkeypatch.setattr(QueueRunner, "_ask", begin)
    return found


def change_slowly(world: World, seconds: float, change: str) -> Deferred[Any]:
    runner = world.xx.hub.runner
    desk = QueueDesk(
        Slowly(world.internet, world.xx.hub.queue, seconds),  # type: ignore[arg-type]
        world.xx.hub.environment.now,
        standstill=runner.standstill,
        way=lambda agent, _: (agent, world.yy.address),
        trying=lambda: runner.trying,
    )
    return Deferred.fromCoroutine(desk.answer({"queue": "change", "change": change}))


def given(done: Deferred[Any]) -> Any:
    return done.result


@pytest.mark.parametrize("change", ["hold", "reroute", "bounce", "remove"])
def test_what_is_changed_is_sent_the_old_way_only_where_it_is_told_to_be_tried(
    world: World, begun: list[str], change: str
) -> None:
    world.send(60)
    world.internet.run(1.2)
    before = set(begun)
    assert 0 < len(before) < 40
    done = change_slowly(world, 4.0, change)
    world.internet.run(4.0)
    assert set(begun) == before, "it had been given back"
    world.internet.run(HOUR)
    told = given(done)
    delivered = world.yy.inbox("ben@yy.example")
    if change == "reroute":
        assert len(delivered) == 60
    else:
        assert len(delivered) == len(before)
        assert len(world.xx.queued()) == (60 - len(delivered) if change == "hold" else 0)
    assert 0 < told["trying"] <= 5
    assert told["changed"] - told["trying"] == 60 - len(before)
    if change == "hold":
        assert world.change("release") == 60 - len(before)
        world.internet.run(HOUR)
        assert (len(world.yy.inbox("ben@yy.example")), world.xx.queued()) == (60, [])
    assert len(set(begun)) == len(begun)


def test_mail_goes_on_where_a_change_takes_long_and_what_it_changes_at_last_is_not_sent_any_more(
    world: World, begun: list[str]
) -> None:
    world.send(200)
    world.internet.run(1.2)
    before = len(begun)
    done = change_slowly(world, 14.0, "hold")
    world.internet.run(9.0)
    assert len(begun) == before
    world.internet.run(4.9)
    sent = len(begun)
    assert before < sent < 150
    world.internet.run(HOUR)
    assert given(done)["changed"] == 200 - before + given(done)["trying"]
    assert len(begun) <= sent + 5
    assert len(world.xx.queued()) == 200 - len(begun)


def test_mail_goes_on_where_a_change_fails(world: World, begun: list[str]) -> None:
    world.send(60)
    world.internet.run(1.2)
    done = change_slowly(world, 101.0, "hold")
    world.internet.run(300)
    assert given(done).check(StoreUnavailable)
    done.addErrback(lambda _: None)
    assert (len(world.yy.inbox("ben@yy.example")), world.xx.queued()) == (60, [])
    assert len(set(begun)) == len(begun)


def test_two_changes_at_a_time_are_waited_for(world: World, begun: list[str]) -> None:
    world.send(60)
    world.internet.run(1.2)
    before = len(begun)
    first, second = change_slowly(world, 1.0, "retry"), change_slowly(world, 5.0, "hold")
    world.internet.run(5.0)
    assert (first.called, second.called, len(begun)) == (True, False, before)
    world.internet.run(HOUR)
    assert given(second)["changed"] == 60 - before + given(second)["trying"]
    assert (len(world.yy.inbox("ben@yy.example")), len(world.xx.queued())) == (before, 60 - before)
