from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from mailhub.errors import Busy, OverQuota, StorageFull, StoreUnavailable
from mailhub.message.record import Change, MailboxGone
from mailhub.store.sql.transaction import Joint, Transaction
from mailhub.store.sqlite.schema import connect_writer
from mailhub.store.sqlite.writer import LOCKED_OUT_MILLISECONDS, Writer
from mailhub.threads import InlineThreads


class Desk:
    """A writer on a table of numbers that gathers the units of a turn."""

    def __init__(self, folder: Path, **limits: Any) -> None:
        self.path = folder / "numbers.sqlite"
        self.clock = Clock()
        self.heard: list[tuple[int, Change]] = []
        self.commits: list[str] = []
        bounds: dict[str, Any] = {"waiting_limit": 100, "group_limit": 50, **limits}
        nothing: Any = None
        self.writer = Writer(InlineThreads(), self.clock, self.announce, gather=True, files=nothing, **bounds)
        self.connection = connect_writer(self.path, 0.0, durable=False, create=True)
        self.connection.execute("CREATE TABLE number (value INTEGER PRIMARY KEY, octets BLOB)")
        self.connection.set_trace_callback(lambda text: self.commits.append(text) if text == "COMMIT" else None)
        self.writer.start(self.connection)

    def announce(self, mailbox: int, change: Change) -> None:
        self.heard.append((mailbox, change))

    def submit(self, *values: int, error: Exception | None = None, octets: int = 0) -> list[Any]:
        """A unit that writes some numbers, and then raises; its result appears in the list."""

        def work(transaction: Transaction) -> int:
            for value in values:
                transaction.execute("INSERT INTO number VALUES (?, zeroblob(?))", (value, octets))
                transaction.announce(value, MailboxGone())
            if error is not None:
                raise error
            return sum(values)

        return results_of(self.writer.submit(work))

    def numbers(self) -> list[int]:
        """What is there for others to see."""
        with sqlite3.connect(self.path) as connection:
            return [row[0] for row in connection.execute("SELECT value FROM number ORDER BY value")]

    def turn(self) -> None:
        self.clock.advance(0)


def results_of(deferred: Deferred[Any]) -> list[Any]:
    results: list[Any] = []
    deferred.addBoth(lambda result: results.append(result.value if isinstance(result, Failure) else result))
    return results


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


def test_units_of_a_turn_are_one_commit_and_nothing_is_told_before_it(desk: Desk) -> None:
    results = [desk.submit(1), desk.submit(2, 3)]
    assert (results, desk.numbers(), desk.heard) == ([[], []], [], [])
    desk.turn()
    assert results == [[1], [5]]
    assert desk.numbers() == [1, 2, 3]
    assert desk.heard == [(number, MailboxGone()) for number in (1, 2, 3)]
    assert len(desk.commits) == 1


def test_results_see_what_all_of_their_group_announced(desk: Desk) -> None:
    seen: list[int] = []
    desk.writer.submit(lambda transaction: None).addCallback(lambda _: seen.append(len(desk.heard)))
    desk.submit(1)
    desk.turn()
    assert seen == [1]


def test_results_wait_until_all_is_told_and_so_does_the_end(tmp_path: Path) -> None:
    """Telling many watchers of many messages may take turns."""
    telling: list[Any] = []
    desk = Desk(tmp_path, when_told=lambda mailboxes, call: telling.append((mailboxes, call)))
    results = desk.submit(1)
    desk.turn()
    assert (desk.heard, results) == ([(1, MailboxGone())], [])
    stopped = results_of(desk.writer.stop())
    (of_one, answer), (of_any, end) = telling
    assert (of_one, of_any) == ({1}, None)
    answer()
    assert (results, stopped) == ([1], [])
    end()
    assert stopped == [None]


def test_a_group_is_bounded(tmp_path: Path) -> None:
    desk = Desk(tmp_path, group_limit=2)
    for number in range(5):
        desk.submit(number)
    desk.turn()
    assert (len(desk.commits), len(desk.numbers())) == (3, 5)


