"""Realms that were written for `twisted.mail`, served by our factories as they are."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.cred.credentials import IUsernamePassword
from twisted.internet.defer import Deferred, succeed
from twisted.logger import capturedLogs, formatEvent
from twisted.mail.interfaces import IMailboxPOP3
from twisted.mail.maildir import StringListMailbox

from mailhub.api import imap_factory, pop3_factory, smtp_factory
from tests.embedding.rig import Embedded
from tests.foreign.realms import ConsoleRealm, MaildropRealm, MemoryRealm


def embedded(make: Any, realm: Any, **options: Any) -> Embedded:
    made = Embedded(make, **options)
    made.portal.realm = realm
    return made


def test_imap() -> None:
    realm = MemoryRealm()
    made = embedded(imap_factory, realm)
    assert b"a OK " in made.say(b"a LOGIN Bob secret")
    made.say(b"b APPEND INBOX {19+}", b"Subject: x\r\n\r\nhello")
    said = made.say(b"c SELECT INBOX", b"d FETCH 1 BODY[]")
    assert b"* 1 EXISTS" in said
    assert b"Subject: x\r\n\r\nhello" in said
    made.lose()
    assert realm.logouts == 1


def test_pop3() -> None:
    made = embedded(pop3_factory, MaildropRealm([b"Subject: x\r\n\r\nhello\r\n"]))
    made.say(b"USER Bob")
    assert made.say(b"PASS secret").startswith(b"+OK")
    assert made.say(b"STAT") == b"+OK 1 21\r\n"
    assert made.say(b"RETR 1") == b"+OK 21 octets\r\nSubject: x\r\n\r\nhello\r\n.\r\n"


def test_smtp() -> None:
    realm = ConsoleRealm()
    made = embedded(smtp_factory, realm)
    made.say(b"EHLO c.example", b"MAIL FROM:<a@yy.example>")
    assert made.say(b"RCPT TO:<ann@xx.example>").startswith(b"550 ")
    assert made.say(b"RCPT TO:<console@xx.example>").startswith(b"250 ")
    assert made.say(b"DATA", b"Subject: x", b"", b"hello", b".").splitlines()[-1].startswith(b"250 ")
    assert realm.delivery.printed[-1] == "hello"


# --- One portal, several users and factories ------------------------------------------------------------------------


class Renaming:
    """A checker to whom `names` say who somebody is."""

    credentialInterfaces = (IUsernamePassword,)

    def __init__(self, **names: Any) -> None:
        self.names = names

    def requestAvatarId(self, credentials: Any) -> Any:
        return self.names[credentials.username.decode()]


def maildrop(*messages: bytes) -> Any:
    return StringListMailbox(list(messages))  # type: ignore[no-untyped-call]


class Maildrops:
    """One for each avatar id."""

    def __init__(self, **messages: bytes) -> None:
        self.messages = messages

    def requestAvatar(self, avatar_id: Any, mind: Any, *interfaces: Any) -> Any:
        name = avatar_id if isinstance(avatar_id, str) else avatar_id.decode()
        return succeed((IMailboxPOP3, maildrop(self.messages[name]), lambda: None))


def pop3(checker: Renaming, realm: Any, **options: Any) -> Embedded:
    embedded = Embedded(pop3_factory, **options)
    embedded.portal.checkers.clear()
    embedded.portal.registerChecker(checker)
    embedded.portal.realm = realm
    return embedded


def logged_in(embedded: Embedded, name: bytes) -> bytes:
    embedded.connect()
    return embedded.say(b"USER " + name, b"PASS x")


@pytest.mark.parametrize("kind", [str, str.encode])
def test_two_spellings_of_one_user_do_not_open_the_maildrop_twice(kind: Any) -> None:
    embedded = pop3(Renaming(ann=kind("ann"), Anna=kind("ann"), ben=kind("ben")), Maildrops(ann=b"x", ben=b"y"))
    assert b"\r\n+OK " in logged_in(embedded, b"ann")
    assert b"[IN-USE]" in logged_in(embedded, b"Anna")
    assert b"\r\n+OK " in logged_in(embedded, b"ben")


def test_two_users_of_one_login_name_have_their_own_maildrops() -> None:
    checker = Renaming(ann=b"one")
    embedded = pop3(checker, Maildrops(one=b"x" * 100, two=b"y" * 200))
    assert b"\r\n+OK " in logged_in(embedded, b"ann")
    first = embedded.say(b"LIST 1")
    checker.names["ann"] = b"two"
    assert b"\r\n+OK " in logged_in(embedded, b"ann")
    assert embedded.say(b"LIST 1") != first


def test_what_may_be_taken_is_each_factory_s_own_and_hides_nothing_that_is_there() -> None:
    embedded = pop3(
        Renaming(ann=b"ann"), Maildrops(ann=b"x" * 5000), limits={"message_size_bytes": 2000}, timeout_seconds=1
    )
    assert b"\r\n+OK " in logged_in(embedded, b"ann")
    assert embedded.say(b"STAT").startswith(b"+OK 1 5")
    embedded.lose()
    never: Deferred[Any] = Deferred()
    embedded.portal.realm.requestAvatar = lambda *_: never
    embedded.factory = pop3_factory(embedded.portal, **{**embedded.options, "timeout_seconds": 20})
    logged_in(embedded, b"ann")
    embedded.clock.advance(19)
    assert embedded.peer.taken() == b""
    embedded.clock.advance(1)
    assert embedded.peer.taken().startswith(b"-ERR [SYS/TEMP]")


# --- Realms that look at one interface ------------------------------------------------------------------------------


class TakesOne:
    def requestAvatar(self, avatar_id: Any, mind: Any, interface: Any) -> Any:
        if interface is not IMailboxPOP3:
            raise NotImplementedError(interface)
        return succeed((interface, maildrop(b"x"), lambda: None))


class LooksAtTheFirst:
    def requestAvatar(self, avatar_id: Any, mind: Any, *interfaces: Any) -> Any:
        if interfaces[0] is not IMailboxPOP3:
            raise NotImplementedError(interfaces)
        return succeed((interfaces[0], maildrop(b"x"), lambda: None))


class GivesBackTheFirst:
    def requestAvatar(self, avatar_id: Any, mind: Any, *interfaces: Any) -> Any:
        return succeed((interfaces[0], maildrop(b"x"), lambda: None))


class HasNone:
    def requestAvatar(self, avatar_id: Any, mind: Any, interface: Any) -> Any:
        raise NotImplementedError("nothing here")


@pytest.mark.parametrize("realm", [TakesOne, LooksAtTheFirst, GivesBackTheFirst], ids=lambda it: it.__name__)
def test_a_realm_that_looks_at_one_interface_is_asked_so(realm: Any) -> None:
    embedded = pop3(Renaming(ann=b"ann"), realm())
    with capturedLogs() as logs:
        assert b"\r\n+OK " in logged_in(embedded, b"ann")
        assert embedded.say(b"STAT").startswith(b"+OK 1 ")
    assert not [event for event in logs if formatEvent(event).startswith("realm failed")]


def test_a_realm_that_has_nothing_for_us_is_named_once() -> None:
    embedded = pop3(Renaming(ann=b"ann"), HasNone())
    with capturedLogs() as logs:
        assert b"[SYS/TEMP]" in logged_in(embedded, b"ann")
    (line,) = [formatEvent(event) for event in logs if formatEvent(event).startswith("realm failed")]
    assert "NotImplementedError: nothing here" in line
