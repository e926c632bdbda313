"""What plugins do with the hub that they are given, in whole servers."""

from __future__ import annotations

from typing import Any

from mailhub.api import Address, Component, IHub, Mail, NoOptions, Plan, Route, Service, Submission
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
