"""What IMAP shows of a realm of accounts in memory, in the style of Twisted's documentation."""

from __future__ import annotations

from copy import copy
from io import BytesIO
from typing import Any

import pytest
from twisted.mail.interfaces import IAccountIMAP

from tests.foreign.realms import MemoryAccount, MemoryMailbox
from tests.foreign.rig import Server

ONE = b"From: Anne <a@xx.example>\r\nSubject: One\r\n\r\nFirst body\r\n"
TWO = b"Subject: Two\n\nwith\r\nlines of \xff all kinds\n\r\n."
DATE = b"Thu, 01 Jan 2026 12:00:00 +0000"


class Realm:
    """A server of one account, with two messages in INBOX: UIDs 7 and 9."""

    def __init__(self) -> None:
        self.account = MemoryAccount("b")
        self.mailboxes: Any = self.account.mailboxes
        self.inbox: MemoryMailbox = self.mailboxes["INBOX"]
        for uid, octets, flags in ((7, ONE, ["\\Seen"]), (9, TWO, [])):
            self.add(uid, octets, flags)
        self.server = Server(IAccountIMAP, lambda: self.account)

    def add(self, uid: int, octets: bytes, flags: list[str]) -> None:
        self.inbox.uid_next = uid
        self.inbox.addMessage(BytesIO(octets), flags, DATE)


@pytest.fixture
def realm() -> Realm:
    return Realm()


def test_mailboxes_are_listed_made_renamed_subscribed_and_deleted(realm: Realm) -> None:
    client = realm.server.imap()
    assert client.send('A LIST "" *').count(b"\r\n") == 3
    assert b"A OK" in client.send("A CREATE WORK/LATER")
    assert b'"/" "WORK/LATER"\r\n' in client.send('A LIST "" *')
    assert b"A NO [ALREADYEXISTS]" in client.send("A CREATE WORK")
    assert b"A OK" in client.send("A SUBSCRIBE WORK")
    assert client.send('A LSUB "" *') == (
        b'* LSUB () "/" INBOX\r\n* LSUB () "/" "SENT"\r\n* LSUB () "/" "WORK"\r\nA OK Completed\r\n'
    )
    assert b"A OK" in client.send("A UNSUBSCRIBE WORK")
    assert b"WORK" not in client.send('A LSUB "" *')
    assert b"A OK" in client.send("A RENAME WORK/LATER NOW")
    assert b"NOW" in client.send('A LIST "" N*')
    assert b"A OK" in client.send("A DELETE NOW")
    assert b"A NO [NONEXISTENT]" in client.send("A SELECT NOW")
    assert b"A NO [NONEXISTENT]" in client.send("A DELETE NOW")
    assert b"A NO [NOPERM]" in client.send("A DELETE INBOX")
    assert b"A NO" in client.send("A UNSUBSCRIBE NEVER")


def test_names_in_another_case_are_what_the_realm_takes_them_for(realm: Realm) -> None:
    client, other = realm.server.imap(), realm.server.imap("sent")
    assert b"A NO [ALREADYEXISTS]" in client.send("A CREATE sEnt")
    assert b"A OK" in client.send("A RENAME sent Kept")
    assert b"A OK" in client.send("A SELECT kept")
    assert b"A OK" in client.send("A DELETE Kept")
    assert b"* BYE" in other.send("A NOOP")
    assert b"A NO [NONEXISTENT]" in client.send("A RENAME kept other")


def test_status_and_select_tell_the_realms_own_numbers(realm: Realm) -> None:
    client = realm.server.imap()
    validity = realm.inbox.validity or 2**32 - 1
    assert client.send("A STATUS INBOX (MESSAGES UIDNEXT UIDVALIDITY UNSEEN)").startswith(
        b"* STATUS INBOX (MESSAGES 2 UIDNEXT 10 UIDVALIDITY %d UNSEEN 1)\r\n" % validity
    )
    opened = client.send("A SELECT INBOX")
    for line in (b"* 2 EXISTS", b"[UIDVALIDITY %d]" % validity, b"[UIDNEXT 10]", b"A OK [READ-WRITE]"):
        assert line in opened


