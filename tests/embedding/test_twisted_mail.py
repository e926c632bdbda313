"""Realms that were written for `twisted.mail`, served by our factories as they are."""

from __future__ import annotations

from typing import Any

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
