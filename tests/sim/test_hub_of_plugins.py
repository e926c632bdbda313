"""What plugins do with the hub that they are given, in whole servers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs
import pytest

from mailhub.api import (
    Address,
    Component,
    Delivery,
    Ended,
    IHub,
    Mail,
    NextHop,
    NoOptions,
    Outcome,
    Plan,
    Route,
    Service,
    Submission,
)
from mailhub.testing.hubs import Internet

MESSAGE = b"Subject: from a program\r\n\r\nHello\r\n"


class Program:
    """A service that sends mail of its own accord."""

    def __init__(self, options: Any, hub: IHub) -> None:
        self.hub = hub
        PROGRAMS[:] = [self]

    def session(self, link: Any) -> Any:
        raise AssertionError("nobody calls")

    async def queue(self, to: str) -> None:
        queue = self.hub.queue
        writer = queue.new_body()
        await writer.write(MESSAGE)
        plan = Plan(routes=(Route("smtp", Address.parse(to)),))
        await queue.submit(Submission(Mail(Address.parse("program@xx.example")), plan, await writer.finish()))


PROGRAMS: list[Program] = []
program = Component("service", "program", Program, NoOptions, Service(port=99))


def test_what_a_plugin_queues_is_sent_at_once() -> None:
    with Internet() as internet:
        internet.hub("xx.example", config={"listen": {"program": ["tcp:99"]}}, plugins=[program])
        yy = internet.hub("yy.example", users=["b"])
        internet.run(2)  # the runner has looked, and looks again after five seconds
        internet.wait(PROGRAMS[0].queue("b@yy.example"))
        internet.run(1)
        assert len(yy.inbox("b@yy.example")) == 1


@attrs.frozen
class WayOptions:
    by: str = "smtp"
    host: str = ""


class Way:
    """An agent that relays in a way of its own."""

    def __init__(self, options: WayOptions, hub: IHub) -> None:
        self.transmitter = hub.relay.transmitter()
        self.hop = NextHop(host=options.host) if options.host else None
        self.by = options.by

    async def deliver(self, delivery: Delivery) -> Mapping[int, Outcome]:
        if self.by == "lmtp" and self.hop is not None:
            return await self.transmitter.lmtp(delivery, self.hop)
        return await self.transmitter.smtp(delivery, self.hop)

    async def stop(self) -> None:
        await self.transmitter.stop()


way = Component("agent", "way", Way, WayOptions)


@pytest.mark.parametrize(
    ("options", "by"),
    [({}, "ESMTP"), ({"host": "mx.yy.example"}, "ESMTP"), ({"by": "lmtp"}, "LMTP")],
)
def test_a_plugins_agent_relays_by_the_client_of_the_hub(options: dict[str, str], by: str) -> None:
    with Internet() as internet:
        yy = internet.hub("yy.example", users=["b"])
        options = {"host": yy.address, **options} if by == "LMTP" else options
        routed = {"agent": {"mine": {"type": "way", **options}}, "route": {"yy.example": {"agent": "mine"}}}
        xx = internet.hub("xx.example", users=["a"], config=routed, plugins=[way])
        xx.submit("a@xx.example", ["b@yy.example"], MESSAGE)
        internet.run(5)
        (arrived,) = yy.inbox("b@yy.example")
        assert b"with " + by.encode() in arrived
        assert list(xx.queued()) == []


class Pipe:
    """An agent that has a program take the mail."""

    def __init__(self, options: Any, hub: IHub) -> None:
        self.run = hub.environment.processes.run

    async def deliver(self, delivery: Delivery) -> Mapping[int, Outcome]:
        outcomes = {}
        for row in delivery.recipients:
            ended = await self.run(["take", str(row.route.recipient)], delivery.body, seconds=60)
            outcomes[row.id] = Outcome.delivered() if ended.status == 0 else Outcome.failed(ended.stderr.decode())
        return outcomes

    async def stop(self) -> None: ...


def test_a_plugins_agent_runs_a_program() -> None:
    with Internet() as internet:
        routed = {"route": {"yy.example": {"agent": "pipe"}}}
        xx = internet.hub("xx.example", users=["a"], config=routed, plugins=[Component("agent", "pipe", Pipe)])
        xx.submit("a@xx.example", ["b@yy.example"], MESSAGE)
        internet.run(5)
        (waiting,) = xx.queued()  # there is no such program
        assert waiting.recipients[0].attempts == 1
        internet.processes.add("take", lambda call: Ended(0))
        internet.run(600)
        assert list(xx.queued()) == []
        assert internet.processes.calls[0].arguments == ("take", "b@yy.example")
        assert internet.processes.calls[0].stdin.endswith(MESSAGE)
        internet.processes.add("take", lambda call: Ended(1, stderr=b"no such user"))
        xx.submit("a@xx.example", ["c@yy.example"], MESSAGE)
        internet.run(5)
        assert b"no such user" in xx.inbox("a@xx.example")[0]
