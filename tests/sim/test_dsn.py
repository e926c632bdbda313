"""What senders are told of their mail, and what not (RFC 3461): each once, over hosts and crashes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from email import message_from_bytes
from pathlib import Path
from typing import Any

import attrs
import pytest
from zope.interface import implementer

from mailhub.interfaces import ALIAS, IRouter, ITransactionView, ReversePath, Route
from mailhub.message.address import Address
from mailhub.plugins import Component
from mailhub.testing.caller import Caller
from mailhub.testing.hubs import Host, Internet
from tests.sim.hops import Hop

MESSAGE = b"From: cat@zz.example\r\nSubject: hello\r\n\r\nHow are you?\r\n.\r\n"
HOUR = 3600
LIST = Address.parse("list@xx.example")


@implementer(IRouter)
class Lists:
    """A list with an owner."""

    async def route(self, recipient: Address, transaction: ITransactionView) -> Sequence[Route] | None:
        if recipient != LIST:
            return None
        owner = ReversePath(Address.parse("owner@xx.example"))
        return [Route(ALIAS, Address.parse(name), reverse_path=owner) for name in ("ann@xx.example", "ben@yy.example")]


@attrs.define
class World:
    """cat@zz.example writes to xx.example, which knows others; old.example's server knows no DSN."""

    internet: Internet
    xx: Host
    yy: Host
    zz: Host
    old: Hop

    def send(self, *recipients: str, mail: str = "", sender: str = "cat@zz.example", to: Host | None = None) -> None:
        caller = self.call(to or self.xx)
        caller.ask(f"MAIL FROM:<{sender}> {mail}\r\n".encode(), b"250 ")
        for recipient in recipients:
            address, _, parameters = recipient.partition(" ")
            caller.ask(f"RCPT TO:<{address}> {parameters}\r\n".encode(), b"250 ")
        caller.ask(b"DATA\r\n", b"354 ")
        caller.ask(MESSAGE, b"250 ")

    def call(self, host: Host) -> Caller:
        caller = self.internet.call(host, "smtp")
        caller.expect(b"220 ")
        assert b"DSN\r\n" in caller.ask(b"EHLO client.example\r\n", b"250 ")
        return caller

    def told(self, user: str = "cat@zz.example") -> list[dict[str, str]]:
        """The groups of all DSNs that somebody has, each with the fields of its message."""
        groups = []
        for octets in self.zz.inbox(user) if user.endswith("zz.example") else self.xx.inbox(user):
            message: Any = message_from_bytes(octets)
            if message.get_content_type() == "multipart/report":
                assert octets.startswith(b"Return-Path: <>\r\n")
                common, *others = message.get_payload(1).get_payload()
                groups += [{**dict(common.items()), **dict(group.items())} for group in others]
        return groups


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with Internet(seed=8, folder=tmp_path, poll_seconds=600) as internet:
        routers = ["own-lists", "aliases", "accounts", "postmaster", "exchangers"]
        xx = internet.hub(
            "xx.example",
            users=["ann", "bob", "owner", "full"],
            config={
                "database": {"type": "inline"},
                "delivery": {"routers": routers},
                "aliases": {
                    "both@xx.example": ["ann@xx.example", "ben@yy.example"],
                    "one@xx.example": ["ben@yy.example"],
                    "old@xx.example": ["q@old.example"],
                    "old2@xx.example": ["r@old.example"],
                    "gone@xx.example": ["nobody@yy.example"],
                    "utf@xx.example": ["jörg@yy.example"],
                },
            },
            plugins=[Component("router", "own-lists", lambda _, hub: Lists())],
        )
        yy, zz = internet.hub("yy.example", users=["ben"]), internet.hub("zz.example", users=["cat"])
        internet.resolver.add("old.example", "mx.old.example", "10.0.9.9")
        old = Hop(internet.clock)
        internet.network.listen("10.0.9.9", 25, old)
        yield World(internet, xx, yy, zz, old)


def pick(groups: list[dict[str, str]], *names: str) -> list[tuple[str | None, ...]]:
    return sorted(tuple(group.get(name) for name in names) for group in groups)


def test_who_asks_is_told_that_mail_is_in_a_mailbox(world: World) -> None:
    world.send(
        "ann@xx.example NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;Ann+2BX@xx.example",
        "bob@xx.example NOTIFY=FAILURE",
        "owner@xx.example",
        mail="RET=FULL ENVID=QQ1",
    )
    world.internet.run(60)
    (group,) = world.told()
    assert group["Original-Envelope-Id"] == "QQ1"
    assert group["Reporting-MTA"] == "dns; mx.xx.example"
    assert group["Received-From-MTA"] == "dns; client.example ([10.9.9.9])"
    assert (group["Action"], group["Status"][:2]) == ("delivered", "2.")
    assert group["Original-Recipient"] == "rfc822; Ann+X@xx.example"
    assert group["Final-Recipient"] == "rfc822; ann@xx.example"
    assert group["Final-Log-ID"]
    assert "Diagnostic-Code" not in group
    (octets,) = world.zz.inbox("cat@zz.example")
    assert b"Subject: hello" in octets
    assert b"How are you?" not in octets, "the whole of it goes back with a failure alone (RFC 3461 4.3)"
    assert world.xx.queued() == []


