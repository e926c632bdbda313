"""CPU the whole server spends on a 4 KiB message, from the octets on its socket to the durable mailbox row.

Claim: at most 500 us a message. Baseline of the same run: one durable SQLite transaction with the same octets a
message, in a bare loop.

    python benchmarks/smtp_delivery.py [MESSAGES]
"""

from __future__ import annotations

import smtplib
import sqlite3
import sys
import tempfile
import threading
import time
from pathlib import Path

from mailhub.testing.process import ServerProcess

USER = "a@xx.example"
HEADER = b"From: S <s@else.example>\r\nTo: a@xx.example\r\nSubject: figures\r\nMessage-ID: <1@else.example>\r\n\r\n"
LINE = b"all work and no play makes a dull message, and so on it goes\r\n"


def send(port: int, message: bytes, count: int) -> None:
    """One client connection, `count` messages."""
    with smtplib.SMTP("127.0.0.1", port) as client:
        client.ehlo("bench.example")
        for _ in range(count):
            client.mail("s@else.example")
            client.rcpt(USER)
            code, reply = client.data(message)
            assert code == 250, reply


def through_the_server(folder: Path, message: bytes, count: int, clients: int) -> float:
    """Seconds of server CPU a message, with `clients` connections at once."""
    with ServerProcess(folder, "xx.example", {USER: "word"}) as server:
        send(server.ports["smtp"], message, 50)
        before = server.cpu_seconds()
        threads = [
            threading.Thread(target=send, args=(server.ports["smtp"], message, count // clients))
            for _ in range(clients)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return (server.cpu_seconds() - before) / (count // clients * clients)


def bare_transactions(folder: Path, message: bytes, count: int) -> float:
    """Seconds of CPU a message for nothing but a durable row each."""
    database = sqlite3.connect(folder / "bare.sqlite", isolation_level=None)
    database.execute("PRAGMA journal_mode = WAL")
    database.execute("PRAGMA synchronous = FULL")
    database.execute("CREATE TABLE message (octets BLOB)")
    before = time.process_time()
    for _ in range(count):
        database.execute("INSERT INTO message VALUES (?)", (message,))
    spent = time.process_time() - before
    database.close()
    return spent / count


def main() -> None:
    """Print the figures."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 4000
    message = HEADER + LINE * ((4096 - len(HEADER)) // len(LINE))
    with tempfile.TemporaryDirectory() as folder:
        base = bare_transactions(Path(folder), message, count)
        print(f"bare durable row:              {base * 1e6:7.0f} us CPU a message (baseline)")
        for clients in (1, 10, 50):
            cost = through_the_server(Path(folder) / str(clients), message, count, clients)
            print(f"delivered, {clients:3} connections:   {cost * 1e6:7.0f} us CPU a message, {cost / base:.1f} x")


if __name__ == "__main__":
    main()
