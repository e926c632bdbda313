"""Realms that raise, give nonsense, or never answer: the client gets the protocol's temporary failure, the log the name
of the method, and everybody else is served."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from io import BytesIO
from itertools import count
from typing import Any

import pytest
from twisted.internet.defer import Deferred, fail
from twisted.logger import LogEvent, capturedLogs, formatEvent
from twisted.mail.imap4 import MailboxException, ReadOnlyMailbox
from twisted.mail.interfaces import IAccountIMAP, IMailboxPOP3, IMessageIMAPCopier
from twisted.mail.maildir import StringListMailbox
from zope.interface import directlyProvides, providedBy

from tests.foreign.realms import MemoryAccount, MemoryMailbox, MemoryMessage
from tests.foreign.rig import Client, Server

ONE = b"Subject: one\r\n\r\n1\r\n"


def raises(*arguments: Any, **named: Any) -> Any:
    raise KeyError("broken")


def leaves(*arguments: Any, **named: Any) -> Any:
    sys.exit(1)


def never(*arguments: Any, **named: Any) -> Deferred[Any]:
    return Deferred()


def gives(what: Any) -> Callable[..., Any]:
    return lambda *arguments, **named: what


class Realm:
    """An account with three messages in INBOX."""

    def __init__(self, **options: Any) -> None:
        self.account: Any = MemoryAccount("b")
        self.inbox: Any = self.account.mailboxes["INBOX"]
        self.sent: Any = self.account.mailboxes["SENT"]
        for number in range(3):
            self.inbox.addMessage(BytesIO(b"Subject: %d\r\n\r\n" % number), [])
        self.server = Server(IAccountIMAP, lambda: self.account, **options)

    def send(self, client: Client, line: str) -> bytes:
        """The answer, when the realm has had all the time that it may take."""
        answer = client.send(line)
        while b"\r\nA " not in b"\r\n" + answer:
            self.server.clock.advance(31)
            more = client.taken()
            assert more, "there is no answer"
            answer += more
        return answer


@pytest.fixture
def realm() -> Realm:
    return Realm()


def said(events: Sequence[LogEvent]) -> str:
    return "\n".join(str(formatEvent(event)) for event in events)


BAD = [raises, leaves, never, gives(fail(ValueError("late"))), gives(17), gives([17]), gives("text")]
NAMES = ["raises", "leaves", "never", "fails", "number", "numbers", "text"]


@pytest.mark.parametrize("bad", BAD, ids=NAMES)
@pytest.mark.parametrize("method", ["select", "listMailboxes", "create", "delete", "isSubscribed", "subscribe"])
def test_a_bad_account_is_named_and_tells_the_client_to_come_again(realm: Realm, method: str, bad: Any) -> None:
    commands = {
        "select": "A STATUS INBOX (MESSAGES)",
        "listMailboxes": 'A LIST "" *',
        "create": "A CREATE NEW",
        "delete": "A DELETE SENT",
        "isSubscribed": 'A LSUB "" *',
        "subscribe": "A SUBSCRIBE SENT",
    }
    client = realm.server.imap()
    setattr(realm.account, method, bad)
    with capturedLogs() as events:
        answer = realm.send(client, commands[method])
    if method in ("create", "delete", "isSubscribed", "subscribe") and bad in BAD[4:]:
        assert b"A OK" in answer  # anything may be true, and not all of these have an answer
        return
    assert b"A NO [UNAVAILABLE]" in answer
    assert f"method={method}" in said(events)
    assert "realm=theirs" in said(events)


@pytest.mark.parametrize("bad", BAD, ids=NAMES)
@pytest.mark.parametrize("method", ["fetch", "getMessageCount", "getUIDValidity", "getFlags"])
def test_a_bad_mailbox_is_named_and_others_are_served(realm: Realm, method: str, bad: Any) -> None:
    client = realm.server.imap()
    if (method, bad) in (("getMessageCount", BAD[4]), ("getUIDValidity", BAD[4])):
        return  # a number is what it should be
    setattr(realm.inbox, method, bad)
    if method == "getFlags" and bad is BAD[5]:
        return  # there are flags of all kinds
    assert b"A NO [UNAVAILABLE]" in realm.send(client, "A SELECT INBOX")
    assert b"A OK" in realm.send(client, "A SELECT SENT")


@pytest.mark.parametrize(
    "uids", [[0, 1, 2], [1, 1, 2], [1, 2, 2**32], ["a", "b", "c"], [None, 1, 2], [-1, 1, 2]], ids=str
)
def test_uids_that_cannot_be_are_nonsense(realm: Realm, uids: list[Any]) -> None:
    for message, uid in zip(realm.inbox.messages, uids, strict=True):
        message.uid = uid
    realm.inbox.fetch = lambda which, uid: enumerate(realm.inbox.messages, 1)
    assert b"A NO [UNAVAILABLE]" in realm.send(realm.server.imap(), "A SELECT INBOX")


def test_a_list_without_end_is_cut_off(realm: Realm, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mailhub.foreign.folder.MESSAGES", 1000)
    realm.inbox.fetch = lambda which, uid: ((n, MemoryMessage(n, ONE, (), None)) for n in count(1))
    assert b"A NO [UNAVAILABLE]" in realm.send(realm.server.imap(), "A SELECT INBOX")


class Endless:
    def __init__(self) -> None:
        self.closed = 0

    def read(self, size: int) -> bytes:
        return b"x" * size

    def close(self) -> None:
        self.closed += 1


def test_messages_that_cannot_be_read_are_left_out_and_named() -> None:
    realm = Realm(message_octets=1000)
    endless = Endless()
    realm.inbox.messages[0].open = raises
    realm.inbox.messages[1].open = lambda: endless
    client = realm.server.imap()
    with capturedLogs() as events:
        assert b"* 1 EXISTS" in realm.send(client, "A SELECT INBOX")
    assert b"BODY[] {14}" in realm.send(client, "A UID FETCH 1:* BODY.PEEK[]")
    assert endless.closed == 1
    assert "UID 1 cannot be read: KeyError" in said(events)
    assert "UID 2 cannot be read: gave a message of more than 1000 octets" in said(events)
    realm.inbox.addMessage(BytesIO(ONE), [])
    assert b"* 2 EXISTS" in realm.send(client, "A NOOP")


def test_a_message_that_changes_its_octets_is_gone_and_named(realm: Realm) -> None:
    client = realm.server.imap("INBOX")
    realm.inbox.messages[1].octets = b"Subject: another\r\n\r\n"
    with capturedLogs() as events:
        assert b"A NO [EXPUNGEISSUED]" in realm.send(client, "A FETCH 2 BODY.PEEK[]")
    assert "UID 2 has other octets than before" in said(events)
    assert b"* 2 EXPUNGE" in realm.send(client, "A NOOP")
    assert b"BODY[] {14}" in realm.send(client, "A FETCH 2 BODY.PEEK[]")


def test_a_message_that_comes_below_others_is_left_out_and_named(realm: Realm) -> None:
    del realm.inbox.messages[0]
    client = realm.server.imap("INBOX")
    realm.inbox.messages.insert(0, MemoryMessage(1, ONE, (), None))
    with capturedLogs() as events:
        assert b"EXISTS" not in realm.send(client, "A NOOP")
    assert "UID 1 has come after UID 3" in said(events)


@pytest.mark.parametrize(
    ("bad", "code"),
    [
        (raises, b"[UNAVAILABLE]"),
        (never, b"[UNAVAILABLE]"),
        (gives(None), b"[UNAVAILABLE]"),  # it was added, and is not there
        (gives(fail(ReadOnlyMailbox())), b"[NOPERM]"),
        (gives(fail(MailboxException("No room\r\nA OK"))), b"No room A OK\r\n"),
    ],
)
def test_what_cannot_be_added_is_refused(realm: Realm, bad: Any, code: bytes) -> None:
    client = realm.server.imap("INBOX")
    realm.inbox.addMessage = bad
    client.send(f"A APPEND INBOX {{{len(ONE)}}}")
    answer = realm.send(client, ONE.decode())
    assert answer.startswith(b"A NO ")
    assert code in answer
    assert answer.count(b"\r\n") == 1
    assert len(realm.inbox.messages) == 3


def test_a_copy_that_fails_half_way_leaves_nothing(realm: Realm) -> None:
    realm.sent.addMessage(BytesIO(b"Subject: 0\r\n\r\n"), ["\\Deleted"])
    add, added = realm.sent.addMessage, []

    def third_time(*arguments: Any) -> Any:
        added.append(arguments)
        return raises() if len(added) == 3 else add(*arguments)

    realm.sent.addMessage = third_time
    client = realm.server.imap("INBOX")
    assert b"A NO [UNAVAILABLE]" in realm.send(client, "A MOVE 1:3 SENT")
    assert len(realm.inbox.messages) == 3
    assert [(message.uid, message.flags) for message in realm.sent.messages] == [(1, {"\\Deleted"})]


def test_a_move_whose_originals_cannot_be_removed_leaves_no_copies(realm: Realm) -> None:
    realm.inbox.expunge = raises
    realm.inbox.messages[2].flags = {"\\Deleted"}
    client = realm.server.imap("INBOX")
    assert b"A NO [UNAVAILABLE]" in realm.send(client, "A MOVE 1 SENT")
    assert realm.sent.messages == []
    assert len(realm.inbox.messages) == 3
    assert realm.inbox.messages[2].flags == {"\\Deleted"}


def test_a_copier_is_asked_where_there_is_one(realm: Realm) -> None:
    copied: list[Any] = []

    def copy(message: Any) -> int:
        copied.append(message)
        realm.sent.messages.append(MemoryMessage(realm.sent.uid_next, message.octets, message.flags, message.date))
        realm.sent.uid_next += 1
        return int(realm.sent.uid_next) - 1

    realm.sent.copy = copy
    directlyProvides(realm.sent, providedBy(realm.sent) + IMessageIMAPCopier)
    client = realm.server.imap("INBOX")
    assert b"COPYUID %d 2:3 1:2]" % realm.sent.validity in realm.send(client, "A COPY 2:3 SENT")
    assert copied == realm.inbox.messages[1:]


def test_names_that_cannot_be_are_not_listed(realm: Realm) -> None:
    for name in ("a\0b", "../up", "", "x//y", "\ud800", "n\r\nA OK"):
        realm.account.mailboxes[name] = MemoryMailbox(9)
    assert realm.send(realm.server.imap(), 'A LIST "" *').count(b"\r\n") == 3


@pytest.mark.parametrize("delimiter", ["/", ".", None])
def test_names_that_could_mean_files_do_not_reach_the_realm(realm: Realm, delimiter: str | None) -> None:
    asked: list[str] = []
    for name in ("select", "create", "delete", "rename", "subscribe", "unsubscribe"):
        setattr(realm.account, name, lambda name, *_: asked.append(name))
    realm.account.getPersonalNamespaces = lambda: [["", delimiter]]
    for mailbox in (realm.inbox, realm.sent):
        mailbox.getHierarchicalDelimiter = lambda: delimiter
    client = realm.server.imap()
    other = ".etc.passwd" if delimiter == "." else "/etc/passwd"
    for bad in ("../up", "a/../b", "/etc/passwd", "a//b", "#news", "a/.", other):
        for command in ("SELECT {}", "STATUS {} (MESSAGES)", "CREATE {}", "DELETE {}", "RENAME {} new", "SUBSCRIBE {}"):
            answer = realm.send(client, f"A {command.format(bad)}")
            assert b"A NO " in answer, bad
    assert [name for name in asked if ".." in name or name.startswith(("/", "."))] == []


def test_an_avatar_of_another_kind_has_nothing() -> None:
    server = Server(IAccountIMAP, object)
    client = server.imap()
    assert b"A NO [UNAVAILABLE]" in client.send('A LIST "" *')
    assert b"B NO [UNAVAILABLE]" in client.send("B SELECT INBOX")
    client = Client(server, "imap")
    pop3 = Client(Server(IMailboxPOP3, object), "pop3")
    pop3.send("USER b@yy.example")
    assert pop3.send("PASS secret").startswith(b"-ERR [SYS/TEMP]")


@pytest.mark.parametrize("bad", BAD, ids=NAMES)
@pytest.mark.parametrize("method", ["listMessages", "getUidl"])
def test_a_bad_maildrop_is_refused_at_login(method: str, bad: Any) -> None:
    mailbox: Any = StringListMailbox([ONE, ONE])  # type: ignore[no-untyped-call]
    if (method, bad) == ("getUidl", BAD[-1]):
        return  # equal messages may have the same (RFC 1939 7)
    setattr(mailbox, method, bad)
    server = Server(IMailboxPOP3, lambda: mailbox)
    client = Client(server, "pop3")
    client.send("USER b@yy.example")
    answer = client.send("PASS secret")
    if not answer:
        server.clock.advance(31)
        answer = client.taken()
    assert answer.startswith(b"+OK" if bad is BAD[5] and method == "listMessages" else b"-ERR [SYS/TEMP]")


def test_one_message_that_cannot_be_read_keeps_nobody_from_the_others() -> None:
    class Torn(StringListMailbox):
        def getMessage(self, i: int) -> Any:
            return super().getMessage(i) if i else raises()

    client = Server(IMailboxPOP3, lambda: Torn([b"gone", ONE])).pop3()  # type: ignore[no-untyped-call]
    assert client.send("STAT") == b"+OK 1 %d\r\n" % len(ONE)
    assert client.send("RETR 1").endswith(ONE + b".\r\n")


def test_a_realm_that_fails_again_and_again_rests(realm: Realm) -> None:
    client = realm.server.imap()
    realm.account.select = raises
    for _ in range(8):
        realm.send(client, "A STATUS INBOX (MESSAGES)")
    assert realm.server.foreign.guard.rested == 3
    assert realm.server.foreign.guard.errors == 5
