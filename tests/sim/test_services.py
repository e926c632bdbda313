"""Every service of a server, its logins, plugins and real configuration, on a simulated clock."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import attrs
import pytest
from twisted.internet.protocol import Factory
from twisted.logger import capturedLogs, formatEvent
from twisted.protocols.wire import Echo
from zope.interface import implementer

from mailhub.interfaces import ACCEPT, IPolicy, ITransactionView, Origin, Screen, Service, Verdict
from mailhub.plugins import Component
from mailhub.testing.caller import Caller
from mailhub.testing.hubs import Host, Internet

PASSWORD = "correct horse"


@attrs.frozen
class Words:
    """The options of the policy."""

    unwelcome: str = "nobody@zz.example"


@implementer(IPolicy)
class Picky(Screen):
    """Refuses one sender, and notes who came."""

    def __init__(self, seen: list[str], options: Words, hub: object) -> None:
        self._seen = seen
        self._unwelcome = options.unwelcome

    def begin(self, origin: Origin) -> Picky:
        self._seen.append(origin.service)
        return self

    async def mail(self, transaction: ITransactionView) -> Verdict:
        sender = str(transaction.mail.reverse_path)
        return Verdict("reject", "5.7.1", "Not you") if sender == self._unwelcome else ACCEPT


def submits(internet: Internet, host: Host, service: str, sender: str, recipient: str, text: str = "hello") -> None:
    """A user's mail program: EHLO, login, one message."""
    caller = internet.call(host, service)
    caller.expect(b"220 ")
    caller.ask(b"EHLO client.example\r\n", b"250 ")
    if service == "submission":
        caller.ask(b"STARTTLS\r\n", b"220 ")
        caller.start_tls()
        caller.ask(b"EHLO client.example\r\n", b"250 ")
    token = base64.b64encode(f"\0{sender}\0{PASSWORD}".encode())
    caller.ask(b"AUTH PLAIN " + token + b"\r\n", b"235 ")
    caller.ask(f"MAIL FROM:<{sender}>\r\nRCPT TO:<{recipient}>\r\nDATA\r\n".encode(), b"354 ")
    caller.ask(f"From: {sender}\r\nSubject: {text}\r\n\r\nHow are you?\r\n.\r\n".encode(), b"250 ")
    caller.ask(b"QUIT\r\n", b"221 ")
    caller.wait_for_end()


def reads_by_imap(internet: Internet, host: Host, user: str, service: str = "imaps") -> bytes:
    caller = internet.call(host, service)
    caller.expect(b"* OK")
    caller.ask(f'a LOGIN {user} "{PASSWORD}"\r\n'.encode(), b"a OK")
    caller.ask(b"b SELECT INBOX\r\n", b"b OK")
    fetched = caller.ask(b"c FETCH 1:* BODY[]\r\n", b"c ")
    caller.ask(b"d LOGOUT\r\n", b"d OK")
    caller.wait_for_end()
    return fetched


def reads_by_pop3(internet: Internet, host: Host, user: str) -> bytes:
    caller = internet.call(host, "pop3s")
    caller.expect(b"+OK")
    caller.ask(f"USER {user}\r\nPASS {PASSWORD}\r\n".encode(), b"+OK")
    caller.ask(b"STAT\r\n", b"+OK 1 ")
    message = caller.ask(b"RETR 1\r\n", b".")
    caller.ask(b"DELE 1\r\nQUIT\r\n", b"+OK")
    caller.wait_for_end()
    return message


def delivers_by_lmtp(internet: Internet, host: Host, recipients: Sequence[str]) -> bytes:
    caller = internet.call(host, "lmtp", source="10.0.0.9")
    caller.expect(b"220 ")
    caller.ask(b"LHLO list.example\r\n", b"250 ")
    to = "".join(f"RCPT TO:<{recipient}>\r\n" for recipient in recipients)
    caller.ask(f"MAIL FROM:<c@zz.example>\r\n{to}DATA\r\n".encode(), b"354 ")
    caller.ask(b"Subject: by LMTP\r\n\r\nx\r\n.\r\n", b"250 ")
    caller.ask(b"QUIT\r\n", b"221 ")
    caller.wait_for_end()
    return caller.heard.partition(b"354 ")[2]


def world(seed: int, database: str = "memory", folder: Path | None = None) -> tuple[Internet, Host, Host, list[str]]:
    seen: list[str] = []
    internet = Internet(seed, folder=folder)
    picky = Component("policy", "picky", partial(Picky, seen), Words)
    xx = internet.hub("xx.example", config={"database": {"type": database}})
    yy = internet.hub(
        "yy.example",
        config={
            "database": {"type": database},
            "delivery": {"policies": ["neighbours"]},
            "policy": {"neighbours": {"type": "picky", "unwelcome": "spam@xx.example"}},
        },
        plugins=[picky],
    )
    for host in (xx, yy):
        for name in ("ann", "spam"):
            host.add_account(f"{name}@{host.domain}", PASSWORD)
    return internet, xx, yy, seen


