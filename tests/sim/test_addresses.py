"""Addresses as other mail programs send them, taken on 25 and on submission, and written as they must be sent on."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterator

import pytest

from mailhub.testing.caller import Caller
from mailhub.testing.hubs import Host, Internet

DOMAINS = ["xx.example", "b\u00fccher.example", "_x.example"]
ALIASES = {"info@b\u00fccher.example": ["ann@xx.example"], "postmaster@xx.example": ["ann@xx.example"]}


@pytest.fixture(scope="module")
def internet() -> Iterator[Internet]:
    with Internet() as made:
        xx = made.hub("xx.example", ["ann", "a..b", "c.", ".d", "two words"], {"domains": DOMAINS, "aliases": ALIASES})
        xx.add_account("ben@xx.example", "correct horse")
        for user in ("ann@_x.example", "u@xn--bcher-kva.example"):
            xx.add_account(user)
        made.hub("yy.example", ["eve", "a..b", "two words"])
        yield made


@pytest.fixture
def xx(internet: Internet) -> Host:
    return internet.hubs[0]


def told(caller: Caller, command: bytes) -> bytes:
    """Code and status of the answer."""
    start = len(caller.heard)
    caller.ask(command + b"\r\nNOOP\r\n", b"250 2.0.0")
    return caller.heard[start:].split(b"\r\n")[0][:9]


def greeted(internet: Internet, service: str) -> Caller:
    caller = internet.call(internet.hubs[0], service)
    caller.ask(b"EHLO c.example\r\n", b"250 HELP")
    if service == "submissions":
        login = b64encode(b"\0ben@xx.example\0correct horse")
        caller.ask(b"AUTH PLAIN " + login + b"\r\n", b"235 ")
    return caller


@pytest.mark.parametrize("service", ["smtp", "submissions"])
@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("<a..b@xx.example>", b"250 2.1.5"),
        ("<c.@xx.example>", b"250 2.1.5"),
        ("<.d@xx.example>", b"250 2.1.5"),
        ('<"a..b"@xx.example>', b"250 2.1.5"),
        ('<"two words"@xx.example>', b"250 2.1.5"),
        ('<"two\\ words"@XX.example>', b"250 2.1.5"),
        ('<"\\a\\n\\n"@xx.example>', b"250 2.1.5"),
        ("<ann@_x.example>", b"250 2.1.5"),
        (" <ann@xx.example>", b"250 2.1.5"),
        ("<ann@xx.example>  ", b"250 2.1.5"),
        ("< ann@xx.example >", b"250 2.1.5"),
        ("ann@xx.example", b"250 2.1.5"),
        (" ann@xx.example ", b"250 2.1.5"),
        ("<ann@xx.example.>", b"250 2.1.5"),
        ("<@a.example,@[192.0.2.1]:ann@xx.example>", b"250 2.1.5"),
        ("<u@b\u00fccher.example>", b"250 2.1.5"),
        ("<u@BU\u0308CHER.example>", b"250 2.1.5"),
        ("<u@xn--bcher-kva.example>", b"250 2.1.5"),
        ("<info@xn--Bcher-kva.example>", b"250 2.1.5"),
        ("<info@b\u00fccher.example>", b"250 2.1.5"),
        ("<Postmaster>", b"250 2.1.5"),
        ("<postmaster@xn--bcher-kva.example>", b"250 2.1.5"),
        ("<abuse@b\u00fccher.example>", b"250 2.1.5"),
        ("<ABUSE@_x.example>", b"250 2.1.5"),
        ("<postmaster@[10.0.0.2]>", b"250 2.1.5"),
        ("<abuse>", b"250 2.1.5"),
        ("<Ann@[10.0.0.2]>", b"250 2.1.5"),
        ("<nobody@[10.0.0.2]>", b"550 5.1.1"),
        ("<nobody@xx.example>", b"550 5.1.1"),
        ("<ann%yy.example@xx.example>", b"550 5.1.1"),
        ("<yy.example!ann@xx.example>", b"550 5.1.1"),
        ("<@a.example:eve@yy.example>", b"550 5.7.1"),
        ("<@xx.example:eve@yy.example>", b"550 5.7.1"),
        ("<@:ann@xx.example>", b"501 5.1.3"),
        ("<>", b"501 5.1.3"),
        ("<ann@xx.example", b"501 5.1.3"),
        ("<ann@xx.example>>", b"501 5.1.3"),
        ("<an n@xx.example>", b"501 5.1.3"),
        ("<ann@[xx.example]>", b"501 5.1.3"),
        ("<ann@[IPv6:10.0.0.1]>", b"501 5.1.3"),
    ],
)
def test_recipients(internet: Internet, service: str, path: str, status: bytes) -> None:
    caller = greeted(internet, service)
    assert told(caller, b"MAIL FROM:<ben@xx.example> SMTPUTF8") == b"250 2.1.0"
    assert told(caller, f"RCPT TO:{path}".encode()) == status


@pytest.mark.parametrize(
    ("path", "status"),
    [
        (" <a@b.example>", b"250 2.1.0"),
        ("a@b.example", b"250 2.1.0"),
        ("<a..b@zz.example>", b"250 2.1.0"),
        ("<c.@zz.example> SIZE=10", b"250 2.1.0"),
        (".d@zz.example", b"250 2.1.0"),
        ("<a@_x.example>", b"250 2.1.0"),
        ("<>", b"250 2.1.0"),
        ("<a@[192.0.2.1]>", b"250 2.1.0"),
        ("<a@[IPv6:2001:db8::1]>", b"250 2.1.0"),
        ('"x y"@zz.example', b"250 2.1.0"),
        ("<@a.example:b@zz.example>", b"250 2.1.0"),
        ("<a@b\u00fccher.example>", b"550 5.6.7"),
        ("<\u00fc@zz.example>", b"550 5.6.7"),
        ("<a>", b"501 5.1.7"),
        ("<a@b@c>", b"501 5.1.7"),
        ("<a b@c>", b"501 5.1.7"),
    ],
)
def test_senders(internet: Internet, path: str, status: bytes) -> None:
    assert told(greeted(internet, "smtp"), f"MAIL FROM:{path}".encode()) == status


def test_odd_local_parts_are_quoted_when_they_are_sent_on(internet: Internet, xx: Host) -> None:
    caller = greeted(internet, "submissions")
    body = b"From: <ben@xx.example>\r\nTo: a..b@yy.example\r\nSubject: x\r\n\r\nx\r\n"
    to = b'RCPT TO:a..b@yy.example\r\nRCPT TO: <"two words"@yy.example>  \r\n'
    caller.ask(b"MAIL FROM: ben@xx.example\r\n" + to + b"DATA\r\n" + body + b".\r\n", b"250 2.0.0 Queued")
    internet.run(60)
    yy = internet.hubs[1]
    assert not xx.queued()
    (arrived,) = yy.inbox("a..b@yy.example")
    assert b"To: a..b@yy.example\r\n" in arrived
    assert len(yy.inbox("two words@yy.example")) == 1


def test_a_sender_without_a_domain_has_that_of_its_login(internet: Internet) -> None:
    ours = greeted(internet, "submissions")
    assert told(ours, b"MAIL FROM:<Ben> SIZE=10") == b"250 2.1.0"
    assert told(ours, b"RSET\r\nMAIL FROM:<ann>\r\nNOOP") == b"250 2.0.0"
    assert b"\r\n550 5.7.1 Sender address does not belong to your login\r\n" in ours.heard
    assert told(greeted(internet, "smtp"), b"MAIL FROM:<ben>") == b"501 5.1.7"