def test_recipients_of_one_commit_are_told_of_in_one(world: World) -> None:
    world.internet.wait(world.xx.hub.accounts.set_quota("full@xx.example", 10))
    names = ["ann", "bob", "full"]
    caller = world.call(world.xx)
    caller.ask(b"MAIL FROM:<cat@zz.example>\r\n", b"250 ")
    for name in names[:2]:
        caller.ask(f"RCPT TO:<{name}@xx.example> NOTIFY=SUCCESS,FAILURE\r\n".encode(), b"250 ")
    caller.ask(b"RCPT TO:<both@xx.example> NOTIFY=SUCCESS\r\n", b"250 ")
    caller.ask(b"DATA\r\n", b"354 ")
    caller.ask(MESSAGE, b"250 ")
    world.internet.run(60)
    assert len(world.zz.inbox("cat@zz.example")) == 1
    assert pick(world.told(), "Action", "Final-Recipient") == [
        ("delivered", "rfc822; ann@xx.example"),
        ("delivered", "rfc822; bob@xx.example"),
        ("expanded", "rfc822; both@xx.example"),
    ]


def test_who_does_not_confirm_has_relayed(world: World) -> None:
    world.send("old@xx.example NOTIFY=SUCCESS", "old2@xx.example")
    world.internet.run(60)
    (group,) = world.told()
    assert (group["Action"], group["Final-Recipient"]) == ("relayed", "rfc822; old@xx.example")
    assert group["SMTP-Remote-Recipient"] == "rfc822; q@old.example"
    assert group["Remote-MTA"] == "dns; mx.old.example"
    assert group["Diagnostic-Code"].startswith("smtp; 250 ")


def test_a_host_that_knows_dsn_tells_itself_with_all_that_the_sender_has_said(world: World) -> None:
    world.send("one@xx.example NOTIFY=SUCCESS ORCPT=rfc822;One@xx.example", mail="ENVID=QQ2")
    world.internet.run(60)
    (group,) = world.told()
    assert (group["Reporting-MTA"], group["Action"]) == ("dns; mx.yy.example", "delivered")
    assert (group["Original-Recipient"], group["Original-Envelope-Id"]) == ("rfc822; One@xx.example", "QQ2")
    assert group["Final-Recipient"] == "rfc822; ben@yy.example"


def test_an_alias_of_several_is_told_once_and_its_members_tell_no_success(world: World) -> None:
    world.send("both@xx.example NOTIFY=SUCCESS")
    world.internet.run(60)
    assert pick(world.told(), "Action", "Final-Recipient") == [("expanded", "rfc822; both@xx.example")]
    assert len(world.yy.inbox("ben@yy.example")) == len(world.xx.inbox("ann@xx.example")) == 1


def test_a_list_has_it_and_its_owner_hears_the_rest(world: World) -> None:
    world.yy.unlisten()
    world.send("list@xx.example NOTIFY=SUCCESS,DELAY,FAILURE")
    world.internet.run(6 * HOUR)
    assert pick(world.told(), "Action", "Final-Recipient") == [("delivered", "rfc822; list@xx.example")]
    assert pick(world.told("owner@xx.example"), "Action", "Final-Recipient") == [
        ("delayed", "rfc822; ben@yy.example"),
    ]


def test_a_message_that_is_late_is_told_of_once_by_who_wants_to_know(world: World) -> None:
    world.yy.unlisten()
    for number, notify in enumerate(("", "NOTIFY=DELAY,SUCCESS", "NOTIFY=FAILURE", "NOTIFY=NEVER")):
        world.send(f"one@xx.example {notify}", mail=f"ENVID=m{number}")
    world.internet.run(4 * HOUR - 900)
    assert world.told() == []
    world.internet.run(20 * HOUR)
    assert pick(world.told(), "Original-Envelope-Id", "Action") == [("m0", "delayed"), ("m1", "delayed")]
    group = world.told()[0]
    assert group["Status"].startswith("4.")
    assert group["Last-Attempt-Date"]
    assert group["Will-Retry-Until"].split(", ")[1].startswith("6 Jan 2024"), group
    world.yy.listen()
    world.internet.run(2 * HOUR)
    assert pick(world.told(), "Original-Envelope-Id", "Action") == [
        ("m0", "delayed"),
        ("m1", "delayed"),
        ("m1", "delivered"),
    ]


def test_at_the_end_of_its_time_the_last_reply_is_quoted(world: World) -> None:
    world.yy.unlisten()
    world.send("one@xx.example NOTIFY=FAILURE")
    world.send("one@xx.example NOTIFY=NEVER")
    world.send("one@xx.example", sender="")
    world.internet.run(6 * 24 * HOUR)
    (group,) = world.told()
    assert (group["Action"], group["Status"]) == ("failed", "5.4.7")
    assert "the last answer was: " in group["Diagnostic-Code"]
    assert world.xx.queued() == []