def day(seed: int) -> tuple[list[str], list[tuple[float, str]], bytes]:
    """Mail by all doors; the log, what went over the network, and what was read in the end."""
    with capturedLogs() as events:
        internet, xx, yy, seen = world(seed)
        with internet:
            submits(internet, xx, "submissions", "ann@xx.example", "ann@yy.example")
            internet.run(5)
            by_imap = reads_by_imap(internet, yy, "ann@yy.example")
            by_pop3 = reads_by_pop3(internet, yy, "ann@yy.example")
            answers = delivers_by_lmtp(internet, yy, ["ann@yy.example", "spam@yy.example"])
            assert [line[:3] for line in answers.split(b"\r\n")[1:3]] == [b"250", b"250"]
            submits(internet, xx, "submission", "spam@xx.example", "ann@yy.example")
            internet.run(5)
            assert seen == ["smtp", "lmtp"]  # the connection between the two is used again
            assert b"with ESMTPSA" in by_imap
            assert b"\r\n\r\nHow are you?\r\n" in by_imap
            assert b"\r\n\r\nHow are you?\r\n" in by_pop3
            assert yy.inbox("ann@yy.example")[0].endswith(b"Subject: by LMTP\r\n\r\nx\r\n")
            (report,) = xx.inbox("spam@xx.example")
            assert b"Not you" in report
            assert xx.queued() == yy.queued() == []
        lines = [formatEvent(event) for event in events]
    return lines, internet.network.events, by_imap + by_pop3 + report


def test_a_message_goes_from_login_to_login_through_all_services_and_does_so_again() -> None:
    first = day(1)
    assert any("delivered" in line for line in first[0])
    assert day(1) == first
    assert day(2)[0] != first[0]


def test_the_same_with_the_database_on_disk(tmp_path: Path) -> None:
    internet, xx, yy, _ = world(1, "inline", tmp_path)
    with internet:
        submits(internet, xx, "submission", "ann@xx.example", "ann@yy.example")
        internet.run(5)
        assert b"How are you?" in reads_by_imap(internet, yy, "ann@yy.example")


def test_a_wrong_password_is_refused_and_held_back() -> None:
    internet, xx, _, _ = world(1)
    with internet:
        caller = internet.call(xx, "imaps")
        caller.expect(b"* OK")
        before = internet.clock.seconds()
        for guess in (b"one", b"two", b"three", b"four"):
            caller.ask(b"a LOGIN ann@xx.example " + guess + b"\r\n", b"a NO")
        assert internet.clock.seconds() - before > 1


def test_who_waits_in_idle_is_told_of_mail_that_comes_by_another_door() -> None:
    internet, xx, yy, _ = world(1)
    with internet:
        waiting = internet.call(yy, "imaps")
        waiting.expect(b"* OK")
        waiting.ask(f'a LOGIN ann@yy.example "{PASSWORD}"\r\n'.encode(), b"a OK")
        waiting.ask(b"b SELECT INBOX\r\n", b"b OK")
        waiting.ask(b"c IDLE\r\n", b"+ ")
        start = len(waiting.heard)
        submits(internet, xx, "submissions", "ann@xx.example", "ann@yy.example")
        waiting.expect(b"* 1 EXISTS", start)


def test_the_configuration_is_read_again_while_mail_flows() -> None:
    internet, xx, yy, _ = world(1)
    with internet:
        old = internet.call(yy, "smtp")
        old.expect(b"220 mx.yy.example ")
        outcome = yy.reload({"hostname": "new.yy.example", "limits": {"message_size_bytes": 2000}})
        assert (outcome.fault, outcome.lasting) == ("", ())
        assert "hostname" in outcome.changed
        assert "[limits] message_size_bytes" in outcome.changed
        # The session that is open keeps what it began with, the next one is another's.
        assert b"SIZE 52428800" in old.ask(b"EHLO x.example\r\n", b"250 ")
        new = internet.call(yy, "smtp")
        new.expect(b"220 new.yy.example ")
        assert b"SIZE 2000" in new.ask(b"EHLO x.example\r\n", b"250 ")
        submits(internet, xx, "submissions", "ann@xx.example", "ann@yy.example")
        internet.run(5)
        assert b"by new.yy.example" in yy.inbox("ann@yy.example")[0]
        refused = yy.reload({"hostname": "bad..name"})
        assert refused.fault == '/yy.example.toml: hostname: "bad..name" is not a domain name: domain is malformed'
        assert yy.hub.hostname == "new.yy.example"


@attrs.frozen
class Greeting:
    """The options of a service."""

    greeting: str = "hello"


class Greeter(Echo):
    def connectionMade(self) -> None:
        factory: Any = self.factory
        assert self.transport is not None
        self.transport.write(f"{factory.greeting}\r\n".encode())


def _greeters(options: Greeting, hub: object) -> object:
    factory: Any = Factory.forProtocol(Greeter)
    factory.greeting = options.greeting
    return factory


@pytest.mark.parametrize("implicit_tls", [False, True])
def test_a_plugins_service_is_served_as_ours_are(implicit_tls: bool) -> None:
    greeter = Component("service", "greeter", _greeters, Greeting, Service(port=9, implicit_tls=implicit_tls))
    with Internet() as internet:
        listen = {"listen": {"greeter": ["tcp:9"], "other": ["tcp:10"]}, "limits": {"connections_per_address": 2}}
        table = {"service": {"other": {"type": "greeter", "greeting": "welcome"}}}
        xx = internet.hub("xx.example", config={**listen, **table}, plugins=[greeter])

        def called(name: str) -> Caller:
            caller = internet.call(xx, name)
            internet.run(1)
            return caller

        first, other = called("greeter"), called("other")
        assert (first.heard, other.heard) == (b"hello\r\n", b"welcome\r\n")
        assert first.ask(b"echo\r\n", b"echo") == b"echo\r\n"
        second, third = called("greeter"), called("greeter")
        assert (second.lost, third.lost) == (False, True)
        table = {"service": {"other": {"type": "greeter", "greeting": "again"}}}
        assert xx.reload({**listen, **table}).changed == ("[service.other]",)
        assert called("other").heard == b"again\r\n"
        assert other.ask(b"still here\r\n", b"still") == b"still here\r\n"
    assert first.lost
    assert other.lost
