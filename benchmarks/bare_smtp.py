"""What Twisted and SQLite cost alone: a prototype that makes durable rows of what comes by SMTP, and nothing else.

No limits, no checks, no digest, no TLS, no log: the floor that a server in this language stands on. It is the baseline
of `smtp_delivery.py`, which starts it as a program: `python benchmarks/bare_smtp.py PORT DATABASE`. Without DATABASE it
keeps nothing, and listens on 127.0.0.1 to 127.0.0.100: that is where `smtp_relay.py` has mail sent to. NOOP is answered
with the number of messages so far.
"""

from __future__ import annotations

import queue
import sqlite3
import sys
import threading
from typing import Any

from twisted.internet import reactor
from twisted.internet.protocol import Factory, Protocol

_REACTOR: Any = reactor
Message = tuple["BareSmtp", list[bytes], bytes]


class Sink:
    """Takes all, and forgets it."""

    def take(self, message: Message) -> None:
        """At once."""
        message[0].taken()


class Store(Sink):
    """A writer thread: all messages that wait are committed together."""

    def __init__(self, path: str) -> None:
        self._waiting: queue.SimpleQueue[Message] = queue.SimpleQueue()
        self._path = path
        threading.Thread(target=self._run, daemon=True).start()

    def take(self, message: Message) -> None:
        """With the next commit."""
        self._waiting.put(message)

    def _run(self) -> None:
        database = sqlite3.connect(self._path, isolation_level=None)
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("PRAGMA synchronous = FULL")
        database.execute("CREATE TABLE content (id INTEGER PRIMARY KEY, octets BLOB)")
        database.execute("CREATE TABLE message (mailbox BLOB, content INTEGER, PRIMARY KEY (mailbox, content))")
        number = 0
        while True:
            group = [self._waiting.get()]
            while not self._waiting.empty():
                group.append(self._waiting.get())
            database.execute("BEGIN IMMEDIATE")
            numbered = list(enumerate(group, number))
            number += len(group)
            database.executemany("INSERT INTO content VALUES (?, ?)", [(at, each[2]) for at, each in numbered])
            rows = [(mailbox, at) for at, (_, mailboxes, _) in numbered for mailbox in mailboxes]
            database.executemany("INSERT INTO message VALUES (?, ?)", rows)
            database.execute("COMMIT")
            _REACTOR.callFromThread(self._tell, group)

    @staticmethod
    def _tell(group: list[Message]) -> None:
        for session, _, _ in group:
            session.taken()


class BareSmtp(Protocol):
    """As much of SMTP as the benchmarks' clients speak, mailhub's among them."""

    transport: Any
    factory: BareFactory

    def __init__(self) -> None:
        self._recipients: list[bytes] = []
        self._unread = b""
        self._in_message = False

    def connectionMade(self) -> None:
        self.transport.setTcpNoDelay(True)
        self.transport.write(b"220 bare.example ESMTP\r\n")

    def dataReceived(self, data: bytes) -> None:
        self._unread += data
        if self._in_message:
            end = self._unread.find(b"\r\n.\r\n")
            if end < 0:
                return
            octets, self._unread, self._in_message = self._unread[: end + 2], self._unread[end + 5 :], False
            recipients, self._recipients = self._recipients, []
            self.factory.store.take((self, recipients, octets))
        if not self._unread:
            return
        *lines, self._unread = self._unread.split(b"\r\n")
        self.transport.write(b"".join([self._reply(line) for line in lines]))

    def _reply(self, line: bytes) -> bytes:
        verb = line[:4].upper()
        if verb == b"DATA":
            self._in_message = True
            return b"354 Go on\r\n"
        if verb == b"RCPT":
            self._recipients.append(line[line.index(b"<") + 1 : line.index(b">")])
            return b"250 2.1.5 Recipient OK\r\n"
        if verb == b"EHLO":
            return b"250-bare.example\r\n250-8BITMIME\r\n250-SIZE\r\n250 PIPELINING\r\n"
        if verb == b"NOOP":
            return b"250 2.0.0 %d\r\n" % self.factory.count
        if verb == b"QUIT":
            return b"221 2.0.0 Bye\r\n"
        return b"250 2.1.0 Sender OK\r\n"

    def taken(self) -> None:
        """The message is durable, as far as it has to be."""
        self.factory.count += 1
        self.transport.write(b"250 2.0.0 Message accepted\r\n")


class BareFactory(Factory):
    """A session for each connection. `count` of the messages so far."""

    noisy = False
    protocol: Any = BareSmtp

    def __init__(self, store: Sink) -> None:
        self.store = store
        self.count = 0


def main() -> None:
    """Serve until killed."""
    keeps = len(sys.argv) > 2
    factory = BareFactory(Store(sys.argv[2]) if keeps else Sink())
    for host in range(1, 2 if keeps else 101):
        _REACTOR.listenTCP(int(sys.argv[1]), factory, interface=f"127.0.0.{host}")
    print("ready", flush=True)
    _REACTOR.run()


if __name__ == "__main__":
    main()
