from __future__ import annotations

from collections.abc import Collection, Sequence
from random import Random
from typing import Any

import attrs
import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.logger import capturedLogs
from zope.interface import implementer

from mailhub.errors import AuthenticationFailed, Busy, MessageGone, NotPermitted, StoreUnavailable
from mailhub.interfaces import IBlobReader, IMailAccount, Origin
from mailhub.message.digest import columns, digest
from mailhub.message.line_ends import growth
from mailhub.message.record import DigestColumns, DigestName, Entry
from mailhub.net.driver import DriverFactory
from mailhub.net.networks import Networks
from mailhub.protocols.pop3 import OpenMaildrops, Pop3Options, Pop3Service
from tests.net.line_session import PEER, Peer
from tests.protocols.gate import FakeAuthenticator

ONE = b"Subject: one\r\n\r\n.first\r\nsecond\r\n"
BIG = b"Subject: big\r\n\r\n" + b"".join(b".%06d\r\n" % n for n in range(100_000))


@implementer(IBlobReader)
@attrs.define
class Reader:
    octets: bytes
    size: int
    fails_at: int = -1
    closed: int = 0

    async def read(self, offset: int = 0, length: int = -1) -> bytes:
        if 0 <= self.fails_at <= offset:
            raise StoreUnavailable
        return self.octets[offset : offset + length]

    def close(self) -> None:
        self.closed += 1


class Inbox:
    """An INBOX in a dictionary; of IMailbox it has what POP3 needs."""

    uid_validity = 17

    def __init__(self) -> None:
        self.messages: dict[int, bytes] = {4: ONE, 9: BIG, 10: b"Subject: three\r\n\r\n"}
        self.readers: list[Reader] = []
        self.expunged: list[tuple[int, ...]] = []
        self.trouble: Exception | None = None
        self.fails_at = -1
        self.holds = 0

    def hold(self) -> Inbox:
        self.holds += 1
        return self

    def end(self) -> None:
        self.holds -= 1

    async def entries(self, uids: Sequence[int] | None = None, since_modseq: int = 0) -> list[Entry]:
        if self.trouble is not None:
            raise self.trouble
        return [Entry(uid, frozenset(), 1, len(each), 0, growth(each)) for uid, each in self.messages.items()]

    async def digests(self, uids: Sequence[int], wanted: Collection[DigestName]) -> DigestColumns:
        return columns({uid: digest(self.messages[uid]) for uid in uids if uid in self.messages}, wanted)

    async def open(self, uid: int) -> Reader:
        if self.trouble is not None:
            raise self.trouble
        if uid not in self.messages:
            raise MessageGone
        octets = self.messages[uid]
        self.readers.append(Reader(octets, len(octets), self.fails_at))
        return self.readers[-1]

    async def expunge(self, uids: Sequence[int], deleted_only: bool = True) -> list[int]:
        assert not deleted_only
        if self.trouble is not None:
            raise self.trouble
        self.expunged.append(tuple(uids))
        return [uid for uid in uids if self.messages.pop(uid, None) is not None]


class Account:
    def __init__(self, user: str, inbox: Inbox) -> None:
        self.user = user
        self.inbox = inbox
        self.logouts = 0
        self.gate: Deferred[None] | None = None

    async def mailbox(self, name: str) -> Inbox:
        assert name == "INBOX"
        if self.gate is not None:
            await self.gate
        return self.inbox

    async def logout(self) -> None:
        self.logouts += 1


class Server:
    """A listener with its connections, in memory."""

    def __init__(self, service: str = "pop3", **options: Any) -> None:
        self.clock = Clock()
        self.inbox = Inbox()
        self.accounts: list[Account] = []
        self.gate: Deferred[None] | None = None
        self.authenticator = FakeAuthenticator(IMailAccount, self._account)
        self.service = Pop3Service(
            self.authenticator, OpenMaildrops(), Pop3Options(host="mx", **{"plaintext_login": True} | options)
        )
        self.factory = DriverFactory(self.service.session, self.clock, Random(1), service)

    def _account(self, user: str) -> Account:
        self.accounts.append(Account(user, self.inbox))
        self.accounts[-1].gate = self.gate
        return self.accounts[-1]

    def connect(self) -> Client:
        return Client(self)


