"""Mail that has to be there in time (RFC 2852), and mail that goes before other mail (RFC 6710)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import attrs
import pytest

from mailhub.testing.caller import Caller
from mailhub.testing.hubs import Host, Internet
from tests.sim.hops import Hop

MESSAGE = b"From: cat@zz.example\r\nSubject: hello\r\n\r\nHow are you?\r\n.\r\n"
HOUR = 3600


@attrs.define
class World:
    """Anybody may write to xx.example, whose users get their mail at yy.example and old.example."""

    internet: Internet
    xx: Host
    yy: Host
    zz: Host

    def client(self, host: Host, source: str = "10.9.9.9") -> Caller:
        caller = self.internet.call(host, "smtp", source)
        caller.expect(b"220 ")
        assert {b"DELIVERBY 60\r\n", b"MT-PRIORITY\r\n"} <= {
            line[4:] for line in caller.ask(b"EHLO client.example\r\n", b"250 ").splitlines(keepends=True)
        }
        return caller

    def send(self, recipient: str, mail: str, source: str = "10.9.9.9") -> None:
        caller = self.client(self.xx, source)
        caller.ask(f"MAIL FROM:<cat@zz.example> {mail}\r\n".encode(), b"250 ")
        caller.ask(f"RCPT TO:<{recipient}>\r\n".encode(), b"250 ")
        caller.ask(b"DATA\r\n", b"354 ")
        caller.ask(MESSAGE, b"250 ")

    def told(self) -> list[bytes]:
        return self.zz.inbox("cat@zz.example")


@pytest.fixture
def world() -> Iterator[World]:
    with Internet(seed=9, poll_seconds=600) as internet:
        config: Any = {
            "smtp": {"deliver_by_minimum_seconds": 60},
            "trust": {"networks": ["10.9.9.8"]},
            "aliases": {"ben@xx.example": ["ben@yy.example"], "old@xx.example": ["q@old.example"]},
        }
        xx = internet.hub("xx.example", config=config)
        yy, zz = internet.hub("yy.example", users=["ben"]), internet.hub("zz.example", users=["cat"])
        yield World(internet, xx, yy, zz)


def test_what_is_not_there_in_time_comes_back(world: World) -> None:
    world.yy.unlisten()
    world.send("ben@xx.example", "BY=5000;R")
    world.internet.run(4900)
    assert world.told() == []
    world.internet.run(200)
    (report,) = world.told()
    assert b"\r\nAction: failed\r\nStatus: 5.4.7\r\n" in report
    world.yy.listen()
    world.internet.run(2 * HOUR)
    assert (world.yy.inbox("ben@yy.example"), world.xx.queued()) == ([], [])


def test_what_is_late_is_told_of_at_its_moment_and_still_delivered(world: World) -> None:
    world.yy.unlisten()
    world.send("ben@xx.example", "BY=5000;N")
    world.internet.run(4900)
    assert world.told() == []
    world.internet.run(200)
    (report,) = world.told()
    assert b"\r\nAction: delayed\r\nStatus: 4.4.7\r\n" in report
    world.internet.run(8 * HOUR)
    assert len(world.told()) == 1
    world.yy.listen()
    world.internet.run(2 * HOUR)
    assert len(world.yy.inbox("ben@yy.example")) == 1


def test_that_the_time_is_over_is_told_to_who_was_warned_before(world: World) -> None:
    """RFC 2852 4.1.3."""
    world.yy.unlisten()
    world.send("ben@xx.example", f"BY={6 * HOUR};N")
    world.internet.run(6 * HOUR - 60)
    assert len(world.told()) == 1
    world.internet.run(120)
    first, second = world.told()
    assert b"\r\nStatus: 4.4.7\r\n" not in first
    assert b"\r\nAction: delayed\r\nStatus: 4.4.7\r\n" in second
    world.internet.run(24 * HOUR)
    assert len(world.told()) == 2


def test_what_must_come_back_in_time_goes_to_hosts_alone_that_say_so(world: World) -> None:
    world.internet.resolver.add("old.example", "mx.old.example", "10.0.9.9")
    old = Hop(world.internet.clock)
    world.internet.network.listen("10.0.9.9", 25, old)
    world.send("old@xx.example", "BY=5000;R")
    world.send("ben@xx.example", "BY=5000;R")
    world.internet.run(60)
    assert old.taken == []
    assert len(world.yy.inbox("ben@yy.example")) == 1
    (report,) = world.told()
    assert b"\r\nFinal-Recipient: rfc822; old@xx.example\r\nAction: failed\r\n" in report


def test_a_trace_tells_of_each_relay(world: World) -> None:
    world.send("ben@xx.example", "BY=5000;NT")
    world.internet.run(60)
    (report,) = world.told()
    assert b"\r\nAction: relayed\r\n" in report


def test_who_hands_mail_to_a_host_that_keeps_no_time_says_so(world: World) -> None:
    world.internet.resolver.add("old.example", "mx.old.example", "10.0.9.9")
    world.internet.network.listen("10.0.9.9", 25, Hop(world.internet.clock))
    world.send("old@xx.example", "BY=5000;N")
    world.send("ben@xx.example", "BY=5000;N")
    world.internet.run(60)
    (report,) = world.told()
    assert b"\r\nFinal-Recipient: rfc822; old@xx.example\r\nAction: relayed\r\n" in report


def test_less_time_than_is_promised_cannot_be_asked_for(world: World) -> None:
    caller = world.client(world.xx)
    caller.ask(b"MAIL FROM:<cat@zz.example> BY=59;R\r\n", b"555 5.5.4")
    caller.ask(b"MAIL FROM:<cat@zz.example> BY=59;N\r\n", b"250 ")


def test_urgent_mail_goes_first_where_its_sender_may_say_so(world: World) -> None:
    world.internet.resolver.add("old.example", "mx.old.example", "10.0.9.9")
    seen: list[int | None] = []
    trusted = "10.9.9.8"
    for priority, source in ((-4, trusted), (0, trusted), (9, "10.9.9.9"), (4, trusted), (6, trusted)):
        world.send("old@xx.example", f"MT-PRIORITY={priority}", source)
    queued = [(message.mail.priority, message.recipients[0].priority) for message in world.xx.queued()]
    assert sorted(queued) == [(-4, -4), (0, 0), (0, 0), (4, 4), (6, 6)], "a stranger may say anything"

    async def look() -> None:
        claims = await world.xx.hub.queue.claim(world.xx.hub.environment.now() + HOUR, 100, 100)
        seen.extend(claim.message.mail.priority for claim in claims)
        await world.xx.hub.queue.release(claims)

    world.internet.wait(look())
    assert (seen[:2], seen[-1]) == ([6, 4], -4)
