"""What was said at submission goes all the way: over aliases, restarts and other hosts, and back with a failure."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import attrs
import pytest
from zope.interface import implementer

from mailhub.interfaces import ALIAS, STORE, IHub, IRouter, ITransactionView, ReversePath, Route, Service
from mailhub.message.address import Address
from mailhub.message.envelope import DeliverBy, Mail, OriginalRecipient, Recipient, ValidSince
from mailhub.plugins import Component
from mailhub.protocols.smtp import SmtpService
from mailhub.protocols.smtp_options import SmtpOptions
from mailhub.services import SERVICES
from mailhub.store.memory.database import MemoryDatabase
from mailhub.testing.caller import Caller
from mailhub.testing.hubs import Host, Internet
from mailhub.testing.waiting import result_of
from mailhub.wire.smtp.extensions import EXTENSIONS

PASSWORD = "correct horse"
ANN, BEN = Address.parse("ann@xx.example"), Address.parse("ben@yy.example")
BOTH, LIST = Address.parse("both@xx.example"), Address.parse("list@xx.example")
# All services offer all extensions.
WIDE = {
    "listen": {
        name: None if name.startswith("wide") else [f"tcp:{number}"]
        for number, name in enumerate(("smtp", "submissions", "lmtp"), 3000)
    }
    | {"wide-smtp": ["tcp:25"], "wide-submissions": ["tcp:465"], "wide-lmtp": ["tcp:24"]}
}


def wide(name: str) -> Component:
    service: Service = SERVICES[name]

    def make(_: Any, hub: IHub) -> SmtpService:
        offered = frozenset(row.keyword for row in EXTENSIONS)
        options = hub.settings.of(
            SmtpOptions,
            hostname=hub.hostname,
            submission=service.submission,
            each_recipient=service.each_recipient,
            extensions=offered,
        )
        return SmtpService(hub.pipeline, hub.authenticator, options, hub.harvest, hub.environment.now)

    return Component("service", f"wide-{name}", make, service=service)


@implementer(IRouter)
@attrs.define
class Own:
    """Notes the transactions it is shown, and gives a list a reverse-path of its own."""

    shown: list[ITransactionView] = attrs.field(factory=list)

    async def route(self, recipient: Address, transaction: ITransactionView) -> Sequence[Route] | None:
        if transaction not in self.shown:
            self.shown.append(transaction)
        if recipient != LIST:
            return None
        own = ReversePath(ANN)
        return [Route(ALIAS, Address.parse(f"{name}@yy.example"), reverse_path=own) for name in ("nobody", "ben")]


@attrs.define
class World:
    internet: Internet
    xx: Host
    yy: Host
    seen: Own  # by the other host's router

    def say(self, service: str, *commands: str, user: str = "ann@xx.example") -> Caller:
        """A client that has greeted, logged in where that is usual, and said these commands; none is refused."""
        caller = self.internet.call(self.xx, service)
        caller.expect(b"220 ")
        caller.ask(b"LHLO me.example\r\n" if service == "wide-lmtp" else b"EHLO me.example\r\n", b"250 ")
        if self.xx.hub.services[service].login:
            token = base64.b64encode(f"\0{user}\0{PASSWORD}".encode()).decode()
            caller.ask(f"AUTH PLAIN {token}\r\n".encode(), b"235 ")
        for command in commands:
            answer = caller.ask(f"{command}\r\n".encode(), b"354 " if command == "DATA" else b"2")
            assert not answer.startswith(b"5")
        return caller


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    plugins = [wide(name) for name in ("smtp", "submissions", "lmtp")]
    seen = Own()
    routers = ["own", "aliases", "accounts", "postmaster", "catch-all", "static", "exchangers"]
    with Internet(seed=5, folder=tmp_path) as internet:
        xx = internet.hub(
            "xx.example",
            config={
                **WIDE,
                "database": {"type": "inline"},
                "aliases": {"both@xx.example": ["ann@xx.example", "ben@yy.example"]},
                "delivery": {"routers": routers},
            },
            plugins=[*plugins, Component("router", "own", lambda _, hub: Own())],
        )
        yy = internet.hub(
            "yy.example",
            users=["ben"],
            config={**WIDE, "delivery": {"routers": routers}, "smtp": {"priority_limit": 9}},
            plugins=[*plugins, Component("router", "own", lambda _, hub: seen)],
        )
        for name in ("ann", "cat"):
            xx.add_account(f"{name}@xx.example", PASSWORD)
        yield World(internet, xx, yy, seen)


MESSAGE = b"From: ann@xx.example\r\nSubject: s\r\n\r\nHow are you?\r\n.\r\n"
ORCPT = OriginalRecipient("rfc822", "Both+1@xx.example")


def test_what_was_said_at_submission_arrives_at_the_next_hop_over_a_restart(world: World) -> None:
    caller = world.say(
        "wide-submissions",
        "MAIL FROM:<ann@xx.example> RET=HDRS ENVID=QQ+2B1 BY=100000;N MT-PRIORITY=3 HOLDFOR=3600",
        "RCPT TO:<both@xx.example> NOTIFY=FAILURE,DELAY ORCPT=rfc822;Both+2B1@xx.example RRVS=2014-04-03T23:01:00Z;C",
        "DATA",
    )
    caller.ask(MESSAGE, b"250 ")
    world.internet.run(3000)
    assert world.xx.inbox("ann@xx.example") == []
    world.xx.restart()
    world.internet.run(700)
    assert [len(host.inbox(user)) for host, user in ((world.xx, str(ANN)), (world.yy, str(BEN)))] == [1, 1]
    (transaction,) = world.seen.shown
    by = transaction.mail.by
    assert by is not None
    assert 100_000 - 3700 <= by.seconds <= 100_000 - 3600
    assert transaction.mail == Mail(
        ANN,
        size=transaction.mail.size,
        ret="HDRS",
        envid="QQ+1",
        by=DeliverBy(by.seconds, "N"),
        priority=3,
    )
    notify: Any = frozenset({"FAILURE", "DELAY"})
    # What was said of an alias's owner is not said of those whom it leads to (RFC 7293).
    assert list(transaction.recipients) == [Recipient(BEN, notify, ORCPT)]


def test_since_when_a_recipient_is_known_arrives_at_its_own_server(world: World) -> None:
    start, end = "MAIL FROM:<ann@xx.example>", "DATA"
    for date in ("2024-03-01T00:00:00Z;C", "2014-04-03T23:01:00Z;R"):
        caller = world.say("wide-submissions", start, f"RCPT TO:<ben@yy.example> RRVS={date}", end)
        caller.ask(MESSAGE, b"250 ")
    world.internet.run(700)
    (transaction, *_) = world.seen.shown
    assert list(transaction.recipients) == [Recipient(BEN, rrvs=ValidSince(1709251200, "C"))]
    assert len(world.yy.inbox(str(BEN))) == 1
    (failure,) = world.xx.inbox(str(ANN))
    assert b"Status: 5.7.17\r\n" in failure


def test_the_failure_is_told_by_the_name_that_the_sender_gave(world: World) -> None:
    caller = world.say(
        "wide-submissions",
        "MAIL FROM:<cat@xx.example> RET=FULL ENVID=QQ",
        "RCPT TO:<nobody@yy.example> NOTIFY=FAILURE ORCPT=rfc822;Nobody@yy.example",
        "RCPT TO:<none@yy.example> NOTIFY=NEVER",
        "DATA",
        user="cat@xx.example",
    )
    caller.ask(MESSAGE, b"250 ")
    world.internet.run(60)
    (report,) = world.xx.inbox("cat@xx.example")
    assert b"\r\nOriginal-Envelope-Id: QQ\r\n" in report
    assert b"\r\nOriginal-Recipient: rfc822; Nobody@yy.example\r\n" in report
    assert b"none@yy.example" not in report
    assert b"\r\nHow are you?\r\n" in report, "the whole of it goes back"
    assert world.xx.queued() == []


def test_the_failure_of_a_list_is_told_to_its_owner(world: World) -> None:
    caller = world.say(
        "wide-submissions",
        "MAIL FROM:<cat@xx.example> ENVID=QQ",
        "RCPT TO:<list@xx.example> NOTIFY=NEVER ORCPT=rfc822;list@xx.example",
        "DATA",
        user="cat@xx.example",
    )
    caller.ask(MESSAGE, b"250 ")
    world.internet.run(60)
    (arrived,) = world.yy.inbox("ben@yy.example")
    assert arrived.startswith(b"Return-Path: <ann@xx.example>\r\n")
    (report,) = world.xx.inbox("ann@xx.example")
    assert b"Final-Recipient: rfc822; nobody@yy.example" in report
    assert b"QQ" not in report
    assert world.xx.inbox("cat@xx.example") == []
    (transaction, *_) = world.seen.shown
    assert (transaction.mail.reverse_path, transaction.mail.envid) == (ANN, "")
    assert all(each == Recipient(each.address) for each in transaction.recipients)


@pytest.mark.parametrize(("quota", "answer"), [(0, b"250 2.0.0"), (10, b"552 5.2.2")])
def test_lmtp_answers_for_each_of_two_recipients_that_share_a_mailbox(world: World, quota: int, answer: bytes) -> None:
    world.internet.wait(world.xx.hub.accounts.set_quota("ann@xx.example", quota))
    caller = world.say(
        "wide-lmtp",
        "MAIL FROM:<>",
        "RCPT TO:<ann+1@xx.example>",
        "RCPT TO:<ann+2@xx.example> NOTIFY=NEVER",
        "DATA",
    )
    answers = caller.ask(MESSAGE + b"NOOP\r\n", b"250 2.0.0 OK")
    assert [line[:9] for line in answers.splitlines()[:2]] == [answer] * 2
    assert len(world.xx.inbox("ann@xx.example")) == (quota == 0)


@implementer(IRouter)
@attrs.frozen
class Sorted:
    """A router that knows better than the account where its mail belongs."""

    reverse_path: ReversePath | None

    async def route(self, recipient: Address, transaction: ITransactionView) -> Sequence[Route] | None:
        if recipient.local.startswith("ann+"):
            mailbox = recipient.local.removeprefix("ann+")
            return [Route(STORE, recipient, str(ANN), (), self.reverse_path, mailbox, frozenset({"$Sorted"}))]
        return None


@pytest.mark.parametrize("store", ["database", "elsewhere"])
@pytest.mark.parametrize("own", [None, ReversePath(BEN)])
def test_a_route_says_mailbox_flags_and_return_path_for_any_store(store: str, own: ReversePath | None) -> None:
    def elsewhere(_: Any, hub: IHub) -> Any:
        store = MemoryDatabase(hub.environment).store
        result_of(store.account(str(ANN), create=True))
        return store

    plugins = [Component("store", "elsewhere", elsewhere), Component("router", "sorted", lambda _, hub: Sorted(own))]
    with Internet(seed=6) as internet:
        config = {"store": {"type": store}, "delivery": {"routers": ["sorted", "accounts"]}}
        host = internet.hub("xx.example", users=["ann"], config=config, plugins=plugins)
        host.submit("ann@xx.example", ["ann+Junk@xx.example", "ann+gone@xx.example"], b"Subject: s\r\n\r\nx\r\n")
        internet.run(60)
        account = internet.wait(host.hub.store.account(str(ANN)))
        for name in ("Junk", "INBOX"):
            mailbox = internet.wait(account.mailbox(name))
            (entry,) = internet.wait(mailbox.entries())
            octets = internet.wait(internet.wait(mailbox.open(entry.uid)).read())
            assert entry.flags == {"$Sorted"}
            assert octets.startswith(f"Return-Path: <{own.address if own else ANN}>\r\nReceived: ".encode())
        assert host.queued() == []
