"""The longest stretch for which commands on a large mailbox keep the reactor busy, so that nobody else is served.

Real sessions over SQLite with its real writer thread and a pool of threads; a reactor in this file takes the time of
each of its turns. Time is the CPU of the reactor's thread, so it does not matter what else the machine does. Two
sessions watch the mailbox (one in IDLE, one that hears of changes at its next NOOP) while a third one works on it. The
baseline of the same run is one pass over a list of as many rows.

    python -m benchmarks.reactor_blocks [messages]
"""

from __future__ import annotations

import queue
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from random import Random
from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from zope.interface import implementer

from benchmarks.imap_fetch import USER, Gate, fill
from mailhub.interfaces import Environment, IThreads
from mailhub.message.flags import NO_FLAGS
from mailhub.message.record import Entry
from mailhub.net.driver import DriverFactory
from mailhub.protocols.imap.session import ImapOptions, ImapParts, ImapService
from mailhub.store.limits import StoreLimits
from mailhub.store.sqlite.database import Database
from mailhub.wire.imap.server_settings import ImapSettings

COMMANDS = (
    b"STORE 1:* +FLAGS.SILENT (\\Seen)",
    b"STORE 1:* +FLAGS (\\Flagged)",
    b"STORE 1:* FLAGS.SILENT (Work)",
    b"FETCH 1:* (UID FLAGS)",
    b"COPY 1:* Archive",
    b"COPY 1:* INBOX",
    b"UID SEARCH KEYWORD Work",
    b"UID STORE 1:100 +FLAGS.SILENT (\\Deleted)",
    b"EXPUNGE",
    b"UID STORE 1:* +FLAGS.SILENT (\\Deleted)",
    b"EXPUNGE",
)


@implementer(IThreads)
class Turns:
    """A reactor: a queue of calls from threads, and a clock. IThreads too."""

    inline = False

    def __init__(self) -> None:
        self.clock = Clock()
        self.clock.advance(1_767_268_800)
        self.calls: queue.SimpleQueue[Callable[[], object]] = queue.SimpleQueue()
        self.pool = ThreadPoolExecutor(4)
        self.longest = self.total = 0.0

    def run(self, function: Callable[..., Any], *args: object) -> Deferred[Any]:
        """In a thread."""
        result: Deferred[Any] = Deferred()

        def work() -> None:
            try:
                outcome = function(*args)
            except Exception:
                outcome = Failure()  # type: ignore[no-untyped-call]
            self.calls.put(lambda: result.callback(outcome))

        self.pool.submit(work)
        return result

    def call_in_reactor(self, function: Callable[..., object], *args: object) -> None:
        """In order of calling."""
        self.calls.put(lambda: function(*args))

    def start_loop(self, name: str, loop: Callable[[], None]) -> None:
        """In a thread of its own."""
        threading.Thread(target=loop, name=name, daemon=True).start()

    def turn_until(self, done: Callable[[], bool]) -> None:
        """Turn, taking the time of each turn."""
        while not done():
            if not self.clock.getDelayedCalls() or self.clock.getDelayedCalls()[0].getTime() > self.clock.seconds():
                self.calls.put(self.calls.get())  # wait for one
            started = time.thread_time()
            for _ in range(self.calls.qsize()):
                self.calls.get()()
            due = [call for call in self.clock.calls if call.getTime() <= self.clock.seconds()]
            for call in due:
                if call in self.clock.calls:
                    self.clock.calls.remove(call)
                    call.called = 1
                    call.func(*call.args, **call.kw)
            spent = time.thread_time() - started
            self.longest = max(self.longest, spent)
            self.total += spent

    def wait(self, coroutine: Any) -> Any:
        """The result of a coroutine."""
        results: list[Any] = []
        Deferred.fromCoroutine(coroutine).addBoth(results.append)
        self.turn_until(lambda: bool(results))
        assert not isinstance(results[0], Failure), results[0]
        return results[0]


