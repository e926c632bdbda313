"""CPU per message of FETCH 1:* on a mailbox of 10,000 messages: the real session, machine and driver over SQLite.

Everything runs in this process on a Clock with inline threads and a transport in memory, so all CPU is counted but the
kernel's. `first` is after a restart (nothing in memory), `again` the best of the following ones. The baseline of the
same run formats the very same lines from tuples that hold their parts.

    python benchmarks/imap_fetch.py [messages]
"""

from __future__ import annotations

import re
import sys
import tempfile
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from random import Random
from typing import Any, TypeVar

from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from zope.interface import Interface, implementer

from mailhub.credentials import PlainCredentials
from mailhub.interfaces import Environment, IAuthenticator, Origin
from mailhub.message.flags import NO_FLAGS, SEEN
from mailhub.net.driver import DriverFactory
from mailhub.protocols.imap.session import ImapOptions, ImapParts, ImapService
from mailhub.store.limits import StoreLimits
from mailhub.store.sqlite.database import Database
from mailhub.threads import InlineThreads
from mailhub.wire.imap.server_settings import ImapSettings

T = TypeVar("T")

USER = "b@yy.example"
ITEMS = (
    b"(UID FLAGS)",
    b"ENVELOPE",
    b"(UID FLAGS INTERNALDATE RFC822.SIZE BODYSTRUCTURE)",
    b"(UID FLAGS BODY.PEEK[HEADER.FIELDS (DATE FROM SUBJECT)])",
    b"BODY.PEEK[]",
)
LINE = re.compile(rb"\* (\d+) FETCH \((.*)\)\r\n")
ROUNDS = 5


@implementer(IAuthenticator)
class Gate:
    """Lets everybody in."""

    def __init__(self, database: Database) -> None:
        self.database = database

    def logged_out(self, session_id: str) -> None: ...

    async def vouched(
        self, user: str, avatar: type[Interface], origin: Origin, revoked: Callable[[], None] | None = None
    ) -> Any:
        """The account."""
        return await self.database.store.account(user)

    async def login(
        self,
        credentials: PlainCredentials,
        avatar: type[Interface],
        origin: Origin,
        revoked: Callable[[], None] | None = None,
    ) -> Any:
        """The account."""
        return await self.database.store.account(credentials.user)


class Server:
    """A database in a folder, and one connection to it."""

    def __init__(self, folder: Path) -> None:
        self.clock = Clock()
        self.clock.advance(1_767_268_800)
        nothing: Any = None
        environment = Environment(self.clock, InlineThreads(), nothing, nothing, Random(1), folder)
        self.database = Database(environment, StoreLimits(durable=False), create=True)
        result(self.database.start())
        options = ImapOptions(settings=ImapSettings("mx", plaintext_login=True))
        service = ImapService(ImapParts(Gate(self.database), self.clock, options=options))
        factory = DriverFactory(service.session, self.clock, Random(1))
        peer = IPv4Address("TCP", "127.0.0.1", 4000)
        self.protocol: Any = factory.buildProtocol(peer)
        self.transport = StringTransport(peerAddress=peer)  # type: ignore[no-untyped-call]

    def log_in(self) -> None:
        """Select INBOX."""
        self.protocol.makeConnection(self.transport)
        self.send(b"a LOGIN " + USER.encode() + b" x")
        assert b"b OK" in self.send(b"b SELECT INBOX")

    def send(self, command: bytes) -> bytes:
        """The whole answer."""
        self.transport.clear()  # type: ignore[no-untyped-call]
        self.protocol.dataReceived(command + b"\r\n")
        self.clock.advance(0)
        answer: bytes = self.transport.value()  # type: ignore[no-untyped-call]
        return answer


def result(work: Coroutine[Any, Any, T]) -> T:
    """What a coroutine gives that does not wait."""
    outcome: list[T] = []
    failures: list[Any] = []
    Deferred.fromCoroutine(work).addCallbacks(outcome.append, failures.append)
    for failure in failures:
        failure.raiseException()
    return outcome[0]


def message(number: int) -> bytes:
    """About 2 KiB with a usual header."""
    head = (
        f"Received: from mx.xx.example by mx.yy.example with ESMTPS id {number:x};\r\n"
        f" Mon, 23 Nov 2026 07:00:00 +0000\r\n"
        f"From: Anna Example <a{number % 97}@xx.example>\r\nTo: Bert Example <b@yy.example>\r\n"
        f"Subject: Report number {number}\r\nDate: Mon, 23 Nov 2026 07:00:00 +0000\r\n"
        f"Message-ID: <{number}@xx.example>\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n"
    )
    return head.encode() + b"The quick brown fox jumps over the lazy dog, again and again.\r\n" * 25


async def fill(database: Database, count: int) -> None:
    """Deliver `count` messages."""
    await database.accounts.add(USER, "", 0)
    account = await database.store.account(USER)
    inbox = await account.mailbox("INBOX")
    for number in range(count):
        writer = account.new_body()
        await writer.write(message(number))
        body = await writer.finish()
        await inbox.append(body, frozenset({SEEN}) if number % 3 else NO_FLAGS, 1_767_268_800 + number)


def measure(server: Server, command: bytes, count: int) -> tuple[float, bytes]:
    """Microseconds of CPU a message, and the answer."""
    started = time.process_time()
    answer = server.send(b"c " + command)
    spent = time.process_time() - started
    assert answer.endswith(b"c OK Completed\r\n")
    return spent / count * 1e6, answer


def baseline(answer: bytes, count: int) -> float:
    """Microseconds of CPU to format the same lines again."""
    parts = [(int(number), rest) for number, rest in LINE.findall(answer)]
    started = time.process_time()
    lines = b"".join([b"* %d FETCH (%b)\r\n" % part for part in parts])
    spent = time.process_time() - started
    assert lines + b"c OK Completed\r\n" == answer
    return spent / count * 1e6


def main() -> None:
    """Print the figures."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000
    with tempfile.TemporaryDirectory() as folder:
        result(fill(Server(Path(folder)).database, count))
        for items in ITEMS:
            command = b"FETCH 1:* " + items
            server = Server(Path(folder))
            started = time.process_time()
            server.log_in()
            select = time.process_time() - started
            first, answer = measure(server, command, count)
            again = min(measure(server, command, count)[0] for _ in range(ROUNDS))
            line = f"{items.decode():60} first {first:7.2f} us  again {again:6.2f} us"
            if b"{" not in answer:
                plain = min(baseline(answer, count) for _ in range(ROUNDS))
                line += f"  plain formatting {plain:5.2f} us  ratio {again / plain:5.1f}"
            print(line)
        print(f"SELECT after a restart: {select * 1e3:.1f} ms for {count} messages")


if __name__ == "__main__":
    main()