def test_nobody_is_told_of_mail_from_nobody(world: World) -> None:
    for name in ("ann", "old"):
        world.send(f"{name}@xx.example NOTIFY=SUCCESS", sender="")
    world.internet.run(60)
    assert len(world.xx.inbox("ann@xx.example")) == 1
    assert [host.queued() for host in (world.xx, world.yy, world.zz)] == [[], [], []]
    assert world.told() == []


def test_what_is_told_survives_a_server_that_is_killed_after_the_answer(world: World) -> None:
    world.zz.unlisten()
    world.send("ann@xx.example NOTIFY=SUCCESS")
    world.xx.kill()
    world.xx.boot()
    world.zz.listen()
    world.internet.run(HOUR)
    assert pick(world.told(), "Action", "Final-Recipient") == [("delivered", "rfc822; ann@xx.example")]
    assert len(world.xx.inbox("ann@xx.example")) == 1


def test_a_way_to_the_sender_that_is_unknown_for_a_while_doubles_no_delivery(world: World) -> None:
    world.zz.unlisten()
    world.send("old@xx.example NOTIFY=SUCCESS")
    world.internet.run(60)
    world.xx.restart()
    world.internet.run(HOUR)
    assert world.old.recipients == ["q"]
    world.zz.listen()
    world.internet.run(2 * HOUR)
    assert pick(world.told(), "Action", "Final-Recipient") == [("relayed", "rfc822; old@xx.example")]


@pytest.mark.parametrize(("ret", "whole"), [("", False), ("RET=HDRS", False), ("RET=FULL", True)])
def test_what_a_host_has_said_is_quoted_and_the_message_goes_back_as_its_sender_wants(
    world: World, ret: str, whole: bool
) -> None:
    world.send("gone@xx.example", mail=ret)
    world.internet.run(60)
    (group,) = world.told()
    reply = "550 5.1.1 No such user"
    assert (group["Action"], group["Status"], group["Remote-MTA"]) == ("failed", "5.1.1", "dns; mx.yy.example")
    assert group["Diagnostic-Code"].startswith(f"smtp; {reply}")
    (octets,) = world.zz.inbox("cat@zz.example")
    assert f"mx.yy.example said: {reply}".encode() in octets
    assert b"\r\nSubject: hello\r\n" in octets
    assert (b"How are you?" in octets) is whole
    kind = b"message/rfc822" if whole else b"text/rfc822-headers"
    assert b"\r\nContent-Type: " + kind + b"\r\n" in octets


def test_the_whole_of_it_goes_back_at_the_end_of_its_time_and_not_with_a_warning(world: World) -> None:
    world.yy.unlisten()
    world.send("one@xx.example", mail="RET=FULL")
    world.internet.run(5 * HOUR)
    (warning,) = world.zz.inbox("cat@zz.example")
    world.internet.run(5 * 24 * HOUR)
    _, failure = world.zz.inbox("cat@zz.example")
    for octets, action in ((warning, b"delayed"), (failure, b"failed")):
        assert b"\r\nAction: " + action + b"\r\n" in octets
        assert b"Subject: hello" in octets
        assert (b"How are you?" in octets) is (action == b"failed")


def test_who_uses_addresses_that_are_not_ascii_is_told_by_them(world: World) -> None:
    for mail in ("SMTPUTF8", "SMTPUTF8 RET=FULL"):
        world.send("utf@xx.example ORCPT=utf-8;j\\x{F6}rg@yy.example", mail=mail)
    world.internet.run(60)
    for octets, kind in zip(world.zz.inbox("cat@zz.example"), (b"global-headers", b"global"), strict=True):
        for line in (
            b"Content-Type: message/global-delivery-status",
            b"Content-Type: message/" + kind,
            "Original-Recipient: utf-8; jörg@yy.example".encode(),
            b"Final-Recipient: rfc822; utf@xx.example",
            "SMTP-Remote-Recipient: utf-8; jörg@yy.example".encode(),
            b"Action: failed",
        ):
            assert b"\r\n" + line + b"\r\n" in octets


@pytest.mark.parametrize("sender", ["nobody@zz.example", "cat@nowhere.example"])
def test_nobody_is_told_that_a_report_could_not_be_delivered(world: World, sender: str) -> None:
    world.send("gone@xx.example", "ann@xx.example NOTIFY=SUCCESS", sender=sender)
    world.internet.run(HOUR)
    assert [host.queued() for host in (world.xx, world.yy, world.zz)] == [[], [], []]
    assert (world.told(), world.told("owner@xx.example")) == ([], [])


def test_a_report_that_waits_until_its_time_is_over_is_given_up_without_a_word(world: World) -> None:
    world.zz.unlisten()
    world.send("gone@xx.example")
    world.internet.run(4 * 24 * HOUR)
    (waiting,) = world.xx.queued()
    assert (waiting.mail.reverse_path, waiting.recipients[0].warned) == (None, False)
    world.internet.run(2 * 24 * HOUR)
    world.zz.listen()
    world.internet.run(HOUR)
    assert (world.xx.queued(), world.told()) == ([], [])
