"""CPU per message made durable by the store: a 4 KiB message for one local mailbox, digest included.

Messages are submitted 1, 5 and 50 at a time, with the real writer thread and every fsync. The baseline of the same run
is the least that SQLite could do: one INSERT of the octets a message, committed in the same groups.

    python benchmarks/delivery.py [messages]
"""

from __future__ import annotations

import random
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, cast

from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.task import react

from mailhub.interfaces import Deposit, Environment, Plan, Submission
from mailhub.message.address import Address
from mailhub.message.digest import digest
from mailhub.message.envelope import Mail
from mailhub.store.sqlite.database import Database
from mailhub.store.sqlite.schema import connect_writer
from mailhub.threads import ReactorThreads

GROUPS = (1, 5, 50)
USERS = 100
SIZE = 4096


def message(number: int) -> bytes:
    """About 4 KiB with the header of a usual message."""
    head = (
        f"Return-Path: <a@xx.example>\r\nReceived: from mx.xx.example (mx.xx.example [192.0.2.1])\r\n"
        f"\tby mx.yy.example with ESMTPS id {number:016x}\r\n\tfor <b@yy.example>; Mon, 23 Nov 2026 07:00:00 +0000\r\n"
        f"From: Anna Example <a@xx.example>\r\nTo: Bert Example <b@yy.example>\r\nSubject: Report number {number}\r\n"
        f"Date: Mon, 23 Nov 2026 07:00:00 +0000\r\nMessage-ID: <{number}@xx.example>\r\nMIME-Version: 1.0\r\n"
        "Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n"
    ).encode()
    line = b"The quick brown fox jumps over the lazy dog, again and again.\r\n"
    return head + line * ((SIZE - len(head)) // len(line))


async def deliver(database: Database, octets: bytes, user: str) -> None:
    """What a session does at the end of DATA."""
    writer = database.queue.new_body(len(octets))
    await writer.write(octets)
    body = await writer.finish()
    plan = Plan((Deposit(Address("b", "yy.example"), user),))
    receipt = await database.queue.submit(Submission(Mail(None), plan, body, 29))
    assert not receipt.refused


async def measure(database: Database, group: int, count: int) -> float:
    """Microseconds of CPU, all threads, for each message."""
    started = time.process_time()
    for first in range(0, count, group):
        calls = [
            Deferred.fromCoroutine(deliver(database, message(number), f"u{number % USERS}@yy.example"))
            for number in range(first, first + group)
        ]
        await gatherResults(calls)
    return (time.process_time() - started) / count * 1e6


def baseline(folder: Path, group: int, count: int) -> float:
    """The same octets into one table."""
    connection = connect_writer(folder / "baseline.sqlite", 10, create=True)
    connection.execute("CREATE TABLE IF NOT EXISTS message (id INTEGER PRIMARY KEY, octets BLOB)")
    started = time.process_time()
    for first in range(0, count, group):
        connection.execute("BEGIN IMMEDIATE")
        for number in range(first, first + group):
            connection.execute("INSERT INTO message (octets) VALUES (?)", (message(number),))
        connection.execute("COMMIT")
    spent = (time.process_time() - started) / count * 1e6
    connection.close()
    return spent


def digest_cost(count: int) -> float:
    """Of it, the scan."""
    octets = message(1)
    started = time.process_time()
    for _ in range(count):
        digest(octets)
    return (time.process_time() - started) / count * 1e6


async def run(reactor: Any, count: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        nothing = cast(Any, None)
        threads = ReactorThreads(reactor)
        environment = Environment(reactor, threads, nothing, nothing, random.Random(1), Path(folder))
        database = Database(environment, create=True)
        await database.start()
        for number in range(USERS):
            await database.accounts.add(f"u{number}@yy.example", "")
        print(f"digest alone: {digest_cost(count):.0f} us")
        for group in GROUPS:
            await measure(database, group, max(count // 10, group))
            spent = await measure(database, group, count)
            least = baseline(Path(folder), group, count)
            ratio = spent / least
            print(f"groups of {group:2}: {spent:4.0f} us CPU a message; bare INSERT {least:4.0f} us; ratio {ratio:.1f}")
        await database.stop()


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 2000
    react(lambda reactor: Deferred.fromCoroutine(run(reactor, count)))


if __name__ == "__main__":
    main()
