"""How urgent mail may be (RFC 6710): what is asked for, what is got, and what is told of that."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterator
from typing import Any

import pytest
from twisted.logger import capturedLogs, formatEvent

from mailhub.testing.caller import Caller
from mailhub.testing.hubs import Host, Internet

MESSAGE = b"DATA\r\nSubject: hello\r\n\r\nHow are you?\r\n.\r\n"
ENVELOPE = b"MAIL FROM:<ann@xx.example> MT-PRIORITY=%b\r\n"
RCPT = b"RCPT TO:<ben@yy.example>\r\n"


def host(internet: Internet, **config: Any) -> Host:
    aliases = {"ben@xx.example": ["ben@yy.example"]}
    xx = internet.hub("xx.example", [], {"aliases": aliases, "trust": {"networks": ["10.9.9.8"]}, **config})
    xx.add_account("ann@xx.example", "correct horse")
    internet.hub("yy.example", ["ben"])
    return xx


@pytest.fixture
def internet() -> Iterator[Internet]:
    with Internet() as internet:
        yield internet


def greeted(internet: Internet, xx: Host, source: str = "10.9.9.9", service: str = "smtp") -> Caller:
    caller = internet.call(xx, service, source)
    caller.ask(b"%b c.example\r\n" % (b"LHLO" if service == "lmtp" else b"EHLO"), b"250 HELP")
    if service == "submissions":
        caller.ask(b"AUTH PLAIN " + b64encode(b"\0ann@xx.example\0correct horse") + b"\r\n", b"235 ")
    return caller


def arrived(internet: Internet) -> tuple[bytes, bytes]:
    """The Received fields of the one message at yy.example: its own, and that of xx.example."""
    internet.run(60)
    (message,) = internet.hubs[1].inbox("ben@yy.example")
    _, theirs, ours = message.replace(b"\r\n\t", b" ").partition(b"\r\n\r\n")[0].split(b"Received: ")
    return theirs, ours


@pytest.mark.parametrize("service", ["smtp", "lmtp"])
def test_a_stranger_is_told_what_his_mail_has_got(internet: Internet, service: str) -> None:
    caller = greeted(internet, host(internet), service=service)
    told = b"250 2.3.6 0 is the new priority assigned to the message"
    caller.ask(ENVELOPE % b"9", told)
    caller.ask(b"RCPT TO:<ben@xx.example>\r\n" + MESSAGE, told + b"; ")
    theirs, ours = arrived(internet)
    assert b" PRIORITY 9; " in ours
    assert b" PRIORITY 0; " in theirs, "it is sent on with what it has got"


def test_the_log_says_how_urgent_a_message_is(internet: Internet) -> None:
    with capturedLogs() as events:
        caller = greeted(internet, host(internet))
        caller.ask(ENVELOPE % b"-3", b"250 2.1.0")
        caller.ask(b"RCPT TO:<ben@xx.example>\r\n" + MESSAGE, b"250 2.0.0 Queued")
        arrived(internet)
    lines = [formatEvent(event) or "" for event in events]
    for word in ("queued", "delivered"):
        assert any(line.startswith(f"{word}: ") and " priority=-3" in line for line in lines)


def test_what_says_nothing_goes_on_as_usual_mail(internet: Internet) -> None:
    """RFC 6710 4.2: with the priority that it has, which is 0."""
    caller = greeted(internet, host(internet))
    caller.ask(b"MAIL FROM:<cat@zz.example>\r\nRCPT TO:<ben@xx.example>\r\n" + MESSAGE, b"250 2.0.0 Queued")
    theirs, ours = arrived(internet)
    assert (b" PRIORITY 0; " in theirs, b" PRIORITY " in ours) == (True, False)


@pytest.mark.parametrize(("source", "asked"), [("10.9.9.9", b"-3"), ("10.9.9.9", b"0"), ("10.9.9.8", b"9")])
def test_what_may_be_asked_for_is_got(internet: Internet, source: str, asked: bytes) -> None:
    caller = greeted(internet, host(internet), source)
    caller.ask(ENVELOPE % asked, b"250 2.1.0")
    caller.ask(b"RCPT TO:<ben@xx.example>\r\n" + MESSAGE, b"250 2.0.0 Queued")
    assert all(b" PRIORITY %b; " % asked in each for each in arrived(internet))


@pytest.mark.parametrize(("limit", "got"), [({}, b"7"), ({"submission": {"priority_limit": 4}}, b"4")])
def test_our_users_get_what_the_house_allows(internet: Internet, limit: Any, got: bytes) -> None:
    caller = greeted(internet, host(internet, **limit), service="submissions")
    caller.ask(ENVELOPE % b"7", b"250 2.1.0" if got == b"7" else b"250 2.3.6 4 ")
    caller.ask(RCPT + MESSAGE, b"250 2.0.0 Queued" if got == b"7" else b"250 2.3.6 4 ")
    theirs, ours = arrived(internet)
    assert b" PRIORITY 7; " in ours
    assert b" PRIORITY %b; " % got in theirs


def test_who_asks_for_nothing_may_be_told_as_well(internet: Internet) -> None:
    caller = greeted(internet, host(internet, smtp={"priority_limit": -4}))
    caller.ask(b"MAIL FROM:<cat@zz.example>\r\n", b"250 2.3.6 -4 ")
    caller.ask(b"RSET\r\nMAIL FROM:<cat@zz.example> MT-PRIORITY=-5\r\n", b"250 2.1.0")


@pytest.mark.parametrize("name", ["MIXER", "X_house.2"])
def test_the_policy_is_told_by_its_registered_name(internet: Internet, name: str) -> None:
    caller = internet.call(host(internet, smtp={"priority_policy": name}), "smtp")
    assert b"\r\n250-MT-PRIORITY %b\r\n" % name.encode() in caller.ask(b"EHLO c.example\r\n", b"250 HELP")
