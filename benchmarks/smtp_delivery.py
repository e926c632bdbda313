"""CPU the whole server spends on a 4 KiB message, from the octets on its socket to the durable mailbox row.

Budget: 500 us a message. Two clients: one that waits for each reply (four round trips a message), and one that
sends MAIL, RCPT and DATA in one packet as relays do (RFC 2920). Senders, recipients and message ids vary. Baselines of
the same run: one durable SQLite transaction with the same octets a message, in a bare loop, and the same client at a
prototype of Twisted and SQLite that does nothing else (`bare_smtp.py`). As root, where they are installed, Postfix with
Dovecot's LMTP take the same mail (`postfix_dovecot.py`), until the last message is in its Maildir.

    python benchmarks/smtp_delivery.py [MESSAGES]
"""

from __future__ import annotations

import os
import socket
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from benchmarks.postfix_dovecot import PostfixAndDovecot, is_there, postfix_and_dovecot
from mailhub.testing.process import ServerProcess, free_ports

USERS = [f"user{number}@xx.example" for number in range(20)]
LINE = b"all work and no play makes a dull message, and so on it goes\r\n"
SIZE = 4096
WARM = 200  # messages before the measurement


def message(number: int, recipient: str) -> bytes:
    """About 4 KiB with the header of a usual message."""
    head = (
        f"Received: from desk.else.example (desk.else.example [192.0.2.1])\r\n\tby mx.else.example with ESMTPS"
        f" id {number:016x};\r\n\tMon, 23 Nov 2026 07:00:00 +0000\r\nFrom: Sender <s{number}@else.example>\r\n"
        f"To: {recipient}\r\nSubject: figures of day {number}\r\nDate: Mon, 23 Nov 2026 07:00:00 +0000\r\n"
        f"Message-ID: <{number}@else.example>\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n"
    ).encode()
    return head + LINE * ((SIZE - len(head)) // len(LINE))


def expect(replies: BinaryIO, code: bytes) -> None:
    """Read one reply, of one line or more."""
    line = replies.readline()
    while line[3:4] == b"-":
        line = replies.readline()
    assert line.startswith(code), line


def send(port: int, numbers: Sequence[int], pipelining: bool) -> None:
    """One client connection."""
    with socket.create_connection(("127.0.0.1", port)) as client, client.makefile("rb") as replies:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        expect(replies, b"220")
        client.sendall(b"EHLO bench.example\r\n")
        expect(replies, b"250")
        for number in numbers:
            recipient = USERS[number % len(USERS)]
            octets = message(number, recipient)
            mail = f"MAIL FROM:<s{number}@else.example> SIZE={len(octets)} BODY=8BITMIME\r\n"
            commands = [mail, f"RCPT TO:<{recipient}>\r\n", "DATA\r\n"]
            codes = [b"250", b"250", b"354"]
            if pipelining:
                client.sendall("".join(commands).encode())
                for code in codes:
                    expect(replies, code)
            else:
                for command, code in zip(commands, codes, strict=True):
                    client.sendall(command.encode())
                    expect(replies, code)
            client.sendall(octets + b".\r\n")
            expect(replies, b"250")


Cpu = Callable[[], float]


def drive(port: int, cpu: Cpu, count: int, clients: int, pipelining: bool) -> tuple[float, float]:
    """Seconds of the server's CPU a message, and messages a second, with `clients` connections at once."""
    before, began = cpu(), time.monotonic()
    threads = [
        threading.Thread(target=send, args=(port, range(client, count, clients), pipelining))
        for client in range(clients)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return (cpu() - before) / count, count / (time.monotonic() - began)


def through_the_server(server: ServerProcess, count: int, clients: int, pipelining: bool) -> float:
    """Seconds of server CPU a message."""
    return drive(server.ports["smtp"], server.cpu_seconds, count, clients, pipelining)[0]


def cpu_of(process: subprocess.Popen[bytes]) -> Cpu:
    """What gives the seconds of CPU that a process has used."""

    def seconds() -> float:
        fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    return seconds


@contextmanager
def prototype(folder: Path) -> Iterator[tuple[int, Cpu]]:
    """The bare server: its port, and what gives its CPU."""
    (port,) = free_ports(1)
    program = [
        sys.executable,
        str(Path(__file__).with_name("bare_smtp.py")),
        str(port),
        str(folder / "bare_smtp.sqlite"),
    ]
    process = subprocess.Popen(program, stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        process.stdout.readline()
        yield port, cpu_of(process)
    finally:
        process.kill()
        process.wait()


def through_peers(peers: PostfixAndDovecot, count: int, clients: int, pipelining: bool) -> tuple[float, float]:
    """Seconds of CPU of Postfix and Dovecot a message in its Maildir, and messages a second."""
    there, before, began = peers.delivered(), peers.cpu_seconds(), time.monotonic()
    drive(peers.port, peers.cpu_seconds, count, clients, pipelining)
    peers.wait_for(there + count)
    return (peers.cpu_seconds() - before) / count, count / (time.monotonic() - began)


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


def main() -> None:
    """Print the figures."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 4000
    accounts = dict.fromkeys(USERS, "word")
    with tempfile.TemporaryDirectory() as folder:
        base = bare_transactions(Path(folder), count)
        print(f"bare durable row: {base * 1e6:.0f} us CPU a message (baseline)")
        home = Path(folder)
        with prototype(home) as (port, cpu), ServerProcess(home / "server", "xx.example", accounts) as server:
            drive(port, cpu, WARM, 1, True)
            through_the_server(server, WARM, 1, True)
            for pipelining in (False, True):
                for clients in (1, 10, 50):
                    bare, bare_rate = drive(port, cpu, count, clients, pipelining)
                    cost, rate = drive(server.ports["smtp"], server.cpu_seconds, count, clients, pipelining)
                    kind = "pipelining" if pipelining else "lock-step"
                    print(
                        f"{kind:10}, {clients:2} connections: {cost * 1e6:5.0f} us CPU a message, {rate:5.0f} a second;"
                        f" prototype {bare * 1e6:4.0f} us, {bare_rate:5.0f}; {cost / bare:.1f} x"
                    )
    if is_there():
        with postfix_and_dovecot() as peers:
            through_peers(peers, WARM, 1, True)
            for clients in (1, 10):
                cost, rate = through_peers(peers, count // 4, clients, True)
                name = "Postfix and Dovecot, pipelining"
                print(f"{name}, {clients:2} connections: {cost * 1e6:5.0f} us CPU a message, {rate:5.0f} a second")


if __name__ == "__main__":
    main()