@pytest.mark.parametrize("error", [OverQuota(), ZeroDivisionError()])
def test_a_unit_that_fails_hurts_nobody_else_whether_it_has_written_or_not(desk: Desk, error: Exception) -> None:
    results = [desk.submit(1), desk.submit(error=error), desk.submit(2), desk.submit(3, error=error), desk.submit(4)]
    desk.turn()
    assert results == [[1], [error], [2], [error], [4]]
    assert desk.numbers() == [1, 2, 4]
    assert [number for number, _ in desk.heard] == [1, 2, 4]


def test_an_error_of_sqlite_is_a_temporary_failure_of_its_unit_alone(desk: Desk) -> None:
    results = [desk.submit(1), desk.submit(5, 1), desk.submit(2)]
    desk.turn()
    assert isinstance(results[1][0], StoreUnavailable)
    assert "UNIQUE" in results[1][0].detail
    assert (results[0], results[2], desk.numbers()) == ([1], [2], [1, 2])


def test_a_full_disk_fails_what_does_not_fit_and_nothing_else(desk: Desk) -> None:
    pages = desk.connection.execute("PRAGMA page_count").fetchone()[0]
    desk.connection.execute(f"PRAGMA max_page_count = {pages + 20}")
    results = [desk.submit(1), desk.submit(2, octets=1_000_000), desk.submit(3)]
    desk.turn()
    assert isinstance(results[1][0], StorageFull)
    assert "full" in results[1][0].detail
    assert (results[0], results[2], desk.numbers()) == ([1], [3], [1, 3])
    desk.connection.execute("PRAGMA max_page_count = 1000000")
    again = desk.submit(2, octets=1_000_000)
    desk.turn()
    assert again == [2]


