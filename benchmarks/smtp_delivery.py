"""CPU the whole server spends on a message, from the octets on its socket to the durable mailbox row, and how long its
client and a watcher of the mailbox wait.

Clients wait for each reply (lock-step, four round trips a message), or send MAIL, RCPT and DATA in one packet as relays
do (pipelining, RFC 2920). Senders, recipients and message ids vary. Beside it in the same run: one durable SQLite
transaction with the same octets a message, in a bare loop; the same clients at a prototype of Twisted and SQLite that
does nothing else (`bare_smtp.py`); and as root, where they are installed, Postfix with Dovecot's LMTP
(`postfix_dovecot.py`), until the last message is in its Maildir.

    python benchmarks/smtp_delivery.py [MESSAGES]
"""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from benchmarks.postfix_dovecot import PostfixAndDovecot, is_there, postfix_and_dovecot
from benchmarks.smtp_load import UNCHECKED, USERS, Cpu, Kind, Spent, cpu_of, drive, message, percentile, table
from mailhub.testing.process import ServerProcess, free_ports

WARM = 200  # messages before the measurement
# Of `count` messages each sends a part, so that no row takes much longer than the others.
ROWS = (
    ("lock-step, 1 connection", Kind(pipelining=False), 1, 1.0),
    ("lock-step, 10 connections", Kind(pipelining=False), 10, 1.0),
    ("lock-step, 50 connections", Kind(pipelining=False), 50, 1.0),
    ("pipelining, 1 connection", Kind(), 1, 1.0),
    ("pipelining, 10 connections", Kind(), 10, 1.0),
    ("pipelining, 50 connections", Kind(), 50, 1.0),
    ("10, 100 KiB a message", Kind(size=102_400), 10, 0.25),
    ("10, ten recipients a message", Kind(recipients=10), 10, 0.25),
    ("10, one message a connection", Kind(on_a_connection=1), 10, 0.5),
)
# Drives a server of its own: so many messages over so many connections.
Driver = Callable[[int, int, Kind], Spent]


@contextmanager
def bare_smtp(*arguments: Path) -> Iterator[tuple[int, Cpu]]:
    """The bare server: its port, and what gives its CPU."""
    (port,) = free_ports(1)
    program = [sys.executable, str(Path(__file__).with_name("bare_smtp.py")), str(port), *map(str, arguments)]
    process = subprocess.Popen(program, stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        process.stdout.readline()
        yield port, cpu_of(process.pid)
    finally:
        process.kill()
        process.wait()


def into_maildirs(peers: PostfixAndDovecot) -> Driver:
    """They are slow, and get a quarter of the messages."""

    def run(count: int, clients: int, kind: Kind) -> Spent:
        count = max(clients, count // 4)
        there = peers.delivered() + count * kind.recipients
        return drive(peers.port, peers.cpu_seconds, count, clients, kind=kind, done=lambda: peers.wait_for(there))

    return run


def at(port: int, cpu: Cpu) -> Driver:
    """A server that is done with a message when it says so."""
    return lambda count, clients, kind: drive(port, cpu, count, clients, kind=kind)


def bare_transactions(folder: Path, count: int) -> float:
    """Seconds of CPU a message for nothing but a durable row each."""
    database = sqlite3.connect(folder / "bare.sqlite", isolation_level=None)
    database.execute("PRAGMA journal_mode = WAL")
    database.execute("PRAGMA synchronous = FULL")
    database.execute("CREATE TABLE message (octets BLOB)")
    messages = [message(number, USERS[0]) for number in range(count)]
    before = time.process_time()
    for octets in messages:
        database.execute("INSERT INTO message VALUES (?)", (octets,))
    spent = time.process_time() - before
    database.close()
    return spent / count


def waits_in_idle(server: ServerProcess, count: int) -> Sequence[float]:
    """Seconds from the end of each message's data to EXISTS at a client in IDLE, one message after the other."""
    waits = []
    watcher = server.imap(USERS[0])
    watcher.select("INBOX")
    watcher.send(b"x IDLE\r\n")
    watcher.readline()

    def wait_for_exists() -> None:
        began = time.perf_counter()
        while b"EXISTS" not in watcher.readline():
            pass
        waits.append(time.perf_counter() - began)

    drive(server.ports["smtp"], lambda: 0.0, count, 1, kind=Kind(users=USERS[:1]), sent=wait_for_exists)
    watcher.shutdown()
    return waits


def main() -> None:
    """Print the figures, as a table of docs/performance.rst."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 4000
    with ExitStack() as running:
        folder = Path(running.enter_context(tempfile.TemporaryDirectory()))
        print(f"A durable row alone, in a bare loop: {bare_transactions(folder, count) * 1e6:.0f} us.\n")
        server = running.enter_context(
            ServerProcess(folder / "server", "xx.example", dict.fromkeys(USERS, "word"), UNCHECKED)
        )
        bare = running.enter_context(bare_smtp(folder / "bare_smtp.sqlite"))
        drivers = {"mailhub": at(server.ports["smtp"], server.cpu_seconds), "Prototype": at(*bare)}
        if is_there():
            drivers["Postfix and Dovecot"] = into_maildirs(running.enter_context(postfix_and_dovecot()))
        for run in drivers.values():
            run(WARM, 1, Kind())
        rows: list[Sequence[object]] = [("Client", *drivers)]
        for name, kind, clients, share in ROWS:
            rows.append((name, *(run(int(count * share), clients, kind) for run in drivers.values())))
        print(table(rows))
        seen = waits_in_idle(server, count // 8)
        waits = [f"{percentile(seen, percent) * 1000:.1f}" for percent in (50, 95)]
        print(f"\nFrom the end of the data to EXISTS at a client in IDLE: {' / '.join(waits)} ms.")


if __name__ == "__main__":
    main()
