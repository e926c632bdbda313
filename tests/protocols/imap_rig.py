"""An IMAP server in memory: the real session, machine and driver over the memory store, on a Clock."""

from __future__ import annotations

from collections.abc import Coroutine
from pathlib import Path
from random import Random
from typing import Any, TypeVar

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from mailhub.interfaces import Environment, IMailAccount, IMailbox
from mailhub.message.flags import NO_FLAGS, Flags
from mailhub.net.driver import DriverFactory
from mailhub.net.networks import Networks
from mailhub.protocols.imap.session import ImapOptions, ImapParts, ImapService
from mailhub.store.limits import StoreLimits
from mailhub.store.memory.database import MemoryDatabase
from mailhub.store.sqlite.database import Database
from mailhub.threads import InlineThreads
from mailhub.wire.imap.server_settings import ImapSettings
from mailhub.wire.imap.view import RecentMarks
from tests.net.line_session import PEER, Peer
from tests.protocols.gate import FakeAuthenticator

T = TypeVar("T")

USER = "b@yy.example"
EPOCH = 1_767_268_800  # 2026-01-01 12:00 UTC
MESSAGES = (
    b"From: Anne <a@xx.example>\r\nSubject: One\r\n\r\nFirst body\r\n",
    b"From: b@yy.example\r\nSubject: Two\r\nX-Odd: yes\r\n\r\nSecond body\r\n",
    b"From: c@zz.example\r\nSubject: Three\r\n\r\nThird body\r\n",
)


def result(work: Coroutine[Any, Any, T]) -> T:
    """What a coroutine gives that does not wait."""
    outcome: list[T] = []
    Deferred.fromCoroutine(work).addCallback(outcome.append)
    assert outcome, "the coroutine waits or failed"
    return outcome[0]


class Server:
    """A listener, its connections, and one account with MESSAGES in INBOX: UIDs 1 to 3, the first one \\Seen.

    The store is the one in memory, or with a `folder` SQLite.
    """

    def __init__(
        self,
        *,
        messages: tuple[bytes, ...] = MESSAGES,
        quota: int = 0,
        folder: Path | None = None,
        trusted: str = "",
        **settings: Any,
    ) -> None:
        self.clock = Clock()
        self.clock.advance(EPOCH)
        nothing: Any = None
        data = folder or Path("/nonexistent")
        environment = Environment(self.clock, InlineThreads(), nothing, nothing, Random(1), data)
        self.database: Any = MemoryDatabase(environment)
        if folder is not None:
            self.database = Database(environment, StoreLimits(durable=False), create=True)
        result(self.database.start())
        result(self.database.accounts.add(USER, "", quota))
        self.account: Any = result(self.database.store.account(USER))
        self.authenticator = FakeAuthenticator(IMailAccount, self.database.store.account)
        self.marks = RecentMarks()
        options = ImapOptions(ImapSettings("mx", **{"plaintext_login": True} | settings))
        if trusted:
            options = attrs.evolve(options, cleartext_login=Networks.parse(trusted))
        service = ImapService(ImapParts(self.authenticator, self.clock, self.marks, options))
        self.factory = DriverFactory(service.session, self.clock, Random(1), "imap")
        for number, octets in enumerate(messages):
            self.deliver(octets, frozenset({"\\Seen"}) if not number else NO_FLAGS)

    def mailbox(self, name: str = "INBOX") -> Any:
        return result(self.account.mailbox(name))

    def deliver(self, octets: bytes, flags: Flags = NO_FLAGS, name: str = "INBOX") -> int:
        writer = self.account.new_body()
        result(writer.write(octets))
        box: IMailbox = self.mailbox(name)
        return result(box.append(result(writer.finish()), flags, EPOCH))

    def connect(self) -> Client:
        return Client(self)

    def login(self, mailbox: str = "", *, examine: bool = False) -> Client:
        """A client that is logged in, and has the mailbox selected."""
        client = self.connect()
        assert b"L OK " in client.send(b"L LOGIN " + USER.encode() + b" secret\r\n")
        if mailbox:
            command = b"EXAMINE " if examine else b"SELECT "
            assert b"\r\nS OK " in client.send(b"S " + command + mailbox.encode() + b"\r\n")
        return client


class Client:
    """One connection. `peer.slow` makes the transport fill up."""

    def __init__(self, server: Server) -> None:
        self.clock = server.clock
        self.connection: Any = server.factory.buildProtocol(PEER)
        self.peer = Peer()
        self.connection.makeConnection(self.peer)
        self.link: Any = next(link for link in server.factory.sessions if link.channel is self.connection)
        self.greeting = self.peer.taken()

    @property
    def session(self) -> Any:
        return self.link._session

    def send(self, octets: bytes) -> bytes:
        """What comes back, once everything that can go on has gone on."""
        self.connection.dataReceived(octets)
        return self.taken()

    def taken(self) -> bytes:
        self.clock.advance(0)
        return self.peer.taken()

    def drained(self) -> bytes:
        """What a slow peer gets once it has taken all that was written before."""
        self.peer.drain()
        return self.taken()

    def drop(self) -> None:
        """The line is cut."""
        self.peer.connected = False
        self.connection.connectionLost(None)


def play(client: Client, transcript: str) -> None:
    """Lines `C: ` are sent, and after each of them exactly the lines `S: ` that follow must come back."""
    lines = [(line.strip()[:2], line.strip()[3:]) for line in transcript.strip().splitlines()]
    while lines:
        who, said = lines.pop(0)
        assert who == "C:", said
        expected = []
        while lines and lines[0][0] == "S:":
            expected.append(lines.pop(0)[1])
        answer = client.send(said.encode() + b"\r\n").decode()
        assert answer.split("\r\n")[:-1] == expected, said
