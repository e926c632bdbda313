"""What Twisted and SQLite cost alone: a prototype that takes a message by SMTP and makes durable rows of it, nothing else.

No limits, no checks, no digest, no TLS, no log: the floor that a server in this language stands on. It is the baseline
of `smtp_delivery.py`, which starts it as a program: `python benchmarks/bare_smtp.py PORT DATABASE`.
"""

from __future__ import annotations

import queue
import sqlite3
import sys
import threading

from twisted.internet import reactor
from twisted.internet.protocol import Factory
from twisted.protocols.basic import LineReceiver

Message = tuple["BareSmtp", bytes, bytes]


class Store:
    """A writer thread: all messages that wait are committed together."""

    def __init__(self, path: str) -> None:
        self.waiting: queue.SimpleQueue[Message] = queue.SimpleQueue()
        self._path = path
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        database = sqlite3.connect(self._path, isolation_level=None)
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("PRAGMA synchronous = FULL")
        database.execute("CREATE TABLE content (id INTEGER PRIMARY KEY, octets BLOB)")
        database.execute("CREATE TABLE message (mailbox BLOB, content INTEGER, PRIMARY KEY (mailbox, content))")
        number = 0
        while True:
            group = [self.waiting.get()]
            while not self.waiting.empty():
                group.append(self.waiting.get())
            database.execute("BEGIN IMMEDIATE")
            numbered = list(enumerate(group, number))
            number += len(group)
            database.executemany("INSERT INTO content VALUES (?, ?)", [(at, each[2]) for at, each in numbered])
            database.executemany("INSERT INTO message VALUES (?, ?)", [(each[1], at) for at, each in numbered])
            database.execute("COMMIT")
            reactor.callFromThread(self._tell, group)  # type: ignore[attr-defined]

    @staticmethod
    def _tell(group: list[Message]) -> None:
        for session, _, _ in group:
            session.sendLine(b"250 2.0.0 Message accepted")
            session.resumeProducing()


class BareSmtp(LineReceiver):
    """As much of SMTP as the benchmark's client speaks."""

    MAX_LENGTH = 1 << 16

    def __init__(self, store: Store) -> None:
        self._store = store
        self._recipient = b""
        self._body: list[bytes] = []

    def connectionMade(self) -> None:
        self.transport.setTcpNoDelay(True)  # type: ignore[union-attr]
        self.sendLine(b"220 bare.example ESMTP")

    def lineReceived(self, line: bytes) -> None:
        verb = line[:4].upper()
        if verb == b"DATA":
            self.sendLine(b"354 Go on")
            self.setRawMode()
        elif verb == b"RCPT":
            self._recipient = line[line.index(b"<") + 1 : line.index(b">")]
            self.sendLine(b"250 2.1.5 Recipient OK")
        elif verb == b"EHLO":
            self.sendLine(b"250-bare.example\r\n250-8BITMIME\r\n250-SIZE\r\n250 PIPELINING")
        else:
            self.sendLine(b"250 2.1.0 Sender OK")

    def rawDataReceived(self, data: bytes) -> None:
        self._body.append(data)
        if data.endswith(b"\r\n.\r\n"):
            octets = b"".join(self._body)[:-3]
            self._body.clear()
            self.pauseProducing()
            self._store.waiting.put((self, self._recipient, octets))
            self.setLineMode()


def main() -> None:
    """Serve until killed."""
    store = Store(sys.argv[2])
    factory = Factory()
    factory.buildProtocol = lambda _: BareSmtp(store)  # type: ignore[method-assign,assignment,arg-type,return-value]
    reactor.listenTCP(int(sys.argv[1]), factory, interface="127.0.0.1")  # type: ignore[attr-defined]
    print("ready", flush=True)
    reactor.run()  # type: ignore[attr-defined]


if __name__ == "__main__":
    main()