def test_the_very_octets_are_fetched_and_sizes_are_theirs(realm: Realm) -> None:
    client = realm.server.imap("INBOX")
    for number, octets in ((1, ONE), (2, TWO)):
        assert b"BODY[] {%d}\r\n%b)" % (len(octets), octets) in client.send(f"A FETCH {number} BODY.PEEK[]")
        assert b"RFC822.SIZE %d)" % len(octets) in client.send(f"A FETCH {number} RFC822.SIZE")
    assert b'INTERNALDATE " 1-Jan-2026 12:00:00 +0000"' in client.send("A UID FETCH 9 INTERNALDATE")
    assert b'"One"' in client.send("A FETCH 1 ENVELOPE")
    assert b"* SEARCH 9\r\n" in client.send("A UID SEARCH SUBJECT two")
    assert b"* SEARCH 1\r\n" in client.send("A SEARCH SEEN")


def test_flags_are_stored_in_the_realm(realm: Realm) -> None:
    client = realm.server.imap("INBOX")
    assert b"* 2 FETCH (FLAGS (\\Recent \\Flagged))" in client.send("A STORE 2 +FLAGS (\\Flagged)")
    assert realm.inbox.messages[1].flags == {"\\Flagged"}
    assert b"* 2 FETCH (FLAGS (\\Recent \\Flagged \\Seen) BODY[TEXT]" in client.send("A FETCH 2 BODY[TEXT]")
    assert b"FLAGS (\\Recent Later)" in client.send("A UID STORE 9 FLAGS (Later)")
    assert b"FLAGS (\\Recent)" in client.send("A UID STORE 9 -FLAGS (LATER)")
    assert realm.inbox.messages[1].flags == set()


def test_append_copy_move_and_expunge(realm: Realm) -> None:
    client = realm.server.imap("INBOX")
    assert client.send("A APPEND INBOX (\\Seen) {16}").startswith(b"+ ")
    assert b"A OK [APPENDUID" in client.send(b"Subject: Three\r\n")
    assert realm.inbox.messages[2].octets == b"Subject: Three\r\n"
    assert realm.inbox.messages[2].flags == {"\\Seen"}
    sent = realm.mailboxes["SENT"]
    assert b"A OK [COPYUID %d 7,9 1:2]" % sent.validity in client.send("A COPY 1:2 Sent")
    assert [(each.octets, each.flags, each.date) for each in sent.messages] == [
        (ONE, {"\\Seen"}, DATE),
        (TWO, set(), DATE),
    ]
    assert b"A OK" in client.send("A STORE 1:2 +FLAGS.SILENT (\\Deleted)")
    assert client.send("A UID EXPUNGE 9") == b"* 2 EXPUNGE\r\n* 1 RECENT\r\nA OK Completed\r\n"
    assert [(each.uid, each.flags) for each in realm.inbox.messages] == [
        (7, {"\\Seen", "\\Deleted"}),
        (10, {"\\Seen"}),
    ]
    assert b"[COPYUID %d 10 3]" % sent.validity in client.send("A UID MOVE 10 Sent")
    assert client.send("A EXPUNGE") == b"* 1 EXPUNGE\r\nA OK Completed\r\n"
    assert (len(realm.inbox.messages), len(sent.messages)) == (0, 3)
    assert b"A NO [TRYCREATE]" in client.send("A APPEND Nowhere {5}")