class Client:
    def __init__(self, server: Server) -> None:
        self.connection: Any = server.factory.buildProtocol(PEER)
        self.peer = Peer()
        self.connection.makeConnection(self.peer)
        self.link: Any = next(link for link in server.factory.sessions if link.channel is self.connection)
        assert self.peer.taken() == b"+OK mx POP3 ready\r\n"

    def send(self, commands: bytes) -> bytes:
        self.connection.dataReceived(commands)
        return self.peer.taken()

    def login(self, user: bytes = b"b@yy.example") -> Client:
        assert b"3 messages" in self.send(b"USER " + user + b"\r\nPASS secret\r\n")
        return self

    def drop(self) -> None:
        """The line is cut."""
        self.connection.connectionLost(None)


def wire(message: bytes) -> bytes:
    """A message as a multi-line response carries it."""
    return message.replace(b"\r\n.", b"\r\n..") + b".\r\n"


class TestLogin:
    def test_the_origin_is_told(self) -> None:
        server = Server(service="pop3s")
        client = server.connect().login()
        assert server.authenticator.origins == [Origin("pop3s", "192.0.2.7", client.link.session_id, secure=False)]

    @pytest.mark.parametrize(
        ("trouble", "reply"),
        [
            (AuthenticationFailed(), b"-ERR [AUTH] Authentication failed\r\n"),
            (Busy(), b"-ERR [SYS/TEMP] Too busy, please try again later\r\n"),
            (NotPermitted("Account is locked"), b"-ERR [SYS/PERM] Account is locked\r\n"),
        ],
    )
    def test_refused(self, trouble: Exception, reply: bytes) -> None:
        server = Server()
        server.authenticator.trouble = trouble
        client = server.connect()
        assert client.send(b"USER b\r\nPASS x\r\n") == b"+OK Send PASS\r\n" + reply
        server.authenticator.trouble = None
        client.login()

    def test_a_store_in_trouble(self) -> None:
        server = Server()
        server.inbox.trouble = StoreUnavailable()
        client = server.connect()
        assert client.send(b"USER b\r\nPASS secret\r\n").endswith(
            b"-ERR [SYS/TEMP] Storage is not available, please try again later\r\n"
        )
        assert server.accounts[0].logouts == 1
        server.inbox.trouble = None
        client.login(b"b")

    def test_a_bug_in_the_store_locks_nobody_out(self) -> None:
        server = Server()
        server.inbox.trouble = ZeroDivisionError()
        client = server.connect()
        with capturedLogs() as logs:
            assert b"-ERR [SYS/TEMP] Internal error" in client.send(b"USER b\r\nPASS secret\r\n")
        assert len(logs) == 1
        server.inbox.trouble = None
        client.login(b"b")

    def test_silence_before_login_is_short(self) -> None:
        server = Server(login_seconds=60, idle_seconds=600)
        waiting, working = server.connect(), server.connect().login()
        server.clock.advance(60)
        assert (waiting.peer.taken(), waiting.peer.disconnecting) == (b"", True)
        assert not working.peer.disconnecting
        server.clock.advance(540)
        assert (working.peer.taken(), working.peer.disconnecting) == (b"", True)


