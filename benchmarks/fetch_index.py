"""What a large mailbox costs the store: index, digests, and commands on all messages at once.

Rows for UID FLAGS come from memory: the baseline is a copy of a list of as many tuples. Columns of digests come with
one query for 500 messages: the baseline is the query alone.

    python benchmarks/fetch_index.py [messages]
"""

from __future__ import annotations

import random
import sys
import tempfile
import time
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, TypeVar, cast

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from benchmarks.delivery import message
from mailhub.interfaces import Environment
from mailhub.message.flags import DELETED, NO_FLAGS, SEEN
from mailhub.message.record import Added, Entry, FlagChange
from mailhub.store.limits import StoreLimits
from mailhub.store.sqlite.database import Database
from mailhub.store.sqlite.schema import connect_reader
from mailhub.threads import InlineThreads

T = TypeVar("T")
USER = "b@yy.example"
SLICE = 500
TOGETHER = 64
ENVELOPES = """
SELECT uid, envelope FROM message JOIN content ON content.id = content WHERE mailbox = 1 AND uid BETWEEN ? AND ?
"""


def wait(coroutine: Coroutine[Any, Any, T]) -> T:
    """The result of a call that inline threads end at once."""
    results: list[T] = []
    Deferred.fromCoroutine(coroutine).addCallback(results.append)
    return results[0]


def timed(label: str, count: int, call: Coroutine[Any, Any, T]) -> T:
    """Print the CPU of a call."""
    started, wall = time.process_time(), time.perf_counter()
    result = wait(call)
    spent, wall = time.process_time() - started, time.perf_counter() - wall
    print(f"{label:44} {spent * 1000:8.1f} ms CPU {wall * 1000:8.1f} ms wall {spent / count * 1e6:8.2f} us a message")
    return result


async def fill(database: Database, count: int) -> Any:
    """INBOX with so many messages of 4 KiB; most are copies, which share their bodies."""
    account = await database.store.account(USER, create=True)
    inbox = await account.mailbox("INBOX")
    for number in range(min(count, 10_000)):
        writer = account.new_body()
        await writer.write(message(number))
        await inbox.append(await writer.finish(), NO_FLAGS, number)
    while (missing := count - (await inbox.status()).messages) > 0:
        await inbox.copy(range(1, 1 + min(missing, 10_000)), inbox)
    return inbox


async def digests(mailbox: Any, count: int, *wanted: str) -> None:
    """Columns of all digests, a slice at a time."""
    for first in range(1, count + 1, SLICE):
        await mailbox.digests(range(first, first + SLICE), wanted)


async def bodies(mailbox: Any, count: int) -> None:
    """All octets, some at a time."""
    for first in range(1, count + 1, TOGETHER):
        await mailbox.bodies(range(first, first + TOGETHER))


async def bare_query(path: Path, count: int) -> None:
    """The rows alone."""
    connection = connect_reader(path, 1)
    for first in range(1, count + 1, SLICE):
        connection.execute(ENVELOPES, (first, first + SLICE - 1)).fetchall()
    connection.close()


async def bare_copy(rows: list[Entry]) -> list[Entry]:
    """The least that handing out rows can cost."""
    return rows[:]


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000
    with tempfile.TemporaryDirectory() as folder:
        clock = Clock()
        nothing = cast(Any, None)
        environment = Environment(clock, InlineThreads(), nothing, nothing, random.Random(1), Path(folder))
        database = Database(environment, StoreLimits(durable=False), create=True)
        wait(database.start())
        inbox = wait(fill(database, count))
        rows = list(timed("load the index", count, inbox.entries()))
        timed("entries(None)", count, inbox.entries())
        timed("  baseline: copy of a list", count, bare_copy(rows))
        timed("entries of every second UID", count // 2, inbox.entries(range(1, count + 1, 2)))
        timed("entries since a mod-sequence", count, inbox.entries(None, rows[-1].modseq - 1))
        few = min(count, 10_000)
        timed("envelopes", few, digests(inbox, few, "envelope"))
        timed("envelopes again", few, digests(inbox, few, "envelope"))
        timed("  baseline: the query alone", few, bare_query(database.path, few))
        timed(
            "fields, body structures and sizes of headers",
            few,
            digests(inbox, few, "fields", "bodystructure", "header_size"),
        )
        timed("bodies", few, bodies(inbox, few))
        inbox.watch(lambda change: isinstance(change, Added))
        uids = range(1, count + 1)
        sent = wait(wait(database.store.account(USER)).mailbox("Sent"))
        timed("STORE +FLAGS \\Seen on all", count, inbox.change_flags(uids, FlagChange("add", frozenset({SEEN}))))
        timed("COPY all", count, inbox.copy(uids, sent))
        timed("STORE +FLAGS \\Deleted on all", count, inbox.change_flags(uids, FlagChange("add", frozenset({DELETED}))))
        timed("EXPUNGE all", count, inbox.expunge())
        timed("EXPUNGE when nothing is marked", count, sent.expunge())
        timed("MOVE all", count, sent.move(range(1, count + 1), inbox))
        timed("expunge the last copies and sweep", count, inbox.expunge(deleted_only=False))
        wait(database.stop())


if __name__ == "__main__":
    main()
