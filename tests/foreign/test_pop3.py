"""What POP3 shows of Twisted's own mailboxes: a list of messages, and a Maildir."""

from __future__ import annotations

from hashlib import md5
from pathlib import Path
from typing import Any

import pytest
from twisted.mail.interfaces import IMailboxPOP3
from twisted.mail.maildir import StringListMailbox
from twisted.mail.pop3 import IMailbox

from mailhub.store.guarded.asking import Asking
from mailhub.store.guarded.store import GuardedAccount
from tests.foreign.realms import MaildropRealm, maildir_domain
from tests.foreign.rig import Client, Server

ONE = b"Subject: one\r\n\r\nfirst\r\n.second\r\n"
TWO = b"Subject: two\r\n\r\n\xe9\r\n"


def server(messages: list[bytes]) -> Server:
    realm = MaildropRealm(messages)
    return Server(IMailboxPOP3, lambda: realm.requestAvatar(b"b", None, IMailbox)[1])


def test_messages_are_listed_and_read() -> None:
    client = server([ONE, TWO]).pop3()
    assert client.send("STAT") == b"+OK 2 %d\r\n" % (len(ONE) + len(TWO))
    assert client.send("RETR 1").endswith(b"\r\nSubject: one\r\n\r\nfirst\r\n..second\r\n.\r\n")
    assert client.send("RETR 2").endswith(b"\r\n" + TWO + b".\r\n")
    assert client.send("TOP 1 1").endswith(b"\r\nSubject: one\r\n\r\nfirst\r\n.\r\n")
    assert b"-ERR" in client.send("RETR 3")


def test_unique_ids_are_the_realms() -> None:
    client = server([ONE, TWO]).pop3()
    ids = [md5(octets).hexdigest() for octets in (ONE, TWO)]  # as Twisted's mailbox makes them
    assert client.send("UIDL").decode().split("\r\n")[1:3] == [f"1 {ids[0]}", f"2 {ids[1]}"]
    assert client.send("UIDL 2").decode() == f"+OK 2 {ids[1]}\r\n"


def test_a_guarded_store_has_unique_ids_of_its_own_as_well() -> None:
    played = server([ONE, TWO])
    made = played.gate.avatar

    def guarded(user: str) -> GuardedAccount:
        return GuardedAccount(Asking(played.foreign.guard, made(user), "account", {}), user)

    played.gate.avatar = guarded
    ids = [md5(octets).hexdigest() for octets in (ONE, TWO)]
    assert played.pop3().send("UIDL").decode().split("\r\n")[1:3] == [f"1 {ids[0]}", f"2 {ids[1]}"]


@pytest.mark.parametrize("bad", [None, {1: 7}, "text"])
def test_a_guarded_store_that_gives_nonsense_for_unique_ids_is_refused(bad: Any) -> None:
    played = server([ONE])
    made = played.gate.avatar

    def guarded(user: str) -> GuardedAccount:
        account = made(user)
        account._inbox.unique_ids = lambda uids: bad
        return GuardedAccount(Asking(played.foreign.guard, account, "account", {}), user)

    played.gate.avatar = guarded
    client = Client(played, "pop3")
    client.send("USER b@yy.example")
    assert client.send("PASS secret").startswith(b"-ERR [SYS/TEMP]")


def test_nothing_is_marked_in_the_realm_before_quit() -> None:
    messages: list[Any] = [ONE, TWO]
    mailboxes: list[StringListMailbox] = []

    def avatar() -> StringListMailbox:
        mailboxes.append(StringListMailbox(messages))  # type: ignore[no-untyped-call]
        return mailboxes[-1]

    played = Server(IMailboxPOP3, avatar)
    client = played.pop3()
    client.send("DELE 1")
    assert mailboxes[0]._delete == set()
    client.drop()
    assert messages == [ONE, TWO]
    client = played.pop3()
    client.send("DELE 2")
    client.send("RSET")
    client.send("DELE 1")
    assert client.send("QUIT").startswith(b"+OK")
    client.drop()
    assert messages == ["", TWO]
    assert len(played.logouts) == 2
    # What is empty was removed.
    client = played.pop3()
    assert client.send("LIST").decode().split("\r\n")[1:] == [f"1 {len(TWO)}", ".", ""]
    assert client.send("RETR 1").endswith(b"\r\n" + TWO + b".\r\n")


def test_a_maildir_of_twisteds_is_served(tmp_path: Path) -> None:
    domain = maildir_domain(tmp_path / "mail", b"b", b"secret")
    folder = tmp_path / "mail" / "b"
    # As others put it there: lines end as on this machine, and octets are no UTF-8.
    octets = b"Subject: \xe9\n\nhello\n"
    (folder / "new" / "1.M1.here").write_bytes(octets)
    (folder / "new" / "2.M1.here").write_bytes(b"Subject: two\n\n")
    played = Server(IMailboxPOP3, lambda: domain.requestAvatar(b"b", None, IMailbox)[1])
    client = played.pop3()
    assert client.send("LIST 1") == b"+OK 1 %d\r\n" % len(octets.replace(b"\n", b"\r\n"))
    assert client.send("RETR 1").endswith(b"\r\nSubject: \xe9\r\n\r\nhello\r\n.\r\n")
    assert md5(b"1.M1.here").hexdigest().encode() in client.send("UIDL 1")
    assert client.send("QUIT").startswith(b"+OK")
    assert (folder / "new" / "1.M1.here").read_bytes() == octets


class Stubborn(StringListMailbox):
    """Cannot remove."""

    def deleteMessage(self, i: int) -> None:
        if i:
            raise OSError("read-only")
        super().deleteMessage(i)  # type: ignore[no-untyped-call]


def test_what_cannot_be_removed_leaves_no_marks() -> None:
    messages = [ONE, TWO]
    mailbox = Stubborn(messages)  # type: ignore[no-untyped-call]
    client = Server(IMailboxPOP3, lambda: mailbox).pop3()
    client.send("DELE 1")
    client.send("DELE 2")
    assert client.send("QUIT").startswith(b"-ERR [SYS/TEMP]")
    assert messages == [ONE, TWO]
    assert mailbox._delete == set()


def test_a_message_is_read_through_once() -> None:
    read: list[int] = []

    class Counted(StringListMailbox):
        def getMessage(self, i: int) -> Any:
            read.append(i)
            return super().getMessage(i)

    played = Server(IMailboxPOP3, lambda: Counted([ONE, TWO]))  # type: ignore[no-untyped-call]
    for _ in range(3):
        assert played.pop3().send("QUIT").startswith(b"+OK")
    assert read == [0, 1]


def test_equal_messages_have_the_same_unique_id() -> None:
    client = server([ONE, TWO, ONE]).pop3()
    first, second, third = client.send("UIDL").decode().split("\r\n")[1:4]
    assert first.split()[1] == third.split()[1] != second.split()[1]
    assert client.send("STAT") == b"+OK 3 %d\r\n" % (2 * len(ONE) + len(TWO))


def test_who_gives_all_messages_one_unique_id_has_their_sizes_right() -> None:
    mailbox: Any = StringListMailbox([ONE, TWO])  # type: ignore[no-untyped-call]
    mailbox.getUidl = lambda index: b"same"
    client = Server(IMailboxPOP3, lambda: mailbox).pop3()
    assert client.send("LIST").decode().split("\r\n")[1:3] == [f"1 {len(ONE)}", f"2 {len(TWO)}"]
