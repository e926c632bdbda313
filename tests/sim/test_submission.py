"""What is done for our own users' messages: authors are looked at, mail is held, and what is sent can be taken back."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

import pytest
from twisted.logger import capturedLogs, formatEvent

from mailhub.auth.send_as import PART, KeptGrants
from mailhub.delivery.scheduled import cancel
from mailhub.testing.caller import Caller
from mailhub.testing.hubs import Host, Internet

DAY = 86400
MESSAGE = b"From: Ann <ann@xx.example>\r\nSubject: hello\r\n\r\nHow are you?\r\n"


@pytest.fixture
def internet() -> Iterator[Internet]:
    with Internet(seed=7) as made:
        yield made


def house(internet: Internet, **config: Any) -> Host:
    aliases = {"sales@xx.example": ["ann@xx.example", "ben@xx.example"], "box@xx.example": ["ben@xx.example"]}
    host = internet.hub("xx.example", users=["ben"], config={"aliases": aliases, **config})
    host.add_account("ann@xx.example", "secret")
    return host


def logged_in(internet: Internet, host: Host, user: str = "ann@xx.example") -> Caller:
    sender = internet.call(host, "submissions")
    sender.expect(b"220")
    sender.ask(b"EHLO client.example\r\n", b"250 ")
    sender.ask(b"AUTH PLAIN " + base64.b64encode(f"\0{user}\0secret".encode()) + b"\r\n", b"235")
    return sender


def send(
    internet: Internet,
    host: Host,
    message: bytes = MESSAGE,
    answer: bytes = b"250",
    *,
    sender: str = "<ann@xx.example>",
    to: str = "ben@xx.example",
) -> str:
    """The id that it is queued by."""
    client = logged_in(internet, host)
    client.ask(f"MAIL FROM:{sender}\r\n".encode(), b"250")
    client.ask(f"RCPT TO:<{to}>\r\n".encode(), b"250")
    client.ask(b"DATA\r\n", b"354")
    told = client.ask(message + b".\r\n", answer)
    client.say(b"QUIT\r\n")
    found = re.search(rb"Queued as (\S+)", told)
    return found[1].decode() if found else ""


# --- Authors ---------------------------------------------------------------------------------------------------------

FROM: Mapping[str, tuple[str, str, str]] = {  # what each way of checking makes of it
    "ann@xx.example": ("250", "250", "250"),
    "Ann <Ann@XX.example>": ("250", "250", "250"),
    "sales@xx.example": ("250", "554 5.7.1", "250"),
    "ann+list@xx.example": ("250", "554 5.7.1", "250"),
    "box@xx.example": ("250", "554 5.7.1", "554 5.7.1"),
    "ceo@zz.example": ("250", "554 5.7.1", "554 5.7.1"),
    "ann@xx.example (ceo@zz.example)": ("250", "250", "250"),
    "=?utf-8?q?ceo=40zz.example?= <ann@xx.example>": ("250", "250", "250"),
    "ann@xx.example, ceo@zz.example": ("250", "554 5.7.1", "554 5.7.1"),
    "ann@xx.example, sales@xx.example": ("250", "554 5.7.1", "250"),
    "We: ann@xx.example, sales@xx.example;": ("250", "554 5.7.1", "250"),
    "We:;": ("250", "554 5.6.0", "554 5.6.0"),
    "ann@xx.example\r\nFrom: ceo@zz.example": ("250", "554 5.6.0", "554 5.6.0"),
    "": ("250", "554 5.6.0", "554 5.6.0"),
}


@pytest.mark.parametrize("number", range(3), ids=["off", "envelope", "strict"])
def test_the_from_field_is_looked_at_where_that_is_wanted(internet: Internet, number: int) -> None:
    kind = ("off", "envelope", "strict")[number]
    host = house(internet, submission={"check_from": kind})
    for written, answers in FROM.items():
        field = f"From: {written}\r\n" if written else ""
        send(internet, host, f"{field}Subject: x\r\n\r\nHello\r\n".encode(), answers[number].encode())
    expected = [answers[number] for answers in FROM.values()].count("250")
    assert len(host.inbox("ben@xx.example")) == expected


RESENT: Mapping[str, tuple[str, str, str]] = {  # by `strict`, the same with `allow_resent`, by `envelope`
    "Resent-From: ann@xx.example\r\nFrom: ann@xx.example": ("250", "250", "250"),
    "Resent-From: ann@xx.example\r\nFrom: ceo@zz.example": ("554 5.7.1", "250", "554 5.7.1"),
    "Resent-From: sales@xx.example\r\nFrom: ann@xx.example": ("250", "250", "554 5.7.1"),
    "Resent-From: ceo@zz.example\r\nFrom: ann@xx.example": ("554 5.7.1", "554 5.7.1", "554 5.7.1"),
    "Resent-Sender: ceo@zz.example\r\nResent-From: ann@xx.example\r\nFrom: ann@xx.example": ("554 5.7.1",) * 3,
    "Resent-To: ann@xx.example\r\nFrom: ann@xx.example": ("554 5.6.0",) * 3,
    # What others have resent before is no business of this login.
    "Resent-From: ann@xx.example\r\nReceived: by z\r\nResent-From: z@zz.example\r\nFrom: ann@xx.example": ("250",) * 3,
}


@pytest.mark.parametrize("number", range(3), ids=["strict", "allowed", "envelope"])
def test_who_sends_again_is_looked_at_too(internet: Internet, number: int) -> None:
    kinds: tuple[Any, ...] = (
        {"check_from": "strict"},
        {"check_from": "strict", "allow_resent": True},
        {"check_from": "envelope"},
    )
    host = house(internet, submission=kinds[number])
    for fields, answers in RESENT.items():
        send(internet, host, f"{fields}\r\nSubject: x\r\n\r\nHello\r\n".encode(), answers[number].encode())
    expected = [answers[number] for answers in RESENT.values()].count("250")
    (got, *_) = host.inbox("ben@xx.example")
    assert len(host.inbox("ben@xx.example")) == expected
    assert b"Resent-Date: " in got
    assert b"Resent-Message-ID: <" in got


def test_without_a_sender_the_from_field_is_the_logins(internet: Internet) -> None:
    host = house(internet, submission={"check_from": "envelope"})
    send(internet, host, sender="<>")
    send(internet, host, MESSAGE.replace(b"ann@", b"sales@"), sender="<>")
    send(internet, host, MESSAGE.replace(b"ann@", b"box@"), b"554 5.7.1", sender="<>")


def test_who_is_not_logged_in_is_not_looked_at(internet: Internet) -> None:
    host = house(internet, submission={"check_from": "strict"})
    client = internet.call(host, "smtp")
    client.expect(b"220")
    client.ask(b"EHLO client.example\r\n", b"250 ")
    client.ask(b"MAIL FROM:<z@zz.example>\r\n", b"250")
    client.ask(b"RCPT TO:<ben@xx.example>\r\n", b"250")
    client.ask(b"DATA\r\n", b"354")
    client.ask(b"Subject: no author\r\n\r\n.\r\n", b"250")


@pytest.mark.parametrize(
    ("header", "sender"),
    [
        (b"From: ann@xx.example\r\n", None),
        (b"From: ann@xx.example\r\nSender: ceo@zz.example\r\n", None),
        (b"From: sales@xx.example\r\n", b"ann@xx.example"),
        (
            b"From: ann@xx.example, ben@xx.example\r\nSENDER: ceo@zz.example\r\nsender:\r\n b@zz.example\r\n",
            b"ann@xx.example",
        ),
        (b"", b"ann@xx.example"),
    ],
)
def test_sender_says_who_has_logged_in_where_from_does_not(internet: Internet, header: bytes, sender: bytes) -> None:
    host = house(internet, submission={"set_sender": True})
    send(internet, host, header + b"Subject: x\r\n\r\nHello\r\n")
    (arrived,) = host.inbox("ben@xx.example")
    found = re.findall(rb"(?im)^sender:\s*(\S+)", arrived)
    assert found == ([sender] if sender else [])


# --- What a login may send as ----------------------------------------------------------------------------------------


def may_send(internet: Internet, host: Host, sender: str) -> bool:
    client = logged_in(internet, host)
    return client.ask(f"MAIL FROM:<{sender}>\r\n".encode(), b"").startswith(b"250")


def test_a_login_sends_as_itself_its_aliases_and_what_it_was_granted(internet: Internet) -> None:
    granted = {
        "Ann@xx.example": ["boss@xx.example", "@shop.example"],
        "sales@xx.example": ["news@zz.example"],  # ann is one of them
        "box@xx.example": ["box@zz.example"],  # she is not
        "nobody@xx.example": ["*"],
    }
    host = house(internet, send_as=granted)
    wanted = {
        "ann@xx.example": True,
        "ann+x@xx.example": True,
        "sales@xx.example": True,
        "boss@xx.example": True,
        "Any.Body@SHOP.example": True,
        "a@sub.shop.example": False,
        "news@zz.example": True,
        "box@xx.example": False,
        "box@zz.example": False,
        "ben@xx.example": False,
    }
    assert {sender: may_send(internet, host, sender) for sender in wanted} == wanted


def test_members_of_a_list_may_send_as_what_it_was_granted(internet: Internet) -> None:
    lists = {"team@xx.example": {"members": ["ann@xx.example"]}, "others@xx.example": {"members": ["ben@xx.example"]}}
    granted = {"team@xx.example": ["news@zz.example"], "others@xx.example": ["box@zz.example"]}
    host = house(internet, send_as=granted, list=lists)
    assert may_send(internet, host, "news@zz.example")
    assert not may_send(internet, host, "box@zz.example")


def test_grants_of_the_database_count_at_once(internet: Internet) -> None:
    host = house(internet)
    kept = KeptGrants(host.hub.database.state.of(PART))
    assert not may_send(internet, host, "boss@xx.example")
    internet.wait(kept.add("ann@xx.example", "@xx.example"))
    internet.run(2)
    assert may_send(internet, host, "boss@xx.example")
    internet.wait(kept.remove("ann@xx.example"))
    internet.run(2)
    assert not may_send(internet, host, "boss@xx.example")


# --- Held mail -------------------------------------------------------------------------------------------------------


def test_mail_is_held_until_its_time(internet: Internet) -> None:
    host = house(internet)
    yy = internet.hub("yy.example", users=["b"])
    send(internet, host, sender="<ann@xx.example> HOLDFOR=3600")
    send(internet, host, sender="<ann@xx.example> HOLDUNTIL=2024-01-01T03:00:00Z", to="b@yy.example")
    internet.run(3500)
    assert host.inbox("ben@xx.example") == []
    internet.run(200)
    assert len(host.inbox("ben@xx.example")) == 1
    assert yy.inbox("b@yy.example") == []
    internet.run(2 * 3600)
    assert len(yy.inbox("b@yy.example")) == 1
    assert list(host.queued()) == []


def test_domains_are_given_in_full(internet: Internet) -> None:
    """RFC 6409 4.2. A transport of ours may go by a shorter name."""
    fax = {"recipients": ["fax"], "agent": "discard"}
    host = house(internet, transport={"fax": fax})
    client = logged_in(internet, host)
    client.ask(b"MAIL FROM:<ann@xx.example>\r\n", b"250 ")
    client.ask(b"RCPT TO:<b@sales>\r\n", b"554 5.1.2 ")
    client.ask(b"RCPT TO:<b@fax>\r\nRCPT TO:<b@yy.example>\r\nRCPT TO:<b@[192.0.2.1]>\r\n", b"250 2.1.5")


def test_how_long_is_told_and_kept_to(internet: Internet) -> None:
    host = house(internet, submission={"hold_limit_seconds": 7 * DAY})
    client = logged_in(internet, host)
    said = client.ask(b"EHLO client.example\r\n", b"250 ")
    assert b"250-FUTURERELEASE 604800 2024-01-08T00:00:00Z\r\n" in said
    for parameter, answer in (
        (b"HOLDFOR=604801", b"501 5.5.4"),
        (b"HOLDUNTIL=2024-02-08T00:00:00Z", b"501 5.5.4"),
        (b"HOLDFOR=x", b"501 5.5.4"),
        (b"HOLDFOR=600 BY=600;R", b"501 5.5.4"),
        (b"BY=600;R HOLDUNTIL=2024-01-01T01:00:00Z", b"501 5.5.4"),
        (b"HOLDFOR=600 BY=601;R\r\nRSET", b"250"),
        (b"HOLDFOR=600 BY=599;N", b"501 5.5.4"),
        (b"HOLDFOR=600 BY=-60;N", b"501 5.5.4"),
        (b"HOLDFOR=600 BY=600;N\r\nRSET", b"250"),
        (b"HOLDFOR=604800", b"250"),
    ):
        client.ask(b"MAIL FROM:<ann@xx.example> " + parameter + b"\r\n", answer)
    plain = internet.call(host, "smtp")
    plain.expect(b"220")
    assert b"FUTURERELEASE" not in plain.ask(b"EHLO client.example\r\n", b"250 ")
    plain.ask(b"MAIL FROM:<z@zz.example> HOLDFOR=60\r\n", b"555 5.5.4")


@pytest.mark.parametrize("limit", [30, 3600, 2 * DAY, 30 * DAY])
def test_what_is_told_of_the_future_is_ahead(internet: Internet, limit: int) -> None:
    host = house(internet, submission={"hold_limit_seconds": limit})
    internet.run(20 * 3600 + 29)
    client = logged_in(internet, host)
    (told,) = re.findall(rb"250-FUTURERELEASE (\d+) (\S+)\r\n", client.ask(b"EHLO client.example\r\n", b"250 "))
    assert int(told[0]) == limit
    ahead = datetime.fromisoformat(told[1].decode()).timestamp() - host.hub.environment.now()
    assert limit * 6 / 7 - 1 <= ahead <= limit
    client.ask(b"MAIL FROM:<ann@xx.example> HOLDUNTIL=" + told[1] + b"\r\nRSET\r\n", b"250 2.0.0")


def test_it_is_not_offered_where_nothing_may_be_held(internet: Internet) -> None:
    host = house(internet, submission={"hold_limit_seconds": 0})
    client = logged_in(internet, host)
    assert b"FUTURERELEASE" not in client.ask(b"EHLO client.example\r\n", b"250 ")
    client.ask(b"MAIL FROM:<ann@xx.example> HOLDFOR=60\r\n", b"555 5.5.4")


def test_what_can_be_undone_waits_for_a_moment(internet: Internet) -> None:
    host = house(internet, submission={"undo_seconds": 100})
    send(internet, host)
    send(internet, host, sender="<ann@xx.example> HOLDFOR=3600")
    outside = internet.call(host, "smtp")
    outside.expect(b"220")
    outside.ask(b"EHLO client.example\r\n", b"250 ")
    outside.ask(b"MAIL FROM:<z@zz.example>\r\n", b"250")
    outside.ask(b"RCPT TO:<ben@xx.example>\r\n", b"250")
    outside.ask(b"DATA\r\n", b"354")
    outside.ask(MESSAGE + b".\r\n", b"250")
    assert len(host.inbox("ben@xx.example")) == 1  # that of others at once
    internet.run(60)
    assert len(host.inbox("ben@xx.example")) == 1
    internet.run(60)
    assert len(host.inbox("ben@xx.example")) == 2
    internet.run(3600)
    assert len(host.inbox("ben@xx.example")) == 3


@pytest.mark.parametrize("undo", [0, 100])
@pytest.mark.parametrize("database", ["memory", "inline"])
def test_a_detail_mailbox_that_goes_while_mail_waits_leaves_one_copy(tmp_path: Any, database: str, undo: int) -> None:
    with Internet(seed=7, folder=tmp_path) as internet:
        host = house(
            internet,
            submission={"undo_seconds": undo},
            database={"type": database},
            delivery={"detail_mailboxes": True},
        )
        account = internet.wait(host.hub.store.account("ben@xx.example"))
        internet.wait(account.create("New"))
        client = logged_in(internet, host)
        client.ask(b"MAIL FROM:<ann@xx.example>\r\n", b"250")
        for name in (b"ben", b"ben+New"):
            client.ask(b"RCPT TO:<" + name + b"@xx.example>\r\n", b"250")
        if not undo:
            internet.wait(account.rename("New", "Old"))
        client.ask(b"DATA\r\n", b"354")
        client.ask(MESSAGE + b".\r\n", b"250")
        if undo:
            internet.wait(account.rename("New", "Old"))
        internet.run(undo + 20)
        assert len(host.inbox("ben@xx.example")) == 1
        assert list(host.queued()) == []


@pytest.mark.parametrize(("by", "seconds"), [("60;R", 30), ("60;N", 30), ("1;R", 0), ("1000;R", 100), ("-5;N", 100)])
def test_what_is_to_be_delivered_soon_can_be_undone_for_half_of_that_time(
    internet: Internet, by: str, seconds: int
) -> None:
    host = house(internet, submission={"undo_seconds": 100})
    yy = internet.hub("yy.example", users=["b"])
    name = send(internet, host, sender=f"<ann@xx.example> BY={by}", to="b@yy.example")
    waits = [queued.not_before for queued in host.queued() if queued.id == name]
    if seconds:
        internet.run(seconds - 5)
        assert waits
        assert len(yy.inbox("b@yy.example")) == 0
    internet.run(10)
    assert len(yy.inbox("b@yy.example")) == 1
    assert host.inbox("ann@xx.example") == []  # nothing was late, or came back


@pytest.mark.parametrize("database", ["memory", "inline"])
def test_mail_can_be_taken_back_while_it_waits_and_not_afterwards(tmp_path: Any, database: str) -> None:
    with Internet(seed=7, folder=tmp_path) as internet:
        host = house(internet, submission={"undo_seconds": 100}, database={"type": database})
        first, second = send(internet, host), send(internet, host, to="sales@xx.example")
        assert internet.wait(cancel(host.hub.queue, host.hub.store, [first])) == {first: ""}
        internet.run(110)
        assert len(host.inbox("ben@xx.example")) == 1
        assert len(host.inbox("ann@xx.example")) == 1
        assert (
            list(internet.wait(cancel(host.hub.queue, host.hub.store, [first, second])).values())
            == ["is not in the queue: it has been sent, taken back, or removed"] * 2
        )


def test_what_is_being_sent_is_not_taken_back_by_half(internet: Internet) -> None:
    host = house(internet, queue={"retry_seconds": [600]})
    yy = internet.hub("yy.example", users=["b"])
    yy.unlisten()
    client = logged_in(internet, host)
    client.ask(b"MAIL FROM:<ann@xx.example> HOLDFOR=3600\r\n", b"250")
    for to in (b"ben@xx.example", b"b@yy.example"):
        client.ask(b"RCPT TO:<%b>\r\n" % to, b"250")
    client.ask(b"DATA\r\n", b"354")
    client.ask(MESSAGE + b".\r\n", b"250")
    internet.run(3700)
    (waiting,) = host.queued()
    told = internet.wait(cancel(host.hub.queue, host.hub.store, [waiting.id]))
    assert told == {waiting.id: "its time has come; in the queue are only <b@yy.example>"}
    yy.listen()
    assert internet.run_until(lambda: not host.queued(), 7200)
    assert (len(host.inbox("ben@xx.example")), len(yy.inbox("b@yy.example"))) == (1, 1)


# --- The sender's own copy -------------------------------------------------------------------------------------------


def mailbox(internet: Internet, host: Host, name: str = "Sent") -> list[tuple[bytes, frozenset[str]]]:
    """Octets and flags of what is there."""

    async def read() -> list[tuple[bytes, frozenset[str]]]:
        found = await (await host.hub.store.account("ann@xx.example")).mailbox(name)
        return [(await (await found.open(each.uid)).read(), each.flags) for each in await found.entries()]

    return internet.wait(read())


BLIND = MESSAGE.replace(b"Subject", b"Message-ID: <1@client>\r\nBcc: c@yy.example\r\nSubject")


@pytest.mark.parametrize("database", ["memory", "inline"])
@pytest.mark.parametrize(
    "submission", [{"copy_to_sent": True}, {"copy_to_sent_accounts": ["@xx.example"]}], ids=["all", "named"]
)
def test_who_sends_has_a_copy(tmp_path: Any, database: str, submission: Mapping[str, Any]) -> None:
    with Internet(seed=7, folder=tmp_path) as internet:
        host = house(internet, submission=submission, database={"type": database})
        yy = internet.hub("yy.example", users=["b"])
        with capturedLogs() as events:
            send(internet, host, BLIND, to="b@yy.example")
            internet.run(10)
        (line,) = [line for event in events if " copy=" in (line := formatEvent(event))]
        assert line.startswith("delivered: ")
        assert " to=<ann@xx.example> agent=store target=ann@xx.example " in line
        assert line.endswith(" copy=Sent")
        ((copy, flags),) = mailbox(internet, host)
        assert b"Bcc: c@yy.example\r\n" in copy
        assert b"Date: " in copy
        assert copy.endswith(b"\r\n\r\nHow are you?\r\n")
        assert "\\Seen" in flags
        (arrived,) = yy.inbox("b@yy.example")
        assert b"Bcc" not in arrived
        assert host.inbox("ann@xx.example") == []


@pytest.mark.parametrize("database", ["memory", "inline"])
def test_the_copy_is_taken_back_with_the_message(tmp_path: Any, database: str) -> None:
    """And no other: neither that of another message of this name, nor one that the client has put there."""
    with Internet(seed=7, folder=tmp_path) as internet:
        options = {"copy_to_sent": True, "undo_seconds": 100}
        host = house(internet, submission=options, database={"type": database})
        first = send(internet, host, BLIND)
        internet.run(5)
        second, third = send(internet, host, BLIND), send(internet, host, BLIND.replace(b"<1@", b"<2@"))
        copies = [octets for octets, _ in mailbox(internet, host)]
        assert len(copies) == 3
        store = host.hub.store
        assert internet.wait(cancel(host.hub.queue, store, [second, third])) == {second: "", third: ""}
        assert [octets for octets, _ in mailbox(internet, host)] == copies[:1]
        internet.run(110)
        assert internet.wait(cancel(host.hub.queue, store, [first]))[first]
        assert [octets for octets, _ in mailbox(internet, host)] == copies[:1]


def test_there_is_none_without_the_message_nor_for_others(internet: Internet) -> None:
    host = house(internet, submission={"copy_to_sent": True, "check_from": "strict"})
    send(internet, host, MESSAGE.replace(b"ann@", b"ceo@"), b"554 5.7.1")
    outside = internet.call(host, "smtp")
    outside.expect(b"220")
    outside.ask(b"EHLO client.example\r\n", b"250 ")
    outside.ask(b"MAIL FROM:<ann@xx.example>\r\n", b"250")
    outside.ask(b"RCPT TO:<ann@xx.example>\r\n", b"250")
    outside.ask(b"DATA\r\n", b"354")
    outside.ask(MESSAGE + b".\r\n", b"250")
    assert mailbox(internet, host) == []


def test_a_full_mailbox_keeps_nothing_from_being_sent(internet: Internet) -> None:
    host = house(internet, submission={"copy_to_sent": True})
    internet.wait(host.hub.accounts.set_quota("ann@xx.example", 10))
    send(internet, host)
    assert len(host.inbox("ben@xx.example")) == 1
    assert mailbox(internet, host) == []
    internet.run(3600)
    assert host.queued() == []


def test_a_client_that_puts_the_same_there_has_it_once(internet: Internet) -> None:
    host = house(internet, submission={"copy_to_sent": True})
    send(internet, host, BLIND)
    client = internet.call(host, "imaps")
    client.expect(b"* OK")
    client.ask(b"a LOGIN ann@xx.example secret\r\n", b"a OK")

    def append(octets: bytes, name: bytes = b"Sent") -> bytes:
        client.ask(b"b APPEND %b (\\Seen) {%d}\r\n" % (name, len(octets)), b"+")
        return client.ask(octets + b"\r\n", b"b OK")

    assert re.search(rb"b OK \[APPENDUID \d+ 1\]", append(BLIND))
    assert len(mailbox(internet, host)) == 1
    assert re.search(rb"b OK \[APPENDUID \d+ 2\]", append(BLIND))  # a second time it is meant
    send(internet, host, BLIND.replace(b"<1@", b"<2@"))
    append(BLIND.replace(b"<1@", b"<3@"))
    append(BLIND.replace(b"<1@", b"<2@"), b"Drafts")
    assert (len(mailbox(internet, host)), len(mailbox(internet, host, "Drafts"))) == (4, 1)
