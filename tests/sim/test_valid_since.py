"""Mail for whoever had an address at a time (RFC 7293), and for nobody who has it now."""

from __future__ import annotations

from collections.abc import Iterator
from email import message_from_bytes
from typing import Any

import attrs
import pytest

from mailhub.message.address import Address
from mailhub.message.envelope import FutureRelease, Mail, Recipient, ValidSince
from mailhub.testing.caller import Caller
from mailhub.testing.hubs import EPOCH, Host, Internet
from tests.sim.hops import Hop

BEFORE, AFTER = "Sun, 31 Dec 2023 00:00:00 +0000", "Fri, 1 Mar 2024 00:00:00 +0000"


@attrs.define
class World:
    """cat@zz.example writes to ann and ben at xx.example, whose accounts were made on 1 January 2024."""

    internet: Internet
    xx: Host
    zz: Host

    def begin(self, *recipients: str, service: str = "smtp", sender: str = "cat@zz.example") -> Caller:
        caller = self.internet.call(self.xx, service)
        caller.ask(b"%b c.example\r\n" % (b"LHLO" if service == "lmtp" else b"EHLO"), b"250 HELP")
        caller.ask(f"MAIL FROM:<{sender}>\r\n".encode(), b"250 ")
        for recipient in recipients:
            address, _, parameters = recipient.partition(" ")
            caller.ask(f"RCPT TO:<{address}@xx.example> {parameters}\r\n".encode(), b"250 2.1.5")
        return caller

    def told(self) -> list[tuple[str, str, str]]:
        """Of all DSNs: recipient, what became of it, status."""
        self.internet.run(60)
        groups: list[Any] = []
        for octets in self.zz.inbox("cat@zz.example"):
            report: Any = message_from_bytes(octets)
            groups += report.get_payload(1).get_payload()[1:]
        return [(each["Final-Recipient"].split("; ")[1], each["Action"], each["Status"]) for each in groups]

    def change_hands(self, user: str) -> None:
        self.internet.wait(self.xx.hub.accounts.remove(user))
        self.internet.run(5)
        self.xx.add_account(user)

    def inboxes(self) -> list[int]:
        return [len(self.xx.inbox(f"{name}@xx.example")) for name in ("ann", "ben")]


@pytest.fixture
def world() -> Iterator[World]:
    with Internet() as internet:
        aliases = {"info@xx.example": ["ann@xx.example"]}
        xx = internet.hub("xx.example", ["ann", "ben"], {"aliases": aliases})
        zz = internet.hub("zz.example", ["cat"])
        internet.run(10)
        yield World(internet, xx, zz)


def message(*fields: tuple[str, str]) -> bytes:
    lines = "".join(f"Require-Recipient-Valid-Since: {name}@xx.example; {date}\r\n" for name, date in fields)
    return f"DATA\r\nSubject: x\r\n{lines}\r\nx\r\n.\r\n".encode()


def test_the_field_counts_where_no_parameter_was_given(world: World) -> None:
    world.begin("ann").ask(message(("ann", BEFORE)), b"550 5.7.17")
    world.begin("ann").ask(message(("ann", AFTER)), b"250 2.0.0")
    world.begin("ann").ask(message(("ben", BEFORE), ("ann+x", BEFORE)), b"250 2.0.0")
    world.begin("ann RRVS=2024-03-01T00:00:00Z").ask(message(("ann", BEFORE)), b"250 2.0.0")
    world.begin("info").ask(message(("info", BEFORE)), b"250 2.0.0")
    assert world.inboxes() == [4, 0]


def test_of_several_the_one_who_is_not_meant_gets_nothing_and_the_sender_is_told(world: World) -> None:
    world.begin("ann", "ben").ask(message(("ann", BEFORE)), b"250 2.0.0")
    assert world.told() == [("ann@xx.example", "failed", "5.7.17")]
    assert world.inboxes() == [0, 1]


def test_lmtp_answers_for_each(world: World) -> None:
    answers = world.begin("ann", "ben", service="lmtp").ask(message(("ann", BEFORE)), b"250 2.0.0")
    assert b"\r\n550 5.7.17 Mailbox has another owner" in b"\r\n" + answers
    world.begin("ann", service="lmtp").ask(message(("ann", BEFORE)), b"550 5.7.17")
    assert (world.told(), world.inboxes()) == ([], [0, 1])


