"""What a claim costs: seeks in an index, however many rows wait and at however many destinations."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mailhub.interfaces import Plan, Route, Settlement, Submission
from mailhub.message.address import Address
from mailhub.message.envelope import Mail, Outcome
from mailhub.store.exam.rig import make_body
from mailhub.store.sql.queue_claim import Found, Wanted, find_due
from mailhub.store.sql.transaction import Query
from mailhub.store.sqlite.database import Database
from mailhub.store.sqlite.dialect import on
from mailhub.store.sqlite.schema import connect_writer, migrate
from mailhub.testing.waiting import result_of
from tests.store.harness import FAST, NOW, environment

_ROWS = """
WITH RECURSIVE number (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM number WHERE n < ?)
INSERT INTO queue_recipient (message, agent, local, domain, target, attempts, due, destination)
SELECT {message}, 'smtp', 'u' || n, 'x.example', '', 1, ?, {destination} FROM number"""


class Queue:
    """The queue's tables, without anything around them."""

    def __init__(self, folder: Path) -> None:
        self.connection = connect_writer(folder / "queue.sqlite", 1, durable=False, create=True)
        migrate(self.connection, folder / "queue.sqlite")
        self.connection.execute("BEGIN")

    def message(self, name: str) -> None:
        self.connection.execute(
            "INSERT INTO queue_message (id, content, relay_offset, body_type, smtputf8, queued_at)"
            " VALUES (?, 0, 0, '7BIT', 0, ?)",
            (name, NOW),
        )

    def rows(self, count: int, due: int, destination: str, message: str = "'m'") -> None:
        """`destination` and `message` are expressions of SQL."""
        self.connection.execute(_ROWS.format(destination=destination, message=message), (count, due))

    def claim(self, limit: int = 1000, quota: int = 2, after: str = "", taken: frozenset[int] = frozenset()) -> Found:
        """What is found. Notes what it took, in steps of SQLite's machine, and the statements."""
        steps = [0]
        self.statements: list[str] = []

        def step() -> None:
            steps[0] += 100

        self.connection.set_progress_handler(step, 100)
        self.connection.set_trace_callback(self.statements.append)
        wanted = Wanted(NOW, limit, quota, {}, NOW + 5000, taken, after)
        found, self.after, _ = find_due(on(self.connection), wanted)
        self.connection.set_progress_handler(None, 0)
        self.connection.set_trace_callback(None)
        self.steps = steps[0]
        return found

    def plans(self) -> set[str]:
        """How SQLite has gone about it."""
        return {
            row[3]
            for statement in set(self.statements)
            if statement.lstrip().startswith(("SELECT", "WITH"))
            for row in self.connection.execute(f"EXPLAIN QUERY PLAN {statement}")
        }


@pytest.fixture
def queue(tmp_path: Path) -> Iterator[Queue]:
    made = Queue(tmp_path)
    for name in "mn":
        made.message(name)
    yield made
    made.connection.close()


def places(found: Found) -> list[str]:
    return [destination for destination, _ in found]


def test_a_hundred_thousand_rows_for_few_do_not_hide_the_last(queue: Queue) -> None:
    queue.rows(60_000, NOW - 100, "'smtp dead.example'")
    queue.rows(39_999, NOW - 50, "'smtp slow.example'", "iif(n % 2, 'm', 'n')")
    queue.rows(1, NOW, "'smtp third.example'")
    found = queue.claim(limit=2000, quota=1)
    assert sum(len(message.recipients) for place, message in found if place == "smtp dead.example") == 2000
    assert queue.after == "smtp dead.example"
    found = queue.claim(limit=200, after=queue.after, taken=frozenset(range(60_001, 60_101)))
    assert places(found) == ["smtp slow.example"] * 2
    # Quotas keep a destination from filling the limit.
    queue.connection.execute("UPDATE queue_recipient SET message = 'x' || id WHERE destination = 'smtp dead.example'")
    queue.connection.execute("UPDATE queue_recipient SET message = 'y' || id WHERE destination = 'smtp slow.example'")
    for name in ("x1", "x2", "y60001", "y60002"):
        queue.message(name)
    assert places(queue.claim()) == ["smtp dead.example"] * 2 + ["smtp slow.example"] * 2 + ["smtp third.example"]
    assert queue.steps < 60_000
    assert not any(plan.startswith("SCAN queue_recipient") for plan in queue.plans())


@pytest.mark.parametrize("due", [NOW + 10, NOW - 10])
def test_twenty_thousand_destinations_are_passed_by_seeks(queue: Queue, due: int) -> None:
    queue.rows(20_000, due, "'smtp d' || (100000 + n) || '.example'")
    queue.rows(1, NOW, "'smtp z.example'")
    found = queue.claim(after="smtp d119500.example")
    assert len(found) == (1000 if due < NOW else 1)
    assert "smtp z.example" in places(found)
    assert not any(plan.startswith("SCAN queue_recipient") for plan in queue.plans())
    if due > NOW:
        assert queue.steps < 2000


def test_who_comes_to_the_limit_goes_on_behind(queue: Queue) -> None:
    queue.rows(3000, NOW, "'smtp d' || (100000 + n) || '.example'")
    seen: set[int] = set()
    for _ in range(4):
        found = queue.claim(limit=1000, after=getattr(queue, "after", ""), taken=frozenset(seen))
        rows = {row.id for _, message in found for row in message.recipients}
        assert not rows & seen
        seen |= rows
    assert len(seen) == 3000


def test_nothing_is_scanned_where_little_is_due(queue: Queue) -> None:
    queue.rows(1, NOW, "'smtp z.example'")
    queue.rows(50_000, NOW + 100, "'smtp d' || (n % 7)")
    assert places(queue.claim()) == ["smtp z.example"]
    assert queue.steps < 2000
    assert not any(plan.startswith("SCAN queue_recipient") for plan in queue.plans())


def test_what_has_just_come_is_claimed_and_opened_without_a_look_at_the_database(tmp_path: Path) -> None:
    database = Database(environment(tmp_path), FAST, create=True)
    result_of(database.start())
    queue, reads = database.queue, 0
    read = database._readers.read

    async def counted(query: Query[Any]) -> Any:
        nonlocal reads
        reads += 1
        return await read(query)

    database._readers.read = counted  # type: ignore[method-assign]
    assert list(result_of(queue.claim(NOW, 10, 10, latest=NOW + 1000))) == []
    assert result_of(queue.next_due(NOW)) is None
    assert reads == 1
    for count in range(3):
        body = result_of(make_body(queue.new_body, b"Subject: x\r\n\r\nx\r\n"))
        route = Route("smtp", Address("q", "zz.example"), "host")
        result_of(queue.submit(Submission(Mail(None), Plan(routes=(route,)), body)))
        (claim,) = result_of(queue.claim(NOW, 10, 10, latest=NOW + 1000))
        result_of(queue.open(claim.message.id))
        assert result_of(queue.settle(claim, [Settlement(claim.message.recipients[0].id, Outcome.delivered())]))
        assert result_of(queue.next_due(NOW)) is None
        assert reads == 1, count
    result_of(queue.retry([]))
    assert list(result_of(queue.claim(NOW, 10, 10, latest=NOW + 1000))) == []
    assert reads == 2
    result_of(database.stop())
