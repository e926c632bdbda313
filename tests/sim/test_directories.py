"""Whole servers whose users are known to others: mail before the first login."""

from __future__ import annotations

import base64
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from twisted.cred.checkers import ICredentialsChecker
from twisted.cred.credentials import IUsernamePassword
from twisted.cred.error import UnauthorizedLogin
from twisted.internet.defer import Deferred, fail, succeed
from zope.interface import implementer

from mailhub.api import Component, SimpleStore
from mailhub.errors import ConfigurationError
from mailhub.interfaces import Origin
from mailhub.message.address import Address
from mailhub.message.envelope import FutureRelease, Mail, Recipient
from mailhub.testing.caller import Caller
from mailhub.testing.hubs import Host, Internet

ANN, BEN = "ann@xx.example", "ben@xx.example"
HELLO = b"From: eve@yy.example\r\nSubject: hello\r\nDate: Mon, 1 Jan 2024 00:00:00 +0000\r\n\r\nHello\r\n"


class People:
    """A directory of a plugin."""

    def __init__(self, *known: str) -> None:
        self.known = set(known)
        self.calls: list[str] = []
        self.answers: Callable[[str], Any] = lambda user: user in self.known

    def exists(self, user: str) -> Any:
        self.calls.append(user)
        return self.answers(user)


@implementer(ICredentialsChecker)
class Door(People):
    """A checker that can tell."""

    credentialInterfaces = (IUsernamePassword,)

    def requestAvatarId(self, credentials: Any) -> Deferred[bytes | tuple[()]]:
        user = credentials.username
        if user.decode() in self.known and credentials.checkPassword(b"secret"):
            return succeed(user)
        return fail(UnauthorizedLogin())


def server(internet: Internet, auth: dict[str, Any], people: Any = None, **config: Any) -> Host:
    kind = "checker" if isinstance(people, Door) else "directory"
    plugins = [Component(kind, "people", lambda _, hub: people)] if people is not None else []
    return internet.hub("xx.example", config={"auth": auth, **config}, plugins=plugins)


def rcpt(internet: Internet, host: Host, user: str) -> bytes:
    """The answer to RCPT, of a connection of its own."""
    return replies(internet, host, user)[-1]


def replies(internet: Internet, host: Host, *users: str) -> list[bytes]:
    caller = internet.call(host, "smtp")
    caller.ask(b"EHLO yy.example\r\n", b"250 ")
    caller.ask(b"MAIL FROM:<eve@yy.example>\r\n", b"250 ")
    return [_answer(internet, caller, b"RCPT TO:<%s>\r\n" % user.encode()) for user in users]


def _answer(internet: Internet, caller: Caller, line: bytes) -> bytes:
    start = len(caller.heard)
    transport: Any = caller.transport
    transport.write(line)
    assert internet.run_until(lambda: caller.heard.endswith(b"\r\n") and len(caller.heard) > start, 60, 0.1)
    return caller.heard[start:]


def send(internet: Internet, host: Host, user: str) -> None:
    caller = internet.call(host, "smtp")
    for line, code in (
        (b"EHLO yy.example\r\n", b"250 "),
        (b"MAIL FROM:<eve@yy.example>\r\n", b"250 "),
        (b"RCPT TO:<%s>\r\n" % user.encode(), b"250 "),
        (b"DATA\r\n", b"354 "),
        (HELLO + b".\r\n", b"250 "),
    ):
        caller.ask(line, code)


def accounts(internet: Internet, host: Host) -> list[str]:
    return [account.user for account in internet.wait(host.hub.accounts.all())]


@pytest.mark.parametrize("kind", ["directory", "checker", "file", "memory"])
def test_who_is_known_elsewhere_gets_mail_before_the_first_login(kind: str, tmp_path: Path) -> None:
    (tmp_path / "people").write_text(f"{ANN}:secret\n")
    auth, people = {
        "directory": ({"directories": ["people"]}, People(ANN)),
        "checker": ({"checkers": ["accounts", "people"]}, Door(ANN)),
        "file": ({"checkers": ["accounts", f"file:{tmp_path}/people"]}, None),
        "memory": ({"checkers": ["accounts", f"memory:{ANN}:secret"]}, None),
    }[kind]
    with Internet() as internet:
        host = server(internet, auth, people)
        assert rcpt(internet, host, ANN).startswith(b"250 2.1.5")
        assert rcpt(internet, host, BEN).startswith(b"550 5.1.1")
        assert accounts(internet, host) == []  # asking makes none
        send(internet, host, "Ann+list@xx.example")
        assert accounts(internet, host) == [ANN]
        assert host.queued() == []
        (message,) = host.inbox(ANN)
        assert message.endswith(HELLO)
        if kind != "directory":
            caller = internet.call(host, "imaps")
            caller.ask(f'a LOGIN {ANN} "secret"\r\n'.encode(), b"a OK")
            assert b"* 1 EXISTS" in caller.ask(b"b SELECT INBOX\r\n", b"b OK")