@pytest.mark.parametrize("service", ["smtp", "lmtp"])
def test_an_address_that_changes_hands_after_rcpt(world: World, service: str) -> None:
    caller = world.begin("ann RRVS=2024-01-01T00:00:05Z", service=service)
    world.change_hands("ann@xx.example")
    caller.ask(message(), b"550 5.7.17")
    assert (world.told(), world.inboxes()) == ([], [0, 0])


@pytest.mark.parametrize("changes", [True, False])
def test_an_address_that_changes_hands_while_a_message_waits(world: World, changes: bool) -> None:
    mail = Mail(Address("cat", "zz.example"), hold=FutureRelease(3600, "FOR"))
    ann = Recipient(Address("ann", "xx.example"), rrvs=ValidSince(EPOCH + 5))
    world.internet.wait(world.xx.hand_in(mail, [ann], b"Subject: later\r\n\r\n"))
    if changes:
        world.change_hands("ann@xx.example")
    world.internet.run(3600)
    assert world.told() == ([("ann@xx.example", "failed", "5.7.17")] if changes else [])
    assert world.inboxes() == [0 if changes else 1, 0]
    if changes:
        (octets,) = world.zz.inbox("cat@zz.example")
        assert b"\r\nFuture-Release-Request: for;3600\r\n" in octets


def test_no_date_counts_for_the_mailbox_of_a_task(world: World) -> None:
    """RFC 7293 5.1 and 5.2: names of RFC 2142, whoever sits there."""
    world.xx.add_account("support@xx.example")
    world.begin("Support RRVS=2023-01-01T00:00:00Z").ask(message(("support", BEFORE)), b"250 2.0.0")
    world.begin("support").ask(message(("support", BEFORE)), b"250 2.0.0")
    assert len(world.xx.inbox("support@xx.example")) == 2


def test_the_field_is_gone_where_it_has_been_of_use(world: World) -> None:
    """RFC 7293 5.2: whom it names, or that he was known, is nobody else's business."""
    world.begin("ann", "ben").ask(message(("ann", AFTER), ("other", BEFORE)), b"250 2.0.0")
    world.begin("info").ask(message(("info", AFTER)), b"250 2.0.0")
    for octets in (*world.xx.inbox("ann@xx.example"), *world.xx.inbox("ben@xx.example")):
        assert b"Require-Recipient" not in octets
        assert octets.endswith(b"Subject: x\r\n\r\nx\r\n")


@pytest.mark.parametrize("knowing", [True, False])
def test_the_field_goes_on_as_a_parameter_and_for_who_knows_none_as_it_is(world: World, knowing: bool) -> None:
    """RFC 7293 6.1. It is of a recipient elsewhere; that of one of ours is taken out on the way."""
    there = Hop(world.internet.clock)
    there.offers = "RRVS" if knowing else "PIPELINING"
    world.internet.resolver.add("there.example", "mx.there.example", "10.0.9.9")
    world.internet.network.listen("10.0.9.9", 25, there)
    who = (b"q@there.example", b"ann@xx.example", b"nobody@xx.example")
    mail = Mail(Address("cat", "zz.example"))
    to = [Recipient(Address("q", "there.example")), Recipient(Address("ann", "xx.example"))]
    fields = b"".join(b"Require-Recipient-Valid-Since: %b; %b\r\n" % (each, AFTER.encode()) for each in who)
    world.internet.wait(world.xx.hand_in(mail, to, fields + b"Subject: x\r\n\r\nx\r\n"))
    assert world.told() == []
    (rcpt,) = [line for line in there.heard if line.startswith(b"RCPT")]
    assert rcpt.endswith(b" RRVS=2024-03-01T00:00:00Z;C") is knowing
    for octets in (b"\r\n".join(there.heard), *world.xx.inbox("ann@xx.example")):
        assert octets.count(b"Require-Recipient-Valid-Since: ") == 2
        assert b"Require-Recipient-Valid-Since: ann@xx.example" not in octets


@pytest.mark.parametrize("action", ["R", "C"])
def test_a_next_hop_that_does_not_know_it(world: World, action: Any) -> None:
    old = Hop(world.internet.clock)
    world.internet.resolver.add("old.example", "mx.old.example", "10.0.9.9")
    world.internet.network.listen("10.0.9.9", 25, old)
    to = Recipient(Address("q", "old.example"), rrvs=ValidSince(EPOCH, action))
    world.internet.wait(world.xx.hand_in(Mail(Address("cat", "zz.example")), [to], b"Subject: x\r\n\r\n"))
    assert world.told() == ([("q@old.example", "failed", "5.7.19")] if action == "R" else [])
    assert old.recipients == ([] if action == "R" else ["q"])
