"""What a policy edits and a rule decides arrives: by IMAP, at other hosts, in the client's answer, after a restart."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import attrs
import pytest
from twisted.internet.defer import Deferred
from twisted.logger import capturedLogs, formatEvent
from zope.interface import implementer

from mailhub.interfaces import (
    AddField,
    IMailRules,
    IMessageView,
    IPolicy,
    Origin,
    Placement,
    Placements,
    Redirect,
    Refusal,
    RemoveField,
    ReplaceField,
    Reply,
    ReversePath,
    Screen,
    Verdict,
)
from mailhub.message.address import Address
from mailhub.message.envelope import Mail, Recipient
from mailhub.plugins import Component
from mailhub.testing.caller import Caller
from mailhub.testing.hubs import Host, Internet

PASSWORD = "correct horse"
ANN, BEN, CAT = "ann@xx.example", "ben@xx.example", "cat@xx.example"
FAR = "far@yy.example"
SENDER = "s@yy.example"


@implementer(IPolicy)
class Suspicious(Screen):
    """Quarantines what says so, and edits the header."""

    def begin(self, origin: Origin) -> Suspicious:
        return self

    async def message(self, message: IMessageView) -> Verdict:
        if b"offer" not in message.header:
            return Verdict()
        subject = ReplaceField("Subject", 1, "[spam] offer")
        return Verdict("quarantine", edits=(subject, RemoveField("X-Old", 0), AddField("X-Score", "9.5")))


@implementer(IMailRules)
@attrs.define
class Scripted:
    """Answers by account, and notes what it was asked."""

    answers: dict[str, Any]
    asked: list[tuple[str, bytes]] = attrs.field(factory=list)

    def apply(self, account: str, mail: Mail, message: IMessageView) -> Any:
        assert mail == message.mail
        self.asked.append((account, message.header))
        answer = self.answers.get(account)
        return answer(message) if callable(answer) else answer


@attrs.define
class World:
    internet: Internet
    xx: Host
    yy: Host
    rule: Scripted

    def send(
        self, recipients: Sequence[str], message: bytes, service: str = "smtp", sender: str = SENDER
    ) -> list[bytes]:
        """By a client; the replies after the end of the data."""
        caller = self.internet.call(self.xx, service)
        caller.expect(b"220 ")
        caller.ask(b"LHLO c.example\r\n" if service == "lmtp" else b"EHLO c.example\r\n", b"250 ")
        to = "".join(f"RCPT TO:<{recipient}>\r\n" for recipient in recipients)
        caller.ask(f"MAIL FROM:<{sender}>\r\n{to}DATA\r\n".encode(), b"354 ")
        before = len(caller.heard)
        caller.ask(message + b".\r\nQUIT\r\n", b"221 ")
        self.internet.run(5)
        return caller.heard[before:].splitlines()[:-1]

    def boxes(self, user: str, host: Host | None = None) -> dict[str, list[bytes]]:
        """All that an account has, mailbox by mailbox."""

        async def read() -> dict[str, list[bytes]]:
            found = {}
            account = await (host or self.xx).hub.store.account(user)
            for info in await account.mailboxes():
                mailbox = await account.mailbox(info.name)
                messages = [await (await mailbox.open(entry.uid)).read() for entry in await mailbox.entries()]
                if messages:
                    found[info.name] = messages
            return found

        return self.internet.wait(read())

    def create(self, user: str, name: str) -> None:
        async def create() -> None:
            await (await self.xx.hub.store.account(user)).create(name)

        self.internet.wait(create())

    def imap(self, user: str) -> Caller:
        caller = self.internet.call(self.xx, "imaps")
        caller.expect(b"* OK")
        caller.ask(f'a LOGIN {user} "{PASSWORD}"\r\n'.encode(), b"a OK")
        return caller


def _foreign(_: object, hub: Any) -> Any:
    """A store that the queue knows nothing of."""
    from mailhub.store.memory.database import MemoryDatabase

    database = MemoryDatabase(hub.environment)
    for name in ("ann", "ben", "cat"):
        Deferred.fromCoroutine(database.accounts.add(f"{name}@xx.example", ""))
    return database.store


def build(internet: Internet, database: str, *, foreign: bool = False, more: dict[str, Any] | None = None) -> World:
    rule = Scripted({})
    plugins = [
        Component("policy", "suspicious", lambda _, hub: Suspicious()),
        Component("rule", "scripted", lambda _, hub: rule),
        Component("store", "foreign", _foreign),
    ]
    config: dict[str, Any] = {
        "database": {"type": database},
        "delivery": {"policies": ["suspicious"], "rules": ["scripted"], "detail_mailboxes": True},
        "rule": {"scripted": {"type": "scripted", "timeout_seconds": 5}},
        # What these say of a message is another test's business.
        "checks": {"spf": False, "dkim": False, "dmarc": "off", "arc": False, "iprev": False, "auth": False},
        **({"store": {"type": "foreign"}} if foreign else {}),
        **(more or {}),
    }
    xx = internet.hub("xx.example", config=config, plugins=plugins)
    yy = internet.hub("yy.example", users=["far", "s"])
    for name in ("ann", "ben", "cat"):
        xx.add_account(f"{name}@xx.example", PASSWORD)
    return World(internet, xx, yy, rule)


@pytest.fixture(params=["memory", "inline"])
def world(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[World]:
    with Internet(seed=3, folder=tmp_path) as internet:
        yield build(internet, request.param)


MESSAGE = b"From: s@yy.example\r\nSubject: news\r\nX-Old: 1\r\nList-Id: <l.example>\r\n\r\nHow are you?\r\n"


# --- What a policy edits and quarantines ----------------------------------------------------------------------------


@pytest.mark.parametrize("lines", [1, 4000], ids=["small", "200 KB"])
def test_what_a_policy_quarantines_and_edits_is_in_junk_as_edited(world: World, lines: int) -> None:
    rest = b"\r\n" + b"0123456789 0123456789 0123456789 0123456789 \xc3\xbc\r\n" * lines
    replies = world.send([ANN], b"From: s@yy.example\r\nSubject: offer\r\nX-Old: 1\r\nX-Old: 2" + b"\r\n" + rest)
    assert [reply[:3] for reply in replies] == [b"250"]
    assert world.rule.asked == []  # no rule has a say in what is quarantined
    imap = world.imap(ANN)
    assert b"* 0 EXISTS" in imap.ask(b"b SELECT INBOX\r\n", b"b OK")
    assert b"* 1 EXISTS" in imap.ask(b"c SELECT Junk\r\n", b"c OK")
    envelope = imap.ask(b"d FETCH 1 (ENVELOPE RFC822.SIZE)\r\n", b"d OK")
    assert b'"[spam] offer"' in envelope
    header = imap.ask(b"e FETCH 1 BODY[HEADER]\r\n", b"e OK")
    assert b"X-Score: 9.5\r\n" in header
    assert b"X-Old" not in header
    assert header.index(b"Return-Path: <s@yy.example>") < header.index(b"Received: ") < header.index(b"X-Score")
    (whole,) = world.boxes(ANN)["Junk"]
    assert whole.partition(b"\r\n\r\n")[2] == rest[2:]
    assert b"RFC822.SIZE %d" % len(whole) in envelope
    assert b"BODY[TEXT] {%d}\r\n" % (len(rest) - 2) in imap.ask(b"f FETCH 1 BODY[TEXT]\r\n", b"f OK")


# --- What rules decide ----------------------------------------------------------------------------------------------


def test_rules_are_asked_for_each_account_and_without_an_opinion_all_is_as_it_was(world: World) -> None:
    world.send([ANN, BEN], MESSAGE)
    assert sorted(account for account, _ in world.rule.asked) == [ANN, BEN]
    assert {header for _, header in world.rule.asked} == {MESSAGE.partition(b"\r\n\r\n")[0] + b"\r\n"}
    assert [list(world.boxes(user)) for user in (ANN, BEN, CAT)] == [["INBOX"], ["INBOX"], []]


def test_a_rule_files_with_flags_and_edits_one_copy_alone(world: World) -> None:
    world.create(ANN, "Lists")
    flags, edits = frozenset({"\\Seen", "$Filed"}), (AddField("X-Filed", "yes"), RemoveField("X-Old", 1))
    world.rule.answers[ANN] = Placements([Placement("Lists", flags), Placement("Archive", edits=edits)])
    world.send([ANN, BEN], MESSAGE)
    boxes = world.boxes(ANN)
    assert sorted(boxes) == ["Archive", "Lists"]
    assert boxes["Lists"] == world.boxes(BEN)["INBOX"]
    (edited,), (plain,) = boxes["Archive"], boxes["Lists"]
    assert edited == plain.replace(b"X-Old: 1\r\n", b"").replace(b"From: s@", b"X-Filed: yes\r\nFrom: s@")
    imap = world.imap(ANN)
    imap.ask(b"b SELECT Lists\r\n", b"b OK")
    shown = imap.ask(b"c FETCH 1 FLAGS\r\n", b"c OK")
    assert b"\\Seen" in shown
    assert b"$Filed" in shown


def test_a_mailbox_that_is_not_there_is_inbox(world: World) -> None:
    world.rule.answers[ANN] = Placements([Placement("Nowhere")])
    world.send([ANN], MESSAGE)
    assert list(world.boxes(ANN)) == ["INBOX"]


def test_a_redirect_arrives_at_the_other_host_and_says_who_sent_it_on(world: World) -> None:
    own = ReversePath(Address.parse(ANN))
    world.rule.answers[ANN] = Placements([Placement()], [Redirect(Address.parse(FAR))])
    world.rule.answers[BEN] = Placements([], [Redirect(Address.parse(FAR), own)])
    world.send([ANN], MESSAGE)
    world.send([BEN], MESSAGE)
    assert [list(world.boxes(user)) for user in (ANN, BEN)] == [["INBOX"], []]
    first, second = world.boxes(FAR, world.yy)["INBOX"]
    assert re.search(rb"Return-Path: <SRS0=\w+=\w+=yy\.example=s@xx\.example>", first)
    assert b"Delivered-To: ann@xx.example\r\n" in first
    assert b"Return-Path: <ann@xx.example>" in second
    assert b"Delivered-To: ben@xx.example\r\n" in second


def test_redirects_that_go_round_lose_nothing(world: World) -> None:
    def to(address: str) -> Placements:
        return Placements(redirects=[Redirect(Address.parse(address))])

    world.rule.answers |= {ANN: to(BEN), BEN: to(CAT), CAT: to(ANN)}
    world.send([ANN], MESSAGE)
    assert [list(world.boxes(user)) for user in (ANN, BEN, CAT)] == [["INBOX"], [], []]
    world.rule.answers = {ANN: to(FAR)}
    back = MESSAGE.replace(b"Subject", b"Delivered-To: ann@xx.example\r\nSubject")
    world.send([ANN], back)
    assert len(world.boxes(ANN)["INBOX"]) == 2
    assert world.boxes(FAR, world.yy) == {}


def test_a_reply_goes_to_the_sender_and_none_to_programs(world: World) -> None:
    reply = Reply(b"From: ann@xx.example\nSubject: away\n\nBack on Monday.\n")
    world.rule.answers[ANN] = Placements([Placement()], replies=[reply])
    world.send([ANN], MESSAGE)
    (answer,) = world.boxes(SENDER, world.yy)["INBOX"]
    assert answer.startswith(b"Return-Path: <>\r\n")
    for field in (b"Auto-Submitted: auto-replied", b"Date: ", b"Message-ID: <", b"Subject: away"):
        assert b"\r\n" + field in answer
    assert answer.endswith(b"\r\n\r\nBack on Monday.\r\n")
    assert b"\r\nIn-Reply-To:" not in answer, "the message has no Message-ID"
    world.send([ANN], b"Message-ID: <2@yy.example>\r\nReferences: <1@yy.example>\r\n" + MESSAGE)
    assert (
        b"\r\nIn-Reply-To: <2@yy.example>\r\nReferences: <1@yy.example>\r\n <2@yy.example>\r\n"
        in (world.boxes(SENDER, world.yy)["INBOX"][-1])
    )
    world.send([ANN], b"Auto-Submitted: auto-generated; x=y\r\n" + MESSAGE)
    assert len(world.boxes(SENDER, world.yy)["INBOX"]) == 2
    assert len(world.boxes(ANN)["INBOX"]) == 3


@pytest.mark.parametrize("requiretls", [True, False])
def test_a_reply_is_as_private_as_what_it_answers(world: World, requiretls: bool) -> None:
    """RFC 8689 6."""
    world.rule.answers[ANN] = Placements([Placement()], replies=[Reply(b"Subject: away\r\n\r\n")])
    world.yy.unlisten()
    mail = Mail(Address.parse(SENDER), requiretls=requiretls)
    world.internet.wait(world.xx.hand_in(mail, [Recipient(Address.parse(ANN))], MESSAGE))
    assert [each.mail.requiretls for each in world.xx.queued()] == [requiretls]


def test_a_header_that_cannot_be_read_whole_is_not_answered(world: World) -> None:
    world.rule.answers[ANN] = Placements([Placement()], replies=[Reply(b"Subject: away\r\n\r\n")])
    world.send([ANN], b"Auto-Submitted: auto-replied\r\n" + b"X: y\r\n" * 50_000 + MESSAGE)
    assert len(world.boxes(ANN)["INBOX"]) == 1
    assert world.boxes(SENDER, world.yy) == {}


def test_a_reply_has_one_return_path(world: World) -> None:
    reply = Reply(b"Return-Path: <x@zz.example>\r\nSubject: away\r\n\r\n")
    world.rule.answers[ANN] = Placements([Placement()], replies=[reply])
    world.send([ANN], MESSAGE, sender=BEN)
    (answer,) = world.boxes(BEN)["INBOX"]
    assert answer.lower().count(b"return-path:") == 1


def test_a_message_is_not_held_up_by_the_way_of_its_reply() -> None:
    aliases = {f"a{number}@xx.example": [f"a{number + 1}@xx.example"] for number in range(12)}
    with Internet(seed=3) as internet:
        world = build(internet, "memory", more={"aliases": aliases})
        world.rule.answers[ANN] = Placements([Placement()], replies=[Reply(b"Subject: away\r\n\r\n")])
        with capturedLogs() as events:
            assert [line[:3] for line in world.send([ANN], MESSAGE, sender="a0@xx.example")] == [b"250"]
        assert len(world.boxes(ANN)["INBOX"]) == 1
    assert any(formatEvent(event).startswith("reply left out: ") for event in events)


def test_a_message_that_is_only_answered_and_discarded(world: World) -> None:
    reply = Reply(b"Subject: no\r\n\r\nNobody reads this.\r\n")
    world.rule.answers[ANN] = Placements(replies=[reply], discard=True)
    assert [line[:3] for line in world.send([ANN], MESSAGE)] == [b"250"]
    assert world.boxes(ANN) == {}
    assert len(world.boxes(SENDER, world.yy)["INBOX"]) == 1
    world.rule.answers[ANN] = Placements(discard=True)
    assert [line[:3] for line in world.send([ANN, BEN], MESSAGE)] == [b"250"]
    assert [list(world.boxes(user)) for user in (ANN, BEN)] == [[], ["INBOX"]]


@pytest.mark.parametrize("status", ["5.7.1", "4.2.1"])
def test_a_refusal_is_answered_for_its_recipient_alone(world: World, status: str) -> None:
    code = b"451" if status.startswith("4") else b"550"
    world.rule.answers[ANN] = Placements(refusal=Refusal(status, "Not for me"))
    replies = world.send([ANN, BEN], MESSAGE, "lmtp")
    assert [reply[:3] for reply in replies][1:] == [b"250"]
    assert replies[0].startswith(code[:1])
    assert replies[0].endswith(status.encode() + b" Not for me")
    assert [list(world.boxes(user)) for user in (ANN, BEN)] == [[], ["INBOX"]]
    # By SMTP, where nobody takes it, so does the answer; else a DSN tells.
    (answer,) = world.send([ANN], MESSAGE)
    assert answer[:1] == code[:1]
    assert status.encode() + b" Not for me" in answer
    (answer,) = world.send([ANN, BEN], MESSAGE)
    assert answer[:3] == b"250"
    (report,) = world.boxes(SENDER, world.yy)["INBOX"]
    assert f"Status: {status}".encode() in report
    assert b"Not for me" in report
    assert ANN.encode() in report
    assert world.xx.queued() == []


def test_by_lmtp_a_refusal_is_answered_beside_a_recipient_with_two_copies(world: World) -> None:
    world.rule.answers[ANN] = Placements(refusal=Refusal("5.7.1", "Not for me"))
    world.rule.answers[BEN] = Placements([Placement(), Placement("Archive")])
    first, second = world.send([ANN, BEN], MESSAGE, "lmtp")
    assert first.endswith(b"5.7.1 Not for me")
    assert second[:3] == b"250"
    assert world.boxes(SENDER, world.yy) == {}
    assert sorted(world.boxes(BEN)) == ["Archive", "INBOX"]


def test_what_a_redirect_leads_to_may_refuse_and_its_owner_hears_of_it(world: World) -> None:
    redirect = Redirect(Address.parse(BEN), ReversePath(Address.parse(CAT)))
    world.rule.answers[ANN] = Placements([Placement()], [redirect])
    world.rule.answers[BEN] = Placements(refusal=Refusal("5.7.1", "Not for me"))
    world.send([ANN], MESSAGE)
    assert [list(world.boxes(user)) for user in (ANN, BEN)] == [["INBOX"], []]
    (report,) = world.boxes(CAT)["INBOX"]
    assert b"Not for me" in report
    assert world.boxes(SENDER, world.yy) == {}


def test_a_rule_reads_the_body_and_is_let_go_when_the_configuration_changes(world: World) -> None:
    read: list[bytes] = []

    def reads(message: IMessageView) -> Any:
        async def file() -> Placements:
            read.append(await message.read())
            read.append(await message.read(2, 3))
            return Placements([Placement("Archive")])

        return file()

    world.rule.answers[ANN] = reads
    world.send([ANN], MESSAGE)
    assert read == [b"\r\nHow are you?\r\n", b"How"]
    assert list(world.boxes(ANN)) == ["Archive"]
    outcome = world.xx.reload({"database": {"type": world.xx.hub.settings.database.type}})
    assert outcome.fault == ""
    world.send([ANN], MESSAGE)
    assert sorted(world.boxes(ANN)) == ["Archive", "INBOX"]


@pytest.mark.parametrize(("edit", "where"), [(AddField("X-Filed", "yes"), "Archive"), (RemoveField("X", 0), "INBOX")])
def test_a_header_that_is_too_large_to_be_edited_takes_fields_on_top_alone(world: World, edit: Any, where: str) -> None:
    seen: list[bytes] = []

    def files(message: IMessageView) -> Placements:
        seen.append(message.header)
        return Placements([Placement("Archive", edits=(edit,))])

    world.rule.answers[ANN] = files
    large = b"X: " + b"0123456789 " * 80 + b"\r\n"
    world.send([ANN], large * 400 + b"\r\nbody\r\n")
    ((name, (message,)),) = world.boxes(ANN).items()
    assert (name, seen) == (where, [b""])
    assert message.endswith(large * 400 + b"\r\nbody\r\n")
    assert (b"\r\nX-Filed: yes\r\nX: " in message) is (where == "Archive")


# --- What goes wrong ------------------------------------------------------------------------------------------------


def _raising(message: IMessageView) -> Any:
    raise KeyError("bug")


MANY = Placements([Placement("Archive")] * 51)
FAULTS: list[Any] = [
    _raising,
    Placements(),
    Placements(replies=[Reply(b"Subject: x\r\n\r\n")]),
    MANY,
    lambda message: "Archive",
    lambda message: Placements([Placement("a\0b")]),
    lambda message: Placements([Placement("Archive", frozenset({"two words"}))]),
    lambda message: Placements([Placement("Archive", edits=(AddField("Bad name", "x"),))]),
    lambda message: Placements([Placement("Archive", edits=(AddField("X", "a\r\n\r\nbody"),))]),
    lambda message: Placements([Placement("Archive")], refusal=Refusal("5.7.1", "no")),
    lambda message: Placements(refusal=Refusal("2.0.0", "no")),
    lambda message: Placements(redirects=[Redirect(Address.parse("nobody@xx.example"))]),
    lambda message: Placements(replies=[Reply(b"no header")], discard=True),
]


@pytest.mark.parametrize("fault", FAULTS)
def test_a_rule_that_fails_means_inbox_and_is_named(world: World, fault: Any) -> None:
    world.rule.answers = {ANN: fault, BEN: Placements([Placement("Archive")])}
    with capturedLogs() as events:
        assert [line[:3] for line in world.send([ANN, BEN], MESSAGE)] == [b"250"]
    assert [list(world.boxes(user)) for user in (ANN, BEN)] == [["INBOX"], ["Archive"]]
    (line,) = [line for line in map(formatEvent, events) if "rule failed" in line]
    assert "rule=scripted account=<ann@xx.example> session=" in line
    assert list(world.boxes(SENDER, world.yy)) == []


def test_a_rule_that_does_not_answer_means_inbox_in_its_time(world: World) -> None:
    world.rule.answers = {ANN: lambda message: Deferred(), BEN: Placements([Placement("Archive")])}
    before = world.internet.clock.seconds()
    with capturedLogs() as events:
        world.send([ANN, BEN], MESSAGE)
    assert 5 <= world.internet.clock.seconds() - before < 60
    assert any("rule timed out: rule=scripted account=<ann@xx.example>" in formatEvent(event) for event in events)
    assert [list(world.boxes(user)) for user in (ANN, BEN)] == [["INBOX"], ["Archive"]]


def test_a_copy_for_which_there_is_no_room_is_told_as_any(world: World) -> None:
    async def full() -> None:
        await world.xx.hub.accounts.set_quota(ANN, 10)

    world.internet.wait(full())
    world.rule.answers[ANN] = Placements([Placement(edits=(AddField("X-Filed", "yes"),))])
    (first, second) = world.send([ANN, BEN], MESSAGE, "lmtp")
    assert b"5.2.2" in first
    assert second[:3] == b"250"
    (answer,) = world.send([ANN], MESSAGE)
    assert b"5.2.2" in answer
    assert world.yy.inbox(SENDER) == []
    (answer,) = world.send([ANN, BEN], MESSAGE)
    assert answer[:3] == b"250"
    (report,) = world.yy.inbox(SENDER)
    assert b"Status: 5.2.2" in report
    assert world.boxes(ANN) == {}
    assert len(world.boxes(BEN)["INBOX"]) == 2


# --- Details, foreign stores, restarts ------------------------------------------------------------------------------


def test_a_detail_names_a_mailbox_that_is_there(world: World) -> None:
    for name in ("Lists", "lists/dev"):
        world.create(ANN, name)
    for detail in ("lists", "Lists", "lists/DEV", "none", "archive", "inbox"):
        world.send([f"ann+{detail}@xx.example"], MESSAGE)
    world.send(["ann+lists@xx.example"], MESSAGE.replace(b"news", b"offer"))
    counts = {name: len(messages) for name, messages in world.boxes(ANN).items()}
    assert counts == {"Archive": 1, "INBOX": 2, "Junk": 1, "Lists": 2, "lists/dev": 1}


def test_a_foreign_store_gets_mailbox_flags_and_edits() -> None:
    with Internet(seed=3) as internet:
        world = build(internet, "memory", foreign=True)
        edits = (AddField("X-Filed", "yes"),)
        world.rule.answers[ANN] = Placements([Placement("Archive", frozenset({"\\Seen"})), Placement(edits=edits)])
        world.send([ANN, BEN], MESSAGE)
        world.send([CAT], MESSAGE.replace(b"news", b"offer"))
        boxes = world.boxes(ANN)
        assert sorted(boxes) == ["Archive", "INBOX"]
        assert b"X-Filed: yes\r\n" in boxes["INBOX"][0]
        assert b"X-Filed" not in boxes["Archive"][0]
        assert [list(world.boxes(user)) for user in (BEN, CAT)] == [["INBOX"], ["Junk"]]
        assert world.xx.queued() == []


def test_nothing_of_what_rules_decide_is_lost_by_a_restart(tmp_path: Path) -> None:
    with Internet(seed=3, folder=tmp_path) as internet:
        world = build(internet, "inline")
        world.yy.unlisten()
        own = ReversePath(Address.parse(ANN))
        reply = Reply(b"Subject: away\r\n\r\nx\r\n")
        redirect = Redirect(Address.parse(FAR), own)
        world.rule.answers = {
            ANN: Placements([Placement("Archive", edits=(AddField("X-Filed", "yes"),))], [redirect], [reply]),
            BEN: Placements(refusal=Refusal("5.7.1", "Not for me")),
        }
        world.send([ANN, BEN], MESSAGE + b"0123456789\r\n" * 20_000)
        world.xx.restart()
        world.yy.listen()
        internet.run(4000)
        (kept,) = world.boxes(ANN)["Archive"]
        assert re.search(rb"\r\nX-Filed: yes\r\n", kept)
        (onward,) = world.boxes(FAR, world.yy)["INBOX"]
        assert onward.endswith(b"0123456789\r\n")
        told = world.boxes(SENDER, world.yy)["INBOX"]
        assert sorted(b"Not for me" in each for each in told) == [False, True]
        assert world.xx.queued() == []


@pytest.mark.parametrize("service", ["smtp", "lmtp"])
def test_what_nobody_takes_is_not_answered_either(world: World, service: str) -> None:
    world.internet.wait(world.xx.hub.accounts.set_quota(ANN, 10))
    world.rule.answers[ANN] = Placements([Placement()], replies=[Reply(b"Subject: away\r\n\r\nx\r\n")])
    (answer,) = world.send([ANN], MESSAGE, service)
    assert b"5.2.2" in answer
    assert world.boxes(SENDER, world.yy) == {}