class TestOneSession:
    def test_a_second_one_is_turned_away(self) -> None:
        server = Server()
        first = server.connect().login()
        second = server.connect()
        login = b"USER b@yy.example\r\nPASS secret\r\n"
        assert b"-ERR [IN-USE] " in second.send(login)
        assert server.accounts[1].logouts == 1
        server.connect().login(b"c@yy.example")
        first.drop()
        assert server.accounts[0].logouts == 1
        assert b"+OK 3 messages" in second.send(login)

    def test_quit_lets_the_next_one_in(self) -> None:
        server = Server()
        first = server.connect().login()
        first.send(b"QUIT\r\n")
        assert first.peer.disconnecting
        # RFC 1939 6: the lock goes with the answer, not only when the client has closed its side as well.
        second = server.connect().login()
        first.drop()
        assert b"-ERR [IN-USE]" in server.connect().send(b"USER b@yy.example\r\nPASS secret\r\n")
        second.drop()
        server.connect().login()

    def test_a_silent_one_gives_way(self) -> None:
        server = Server()
        first = server.connect().login()
        first.send(b"DELE 1\r\n")
        server.clock.advance(29)
        login = b"USER b@yy.example\r\nPASS secret\r\n"
        second = server.connect()
        assert b"-ERR [IN-USE]" in second.send(login)
        server.clock.advance(1)
        assert b"+OK 3 messages" in second.send(login)
        assert first.peer.taken() == b"-ERR [SYS/TEMP] Another session has taken the maildrop over\r\n"
        assert first.peer.disconnecting
        # What it says now comes too late: nothing is removed (RFC 1939 6).
        first.send(b"QUIT\r\n")
        first.drop()
        assert server.inbox.expunged == []
        # Its end does not take the maildrop from its successor.
        assert b"-ERR [IN-USE]" in server.connect().send(login)
        second.send(b"DELE 1\r\nQUIT\r\n")
        assert server.inbox.expunged == [(4,)]

    def test_one_that_says_something_is_not_silent(self) -> None:
        server = Server()
        first = server.connect().login()
        for _ in range(5):
            server.clock.advance(20)
            first.send(b"NOOP\r\n")
        assert b"-ERR [IN-USE]" in server.connect().send(b"USER b@yy.example\r\nPASS secret\r\n")

    def test_one_that_takes_nothing_of_its_message_gives_way(self) -> None:
        server = Server()
        first = server.connect().login()
        first.peer.slow = True
        first.send(b"RETR 2\r\n")
        server.clock.advance(30)
        server.connect().login()
        assert first.peer.disconnected

    def test_one_that_is_being_updated_does_not_give_way(self) -> None:
        server = Server()
        first = server.connect().login()
        gate = Deferred[None]()
        expunge = server.inbox.expunge

        async def slowly(uids: Sequence[int], deleted_only: bool = True) -> list[int]:
            await gate
            return await expunge(uids, deleted_only)

        server.inbox.expunge = slowly  # type: ignore[method-assign]
        first.send(b"DELE 1\r\nQUIT\r\n")
        server.clock.advance(40)
        assert b"-ERR [IN-USE]" in server.connect().send(b"USER b@yy.example\r\nPASS secret\r\n")
        gate.callback(None)
        assert first.peer.taken() == b"+OK Bye\r\n"

    def test_the_one_turned_away_holds_nothing(self) -> None:
        server = Server()
        first = server.connect().login()
        second = server.connect()
        second.send(b"USER b@yy.example\r\nPASS secret\r\n")
        second.drop()
        assert b"-ERR [IN-USE]" in server.connect().send(b"USER b@yy.example\r\nPASS secret\r\n")
        first.drop()
        server.connect().login()

    def test_a_line_cut_during_login_leaves_no_lock(self) -> None:
        server = Server()
        server.gate = gate = Deferred[None]()
        client = server.connect()
        client.send(b"USER b@yy.example\r\nPASS secret\r\n")
        client.drop()
        gate.callback(None)
        server.gate = None
        server.connect().login()