class Peer(StringTransport):
    """Takes 64 KiB a turn, as a socket does."""

    producer: Any

    def __init__(self, clock: Clock, address: IPv4Address) -> None:
        super().__init__(peerAddress=address)  # type: ignore[no-untyped-call]
        self.clock = clock
        self.untaken = 0

    def write(self, data: bytes) -> None:
        """Pause the producer as the reactor's transports do."""
        super().write(data)  # type: ignore[no-untyped-call]
        if not self.untaken and len(data) > 65536:
            self.untaken = len(data)
            self.producer.pauseProducing()
            self.clock.callLater(0, self.take)

    def take(self) -> None:
        """A turn later."""
        self.untaken = max(0, self.untaken - 65536)
        if self.untaken:
            self.clock.callLater(0, self.take)
        else:
            self.producer.resumeProducing()


class Client:
    """One connection."""

    def __init__(self, turns: Turns, factory: DriverFactory) -> None:
        self.turns = turns
        peer = IPv4Address("TCP", "127.0.0.1", 4000)
        self.protocol: Any = factory.buildProtocol(peer)
        self.transport = Peer(turns.clock, peer)
        self.protocol.makeConnection(self.transport)

    def send(self, command: bytes, end: bytes = b"\r\nt ") -> bytes:
        """The whole answer."""
        self.transport.clear()  # type: ignore[no-untyped-call]
        started = time.thread_time()
        self.protocol.dataReceived(command + b"\r\n")
        self.turns.longest = max(self.turns.longest, time.thread_time() - started)
        self.turns.turn_until(lambda: end in b"\r\n" + self.transport.io.getvalue()[-200:])
        answer: bytes = self.transport.value()  # type: ignore[no-untyped-call]
        return answer


async def multiply(database: Database, count: int) -> None:
    """Copies of what is there."""
    account = await database.store.account(USER)
    inbox = await account.mailbox("INBOX")
    while (missing := count - (await inbox.status()).messages) > 0:
        await inbox.copy(range(1, 1 + min(missing, 1000)), inbox)


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 100_000
    with tempfile.TemporaryDirectory() as folder:
        turns = Turns()
        nothing: Any = None
        environment = Environment(turns.clock, turns, nothing, nothing, Random(1), Path(folder))
        database = Database(environment, StoreLimits(durable=False), create=True)
        turns.wait(database.start())
        turns.wait(fill(database, min(count, 1000)))
        turns.wait(multiply(database, count))
        options = ImapOptions(settings=ImapSettings("mx", plaintext_login=True))
        service = ImapService(ImapParts(Gate(database), turns.clock, options=options))
        factory = DriverFactory(service.session, turns.clock, Random(1))
        clients = [Client(turns, factory) for _ in range(3)]
        for client in clients:
            client.send(b"t LOGIN " + USER.encode() + b" x")
            turns.longest = 0.0
            client.send(b"t SELECT INBOX")
            print(f"{'SELECT INBOX':44} longest {turns.longest * 1000:7.1f} ms")
        actor, idler, waiter = clients
        idler.send(b"t IDLE", b"+ ")
        for command in COMMANDS:
            turns.longest = turns.total = 0.0
            answer = actor.send(b"t " + command)
            assert b"\r\nt OK" in b"\r\n" + answer[-200:], answer[-200:]
            told = turns.longest
            turns.longest = 0.0
            waiter.send(b"t NOOP")
            text = command.decode()
            print(f"{text:44} longest {told * 1000:7.1f} ms  another's NOOP after it {turns.longest * 1000:7.1f} ms")
        rows = [Entry(uid, NO_FLAGS, 1, 2000, 0) for uid in range(1, count + 1)]
        started = time.thread_time()
        assert sum(row.size for row in rows) == 2000 * count
        print(f"one pass over as many rows {(time.thread_time() - started) * 1000:7.1f} ms")
        turns.wait(database.stop())
        turns.pool.shutdown()


if __name__ == "__main__":
    main()