def test_a_database_that_another_process_keeps_locked_is_a_temporary_failure(desk: Desk) -> None:
    other = sqlite3.connect(desk.path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    results = desk.submit(1)
    desk.turn()
    assert isinstance(results[0], StoreUnavailable)
    other.execute("ROLLBACK")
    again = desk.submit(1)
    desk.turn()
    assert again == [1]


def test_a_foreign_lock_is_waited_for_once_by_all_that_wait(desk: Desk) -> None:
    """Not by each of a group in its turn, nor by those that come while it lasts."""
    waited: list[int] = []

    def timeout() -> int:
        return int(desk.connection.execute("PRAGMA busy_timeout").fetchone()[0])

    def refused() -> bool:
        results = [desk.submit(number) for number in range(5)]
        waited.append(timeout())
        desk.turn()
        return all(isinstance(result[0], StoreUnavailable) for result in results)

    begun: list[str] = []
    desk.connection.set_trace_callback(begun.append)
    other = sqlite3.connect(desk.path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    usual = timeout()
    assert refused()
    assert refused()
    assert waited == [usual, LOCKED_OUT_MILLISECONDS]
    assert begun.count("BEGIN IMMEDIATE") == 2
    other.execute("ROLLBACK")
    again = desk.submit(1)
    desk.turn()
    assert again == [1]
    assert timeout() == usual


def test_a_lock_that_is_taken_between_two_tries_is_waited_for_once(desk: Desk) -> None:
    """A group that breaks as a whole is tried one by one; then too the lock is waited for once."""
    other = sqlite3.connect(desk.path, isolation_level=None)
    begun: list[str] = []

    def broken(transaction: Transaction) -> None:
        transaction.execute("ROLLBACK")
        other.execute("BEGIN IMMEDIATE")
        raise sqlite3.OperationalError("disk I/O error")

    desk.connection.set_trace_callback(begun.append)
    spoilt: list[Any] = []
    desk.writer.submit(broken).addBoth(lambda failure: spoilt.append(failure.value))
    results = [desk.submit(number) for number in range(3)]
    desk.turn()
    assert all(isinstance(result[0], StoreUnavailable) for result in (spoilt, *results))
    assert begun.count("BEGIN IMMEDIATE") == 2
    other.close()


def test_what_another_process_wrote_is_noticed_with_the_next_commit(desk: Desk) -> None:
    noticed: list[int] = []
    desk.writer.on_foreign_change = lambda: noticed.append(1)
    desk.submit(1)
    desk.turn()
    assert noticed == []
    with sqlite3.connect(desk.path) as other:
        other.execute("INSERT INTO number VALUES (7, NULL)")
    desk.submit(2)
    desk.turn()
    desk.submit(3)
    desk.turn()
    assert noticed == [1]


def test_too_many_units_waiting_is_busy(tmp_path: Path) -> None:
    desk = Desk(tmp_path, waiting_limit=2)
    results = [desk.submit(1), desk.submit(2), desk.submit(3)]
    assert isinstance(results[2][0], Busy)
    desk.turn()
    assert results[:2] == [[1], [2]]
    again = desk.submit(3)
    desk.turn()
    assert again == [3]


def test_stopping_commits_what_waits_and_refuses_what_comes_later(desk: Desk) -> None:
    waiting = desk.submit(1)
    stopped = [results_of(desk.writer.stop()), results_of(desk.writer.stop())]
    assert (waiting, stopped) == ([1], [[None], [None]])
    assert isinstance(desk.submit(2)[0], StoreUnavailable)
    assert desk.numbers() == [1]


def test_a_caller_that_gives_up_does_not_stop_its_unit(desk: Desk) -> None:
    result = desk.writer.submit(lambda transaction: transaction.execute("INSERT INTO number VALUES (1, NULL)"))
    errors = results_of(result)
    result.cancel()
    assert len(errors) == 1
    desk.turn()
    assert desk.numbers() == [1]


class Claim:
    """What the writer asks of a body."""

    def __init__(self) -> None:
        self.calls: list[object] = []

    def claim(self) -> None:
        self.calls.append("claimed")

    def settle(self, committed: bool) -> None:
        self.calls.append(committed)


@pytest.mark.parametrize(("used", "divisor", "committed"), [(True, 1, True), (False, 1, False), (True, 0, False)])
def test_bodies_are_told_of_the_outcome_even_when_nobody_waits(
    desk: Desk, used: bool, divisor: int, committed: bool
) -> None:
    body = Claim()

    def work(transaction: Transaction) -> int:
        if used:
            transaction.kept.append(body)
        return 1 // divisor

    result = desk.writer.submit(work, [body])
    result.addErrback(lambda failure: 0)
    result.cancel()
    assert body.calls == ["claimed"]
    desk.turn()
    assert body.calls == ["claimed", committed]


def test_a_clean_up_that_fails_is_left_alone(desk: Desk) -> None:
    done: list[int] = []

    def broken() -> None:
        raise OSError

    def work(transaction: Transaction) -> None:
        transaction.after_commit += [broken, lambda: done.append(1)]

    results = results_of(desk.writer.submit(work))
    desk.turn()
    assert (results, done) == ([None], [1])


def test_joint_units_of_a_kind_are_run_together_and_told_as_they_were_run(desk: Desk) -> None:
    """Others that are joint may be between them; one that is not keeps its place."""
    runs: list[list[int]] = []

    def run(kind: int, units: Sequence[tuple[Transaction, int]]) -> list[int]:
        runs.append([number for _, number in units])
        for transaction, number in units:
            transaction.announce(number, MailboxGone())
        return [kind + number for _, number in units]

    some, others = partial(run, 10), partial(run, 20)
    submit = desk.writer.submit
    results = [results_of(submit(Joint(kind, number))) for kind, number in ((some, 1), (others, 2), (some, 3))]
    alone = desk.submit(4)
    results += [results_of(submit(Joint(kind, number))) for kind, number in ((others, 5), (some, 6), (others, 7))]
    desk.turn()
    assert runs == [[1, 3], [2], [5, 7], [6]]
    assert [mailbox for mailbox, _ in desk.heard] == [1, 3, 2, 4, 5, 7, 6]
    assert (results, alone) == ([[11], [22], [13], [25], [16], [27]], [4])
    assert len(desk.commits) == 1