class TestMessages:
    def test_retr_and_top(self) -> None:
        client = Server().connect().login()
        assert client.send(b"RETR 1\r\n") == b"+OK 32 octets\r\n" + wire(ONE)
        assert client.send(b"TOP 1 1\r\n") == b"+OK Top of message follows\r\nSubject: one\r\n\r\n..first\r\n.\r\n"
        assert client.send(b"TOP 3 5\r\n") == b"+OK Top of message follows\r\nSubject: three\r\n\r\n.\r\n"
        assert client.send(b"UIDL 1\r\n") == b"+OK 1 17.4\r\n"

    @pytest.mark.parametrize(
        ("octets", "size"),
        [(b"a: b\n\n.c\n", 12), (b"a: b\r\n\r\nno end", 16), (b"a: b\r\rmac\r", 13), (b"a: b\n" * 20_000, 120_000)],
    )
    def test_sizes_are_those_of_what_is_sent(self, octets: bytes, size: int) -> None:
        server = Server()
        server.inbox.messages[4] = octets
        client = server.connect().login()
        assert client.send(b"LIST 1\r\n") == b"+OK 1 %d\r\n" % size
        assert client.send(b"DELE 2\r\nDELE 3\r\nSTAT\r\n").endswith(b"+OK 1 %d\r\n" % size)
        reply, _, sent = client.send(b"RETR 1\r\n").partition(b"\r\n")
        assert reply == b"+OK %d octets" % size
        assert sent.endswith(b"\r\n.\r\n")
        assert len(sent.replace(b"\r\n..", b"\r\n.")) == size + 3

    def test_a_message_without_octets(self) -> None:
        server = Server()
        server.inbox.messages[4] = b""
        client = server.connect().login()
        assert client.send(b"RETR 1\r\nTOP 1 3\r\n") == b"+OK 0 octets\r\n.\r\n+OK Top of message follows\r\n.\r\n"

    def test_top_reads_no_more_than_it_needs(self) -> None:
        server = Server()
        client = server.connect().login()
        server.inbox.fails_at = 8192
        assert client.send(b"TOP 2 3\r\n").endswith(b"\r\n\r\n..000000\r\n..000001\r\n..000002\r\n.\r\n")
        assert [reader.closed for reader in server.inbox.readers] == [1]

    def test_a_slow_reader_never_grows_memory(self) -> None:
        server = Server()
        client = server.connect().login()
        client.peer.slow = True
        client.connection.dataReceived(b"RETR 2\r\nNOOP\r\n")
        while client.peer.full:
            assert client.peer.held < 3 * 65536
            client.peer.drain()
        assert client.peer.taken() == b"+OK %d octets\r\n" % len(BIG) + wire(BIG) + b"+OK\r\n"
        assert [reader.closed for reader in server.inbox.readers] == [1]

    def test_taken_away_by_another_session(self) -> None:
        server = Server()
        client = server.connect().login()
        del server.inbox.messages[4]
        assert client.send(b"RETR 1\r\nTOP 1 0\r\nNOOP\r\n") == b"-ERR Message is gone\r\n" * 2 + b"+OK\r\n"
        assert client.send(b"DELE 1\r\nDELE 2\r\nQUIT\r\n").endswith(b"+OK Bye\r\n")
        assert list(server.inbox.messages) == [10]

    def test_the_store_is_asked_to_keep_messages_readable_until_the_session_ends(self) -> None:
        server = Server()
        client = server.connect().login()
        assert server.inbox.holds == 1
        client.send(b"QUIT\r\n")
        client.drop()
        assert server.inbox.holds == 0
        server.inbox.trouble = StoreUnavailable()
        assert b"-ERR" in server.connect().send(b"USER b@yy.example\r\nPASS secret\r\n")
        assert server.inbox.holds == 0

    def test_what_arrives_later_is_not_shown(self) -> None:
        server = Server()
        client = server.connect().login()
        server.inbox.messages[11] = b"new"
        assert client.send(b"STAT\r\n") == b"+OK 3 %d\r\n" % (len(ONE) + len(BIG) + 18)
        assert client.send(b"LIST 4\r\n") == b"-ERR No such message\r\n"

    def test_an_unreadable_message_is_refused(self) -> None:
        server = Server()
        client = server.connect().login()
        server.inbox.fails_at = 0
        with capturedLogs() as logs:
            assert client.send(b"RETR 1\r\nNOOP\r\n").startswith(b"-ERR [SYS/TEMP] Storage is not available")
        assert [event["log_format"].partition(":")[0] for event in logs] == ["message cannot be read"]
        assert not client.peer.disconnecting

    @pytest.mark.parametrize("command", [b"RETR 2", b"TOP 2 99999"])
    def test_a_message_cut_short_must_not_look_whole(self, command: bytes) -> None:
        server = Server()
        client = server.connect().login()
        server.inbox.fails_at = 65536
        with capturedLogs():
            octets = client.send(command + b"\r\nNOOP\r\n")
        assert octets.startswith(b"+OK")
        assert not octets.endswith((b".\r\n", b"+OK\r\n"))
        assert client.peer.disconnected
        assert server.inbox.readers[0].closed == 1

    def test_a_bug_in_the_middle_of_a_message_cuts_too(self) -> None:
        server = Server()
        client = server.connect().login()

        class Buggy(Reader):
            async def read(self, offset: int = 0, length: int = -1) -> bytes:
                return b"x" if offset == 0 else bytes(1 // 0)

        async def open_buggy(uid: int) -> Reader:
            return Buggy(b"", 100)

        server.inbox.open = open_buggy  # type: ignore[method-assign]
        with capturedLogs():
            assert not client.send(b"RETR 2\r\nNOOP\r\n").endswith((b".\r\n", b"+OK\r\n"))
        assert client.peer.disconnected

    def test_a_bug_before_a_message_costs_one_answer(self) -> None:
        server = Server()
        client = server.connect().login()
        server.inbox.trouble = ZeroDivisionError()
        with capturedLogs():
            assert client.send(b"RETR 1\r\nNOOP\r\n") == (
                b"-ERR [SYS/TEMP] Internal error, please try again later\r\n+OK\r\n"
            )


class TestRevoked:
    """The password or the account has changed."""

    def revoke(self, server: Server) -> None:
        (revoked,) = server.authenticator.revoked.values()
        revoked()

    def test_the_session_ends_without_update(self) -> None:
        server = Server()
        client = server.connect().login()
        client.send(b"DELE 1\r\n")
        self.revoke(server)
        farewell = b"-ERR [SYS/TEMP] Password or account has changed, please log in again\r\n"
        assert (client.peer.taken(), client.peer.disconnecting) == (farewell, True)
        client.send(b"QUIT\r\n")
        client.drop()
        assert server.inbox.expunged == []
        assert server.authenticator.revoked == {}, "the gate is told that the session is over"

    def test_a_peer_that_takes_nothing_is_cut(self) -> None:
        server = Server()
        client = server.connect().login()
        client.peer.slow = True
        client.send(b"RETR 2\r\n")
        self.revoke(server)
        server.clock.advance(5)
        assert client.peer.disconnected


class TestUpdate:
    def test_dele_takes_effect_at_quit(self) -> None:
        server = Server()
        client = server.connect().login()
        client.send(b"DELE 1\r\nDELE 3\r\n")
        assert list(server.inbox.messages) == [4, 9, 10]
        server.inbox.messages[11] = b"later"
        assert client.send(b"QUIT\r\n") == b"+OK Bye\r\n"
        assert list(server.inbox.messages) == [9, 11]
        assert server.inbox.expunged == [(4, 10)]

    def test_not_without_quit(self) -> None:
        server = Server()
        client = server.connect().login()
        client.send(b"DELE 1\r\nDELE 2\r\nQUI")
        client.connection.readConnectionLost()
        client.drop()
        assert server.inbox.expunged == []

    def test_not_when_the_client_falls_silent(self) -> None:
        server = Server()
        client = server.connect().login()
        client.send(b"DELE 1\r\n")
        server.clock.advance(600)
        client.drop()
        assert server.inbox.expunged == []

    def test_not_when_we_stop(self) -> None:
        server = Server()
        client = server.connect().login()
        client.send(b"DELE 1\r\n")
        Deferred.fromCoroutine(server.factory.stop())
        assert client.peer.taken() == b"-ERR [SYS/TEMP] Server is shutting down\r\n"
        client.drop()
        assert server.inbox.expunged == []

    def test_a_failure_is_said(self) -> None:
        server = Server()
        client = server.connect().login()
        client.send(b"DELE 1\r\n")
        server.inbox.trouble = StoreUnavailable()
        assert client.send(b"QUIT\r\n").startswith(b"-ERR [SYS/TEMP] Storage is not available")
        assert client.peer.disconnecting

    def test_a_bug_in_it_is_no_success(self) -> None:
        server = Server()
        client = server.connect().login()
        client.send(b"DELE 1\r\n")
        server.inbox.trouble = ZeroDivisionError()
        with capturedLogs():
            assert client.send(b"QUIT\r\n").startswith(b"-ERR [SYS/TEMP] Internal error")
        assert client.peer.disconnecting

    def test_one_line_in_the_log(self) -> None:
        client = Server().connect().login()
        client.send(b"RETR 1\r\nRETR 2\r\nDELE 1\r\nQUIT\r\n")
        with capturedLogs() as logs:
            client.drop()
        (event,) = logs
        assert (event["user"], event["retrieved"], event["deleted"]) == ("b@yy.example", 2, 1)


@pytest.mark.parametrize(("network", "offered"), [("192.0.2.0/24", True), ("198.51.100.0/24", False)])
def test_a_password_without_tls_from_trusted_networks_only(network: str, offered: bool) -> None:
    server = Server(plaintext_login=False, cleartext_login=Networks.parse(network))
    client = server.connect()
    assert (b"USER\r\nSASL" in client.send(b"CAPA\r\n")) is offered
    assert client.send(b"USER b\r\n").startswith(b"+OK") is offered


def test_stls_is_offered_with_a_certificate_only() -> None:
    server = Server(plaintext_login=False)
    assert b"STLS" not in server.connect().send(b"CAPA\r\n")
    server.factory.tls = "creator"
    client = server.connect()
    capabilities = client.send(b"CAPA\r\n")
    assert b"\r\nSTLS\r\n" in capabilities
    assert b"USER" not in capabilities
    started: list[object] = []
    client.peer.startTLS = started.append  # type: ignore[attr-defined]
    assert client.send(b"STLS\r\nCAPA\r\n") == b"+OK Begin TLS negotiation\r\n"
    assert started == ["creator"]
    client.connection.handshakeCompleted()
    capabilities = client.send(b"CAPA\r\n")
    assert b"\r\nUSER\r\nSASL PLAIN LOGIN\r\n" in capabilities
    assert b"STLS" not in capabilities