@pytest.mark.parametrize(
    "failing",
    [lambda user: None, lambda user: Deferred(), lambda user: fail(OSError("ldap is down"))],
)
def test_a_directory_that_fails_puts_mail_off(failing: Callable[[str], Any]) -> None:
    people = People(ANN)
    people.answers = failing
    with Internet() as internet:
        host = server(internet, {"directories": ["people"]}, people)
        host.add_account(BEN)
        assert rcpt(internet, host, ANN).startswith(b"451 4.3.0")
        assert rcpt(internet, host, BEN).startswith(b"250 ")  # has an account
        people.answers = lambda user: True
        internet.run(60)
        send(internet, host, ANN)
        assert len(host.inbox(ANN)) == 1


def test_only_names_of_our_domains_are_asked_for_and_briefly_remembered() -> None:
    people = People(ANN)
    with Internet() as internet:
        host = server(internet, {"directories": ["people"]}, people)
        assert [answer[:3] for answer in replies(internet, host, "ann@zz.example", ANN, ANN, BEN, BEN)] == [
            *(b"550", b"250", b"250", b"550", b"550")
        ]
        assert people.calls == [ANN, BEN]
        people.known.add(BEN)
        internet.run(5)
        assert rcpt(internet, host, BEN).startswith(b"250 ")


def test_aliases_postmaster_and_details_lead_to_users_of_a_directory() -> None:
    people = People(ANN, "sales+eu@xx.example", "postmaster@xx.example")
    aliases = {"all@xx.example": [ANN], "sales@xx.example": [BEN], "far@xx.example": ["nobody@xx.example"]}
    with Internet() as internet:
        host = server(internet, {"directories": ["people"]}, people, aliases=aliases)
        host.add_account(BEN)
        for name in ("all@xx.example", "sales+eu@xx.example", "sales+us@xx.example", "postmaster"):
            send(internet, host, name)
        assert rcpt(internet, host, "far@xx.example").startswith(b"550 5.1.1")
        inboxes = [len(host.inbox(user)) for user in (ANN, BEN, "sales+eu@xx.example", "postmaster@xx.example")]
        assert inboxes == [1, 1, 1, 1]


def test_a_user_may_send_as_an_alias_that_leads_to_an_account_yet_to_be_made() -> None:
    people = Door(ANN)
    config = {"aliases": {"sales@xx.example": [ANN]}}
    with Internet() as internet:
        host = server(internet, {"checkers": ["accounts", "people"]}, people, **config)
        routes = internet.wait(host.hub.routing.route(Address.parse("sales@xx.example")))
        assert [(route.target, route.create) for route in routes] == [(ANN, True)]
        caller = internet.call(host, "submissions")
        caller.ask(b"EHLO c.example\r\n", b"250 ")
        plain(caller, ANN, "secret")
        caller.ask(b"MAIL FROM:<sales@xx.example>\r\n", b"250 ")


def plain(caller: Caller, user: str, password: str) -> None:
    words = base64.b64encode(f"\0{user}\0{password}".encode())
    caller.ask(b"AUTH PLAIN " + words + b"\r\n", b"235 ")


def test_mail_that_waits_makes_its_account_when_it_is_delivered() -> None:
    people = People(ANN)
    with Internet() as internet:
        host = server(internet, {"directories": ["people"]}, people)
        internet.wait(_held(host))
        assert accounts(internet, host) == []
        internet.run(120)
        assert accounts(internet, host) == [ANN]
        assert len(host.inbox(ANN)) == 1


async def _held(host: Host) -> None:
    """A message that its sender wants held for a minute (RFC 4865)."""
    mail = Mail(Address.parse(BEN), hold=FutureRelease(60, "FOR"))
    transaction = await host.hub.pipeline.begin(Origin("submission", user=BEN, submission=True), mail)
    await transaction.recipient(Recipient(Address.parse(ANN)))
    await transaction.body().write(HELLO)
    await transaction.commit()


def test_a_store_that_makes_no_accounts_refuses_users_that_it_has_not() -> None:
    class Notes(SimpleStore):
        def users(self) -> list[str]:
            return [BEN]

        def messages(self, user: str, folder: str) -> list[str]:
            return []

        def read(self, user: str, folder: str, key: str) -> bytes:
            raise KeyError(key)

        def add(self, *given: Any) -> str:
            return "1"

    people = People(ANN)
    with Internet() as internet:
        plugins = [
            Component("directory", "people", lambda _, hub: people),
            Component("store", "notes", Notes),
        ]
        config = {"auth": {"directories": ["people"]}, "store": {"type": "notes"}}
        host = internet.hub("xx.example", config=config, plugins=plugins)
        assert rcpt(internet, host, BEN).startswith(b"250 ")
        assert rcpt(internet, host, ANN).startswith(b"550 5.1.1")


def test_a_directory_is_taken_over_when_the_configuration_is_read_again() -> None:
    people = People(ANN)
    with Internet() as internet:
        host = server(internet, {}, people)
        assert rcpt(internet, host, ANN).startswith(b"550 ")
        assert not host.reload({"auth": {"directories": ["people"]}}).fault
        assert rcpt(internet, host, ANN).startswith(b"250 ")


def test_mistakes_are_named_at_start() -> None:
    with Internet() as internet:
        with pytest.raises(ConfigurationError, match=r"xx.example.toml: \[auth\] directories: there is no directory"):
            server(internet, {"directories": ["gone"]})
        internet.hubs.clear()
        with pytest.raises(ConfigurationError, match=r"exists\(\) is missing"):
            server(internet, {"directories": ["people"]}, object())
        internet.hubs.clear()
