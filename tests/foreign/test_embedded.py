"""Portals of realms written for `twisted.mail`, asked by the factories for somebody's own `.tac`."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.mail.imap4 import IAccount
from twisted.mail.pop3 import IMailbox
from twisted.mail.smtp import IMessageDelivery, IMessageDeliveryFactory

from mailhub.api import imap_factory, lmtp_factory, pop3_factory, smtp_factory, submission_factory
from tests.embedding.rig import PASSWORD, USER, Embedded, Realm
from tests.foreign.realms import (
    ConsoleMessageDelivery,
    ConsoleMessageDeliveryFactory,
    MaildropRealm,
    MemoryAccount,
)


def realm(interface: Any, avatar: Any) -> Realm:
    """Gives this avatar to whoever asks for it."""

    def gives(realm: Realm, *interfaces: Any) -> Any:
        if interface not in interfaces:
            raise NotImplementedError
        return interface, avatar, realm.logout

    return Realm(gives)


@pytest.mark.parametrize("make", [smtp_factory, lmtp_factory])
@pytest.mark.parametrize("interface", [IMessageDelivery, IMessageDeliveryFactory])
def test_a_delivery_takes_mail(make: Any, interface: Any) -> None:
    avatar: Any = ConsoleMessageDelivery() if interface is IMessageDelivery else ConsoleMessageDeliveryFactory()
    embedded = Embedded(make, realm(interface, avatar))
    embedded.say(b"LHLO c" if make is lmtp_factory else b"EHLO c", b"MAIL FROM:<a@yy.example>")
    said = embedded.say(b"RCPT TO:<eve@xx.example>", b"RCPT TO:<console@xx.example>", b"DATA")
    assert [line[:3] for line in said.splitlines()] == [b"550", b"250", b"354"]
    assert embedded.say(b"Subject: x", b"", b"hello", b".").startswith(b"250 ")
    delivery = avatar if interface is IMessageDelivery else avatar.made[0]
    assert delivery.printed[-1] == "hello"
    assert [asked[0] for asked in embedded.realm.asked] == [()]


def test_a_delivery_takes_mail_of_who_has_logged_in() -> None:
    avatar = ConsoleMessageDelivery()
    embedded = Embedded(submission_factory, realm(IMessageDelivery, avatar))
    embedded.say(b"EHLO c", b"AUTH LOGIN", b"Qm9i", b"c2VjcmV0", b"MAIL FROM:<a@yy.example>")
    assert embedded.say(b"RCPT TO:<console@xx.example>", b"DATA").endswith(
        b"\r\n354 End data with <CR><LF>.<CR><LF>\r\n"
    )
    assert embedded.say(b"Subject: x", b"", b"hello", b".").startswith(b"250 ")
    assert avatar.printed[-1] == "hello"
    assert [asked[0] for asked in embedded.realm.asked] == [USER.encode()]


def test_an_account_is_read_by_imap_and_its_realm_told_of_the_end() -> None:
    embedded = Embedded(imap_factory, realm(IAccount, MemoryAccount("b")))
    assert b"A OK" in embedded.say(f"A LOGIN {USER} {PASSWORD}".encode())
    assert b"A OK [READ-WRITE]" in embedded.say(b"A SELECT INBOX")
    assert b"A NO [NONEXISTENT]" in embedded.say(b"A SELECT NONE")
    embedded.say(b"A LOGOUT")
    embedded.channel.connectionLost(None)
    assert embedded.realm.logouts == 1


def test_a_maildrop_is_read_by_pop3() -> None:
    mailbox = MaildropRealm([b"Subject: x\r\n\r\n"]).requestAvatar(b"", None, IMailbox)[1]
    embedded = Embedded(pop3_factory, realm(IMailbox, mailbox))
    embedded.say(f"USER {USER}".encode())
    assert embedded.say(f"PASS {PASSWORD}".encode()).startswith(b"+OK")
    assert embedded.say(b"STAT") == b"+OK 1 14\r\n"