def test_an_idler_hears_what_the_realm_tells_its_listeners(realm: Realm) -> None:
    client = realm.server.imap("INBOX")
    client.send("A IDLE")
    realm.add(12, b"Subject: New\r\n\r\n", [])
    assert b"* 3 EXISTS\r\n" in client.taken()
    realm.inbox.messages[0].flags.add("\\Flagged")
    realm.inbox.listeners[0].flagsChanged({1: ("\\Flagged",)})
    assert b"* 1 FETCH (UID 7 FLAGS (\\Flagged \\Seen))\r\n" in client.taken()
    del realm.inbox.messages[1]
    realm.inbox.listeners[0].newMessages(2, None)
    assert b"* 2 EXPUNGE\r\n" in client.taken()
    client.send("DONE")
    client.send("A UNSELECT")
    assert realm.inbox.listeners == []


def test_sessions_hear_of_each_other_and_a_client_that_asks_of_what_nobody_told(realm: Realm) -> None:
    one, other = realm.server.imap("INBOX"), realm.server.imap("INBOX")
    one.send("A STORE 2 +FLAGS (\\Answered)")
    assert b"* 2 FETCH (UID 9 FLAGS (\\Answered))" in other.send("A NOOP")
    one.send("A STORE 1 +FLAGS (\\Deleted)")
    one.send("A EXPUNGE")
    assert b"BODY[] {%d}\r\n%b)" % (len(ONE), ONE) in other.send("A FETCH 1 BODY.PEEK[]")
    assert b"* 1 EXPUNGE\r\n" in other.send("A NOOP")
    realm.inbox.messages[0].flags = {"\\Draft"}
    assert b"* 1 FETCH (UID 9 FLAGS (\\Draft))" in other.send("A NOOP")


def test_a_mailbox_that_cannot_be_written_is_read_only(realm: Realm) -> None:
    realm.inbox.writeable = False
    client = realm.server.imap()
    opened = client.send("A SELECT INBOX")
    assert b"A OK [READ-ONLY]" in opened
    assert b"[PERMANENTFLAGS ()]" in opened
    assert b"A NO [NOPERM]" in client.send("A STORE 1 +FLAGS (\\Deleted)")
    assert b"A NO [NOPERM]" in client.send("A APPEND INBOX {3}")
    realm.inbox.writeable = True
    realm.inbox.listeners[0].modeChanged(True)
    assert b"A OK" in client.send("A STORE 1 +FLAGS (\\Deleted)")


def test_the_realm_is_told_of_the_end(realm: Realm) -> None:
    client = realm.server.imap("INBOX")
    client.drop()
    client.taken()
    assert len(realm.server.logouts) == 1
    assert realm.inbox.listeners == []


def test_another_uidvalidity_is_another_mailbox(realm: Realm) -> None:
    client = realm.server.imap("INBOX")
    realm.inbox.validity = 77
    assert b"UIDVALIDITY 77" in realm.server.imap().send("A SELECT INBOX")
    assert b"* BYE" in client.send("A NOOP")


def test_pop3_shows_its_inbox(realm: Realm) -> None:
    client = realm.server.pop3()
    assert client.send("RETR 1").endswith(ONE + b".\r\n")
    realm.inbox.messages[1].flags = {"\\Deleted"}
    client.send("DELE 1")
    assert client.send("QUIT").startswith(b"+OK")
    assert [(each.uid, each.flags) for each in realm.inbox.messages] == [(9, {"\\Deleted"})]


def test_a_message_is_read_through_once_whatever_object_stands_for_its_mailbox(realm: Realm) -> None:
    opened: list[int] = []

    def counted(message: Any) -> Any:
        def opens() -> BytesIO:
            opened.append(message.uid)
            return BytesIO(message.octets)

        return opens

    messages: list[Any] = list(realm.inbox.messages)
    for message in messages:
        message.open = counted(message)
    account: Any = realm.account
    account.select = lambda name, rw=True: copy(realm.inbox)
    first = realm.server.imap("INBOX")
    second = realm.server.imap("INBOX")
    assert b"ENVELOPE" in second.send("A FETCH 1:2 ENVELOPE")
    assert sorted(opened) == [7, 9]
    first.send("A STORE 1 +FLAGS (\\Flagged)")
    assert b"FLAGS (\\Flagged \\Seen)" in second.send("A NOOP")
