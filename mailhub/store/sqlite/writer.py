"""The one writer: units of work wait in a queue, and all that wait are committed together.

A unit is a function of a `Transaction`. One that fails leaves no trace, and the others go on. What a unit announces,
and its result, reach the reactor thread after the commit, in one call for the whole group: nobody ever sees what is
not durable.
"""

from __future__ import annotations

import queue
import sqlite3
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from functools import partial
from itertools import chain
from typing import Any, TypeVar

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime

from mailhub.errors import Busy, StorageFull, StoreUnavailable
from mailhub.interfaces import IThreads
from mailhub.log import Logger
from mailhub.message.record import Change
from mailhub.store.arrivals import Arrival
from mailhub.store.held import Held
from mailhub.store.limits import StoreLimits
from mailhub.store.space import is_full
from mailhub.store.sql.standing import Standing
from mailhub.store.sql.transaction import (
    Announcement,
    Claimable,
    Files,
    Joint,
    Touched,
    Touching,
    Transaction,
    Unreadable,
    Work,
)
from mailhub.store.sqlite.dialect import SQLITE, is_damage

log = Logger(namespace="mailhub.store")

T = TypeVar("T")

LOCKED_OUT_MILLISECONDS = 100  # waited for a lock that was waited for in vain just before

WhenTold = Callable[[Iterable[int] | None, Callable[[], object]], object]


@attrs.define(eq=False)
class Unit:
    """One unit and what became of it."""

    work: Work[Any]
    result: Deferred[Any]
    bodies: Sequence[Claimable] = ()
    touching: Touching = Touched
    value: Any = None
    error: BaseException | None = None
    done: Transaction | None = None  # what it did, and is to be told
    later: bool = False

    def fail(self, error: BaseException) -> None:
        """Nothing of it stays."""
        self.value, self.error, self.done = None, error, None


class _HalfDone(Exception):
    """A unit failed after it had written something."""


def _as_mail_error(error: sqlite3.Error | OSError) -> StoreUnavailable:
    kind = StorageFull if is_full(error) else Unreadable if is_damage(error) else StoreUnavailable
    return kind(detail=f"write: {error}")


class Writer:
    """Owns the writing connection. `announce` is called on the reactor thread for every change that was committed."""

    def __init__(
        self,
        threads: IThreads,
        clock: IReactorTime,
        announce: Callable[[int, Change], None],
        *,
        waiting_limit: int,
        group_limit: int,
        gather: bool = False,
        when_told: WhenTold = lambda _, call: call(),
        files: Files,
        held: Held | None = None,
        limits: StoreLimits | None = None,
    ) -> None:
        """With inline threads a unit is committed at once or, with `gather`, together with all others of the same
        turn of the clock. `when_told` calls once all announced of some mailboxes (None: of any) has been told."""
        self._threads = threads
        self._clock = clock
        self._announce = announce
        self._when_told = when_told
        self._waiting_limit = waiting_limit
        self._group_limit = group_limit
        self._gather = gather
        self._held = held or Held(0, 0)
        self._limits = limits or StoreLimits()
        self._files = files
        self._units: queue.SimpleQueue[Unit | None] = queue.SimpleQueue()
        self._gathered: list[Unit] = []  # in this turn, for the thread
        self._standing = Standing()  # of mailboxes, as the last commit has left them
        self._connection: sqlite3.Connection | None = None
        self._data_version = 0
        self._busy_milliseconds = 0
        self._locked_out = False  # another process has kept the lock for longer than we wait
        self._waiting = 0
        self._stopped: Deferred[None] | None = None
        self._turn_begun = False
        self._foreign = False  # another process has written since the last group
        self._news: list[Announcement] = []  # what it added
        self.on_foreign_change: Callable[[], object] = lambda: None
        self.take_in: Work[None] = lambda _: None  # announces what another process added
        self.hand_out: Callable[[Transaction], None] = lambda _: None  # notes what is added here, for another process
        # After commits that put rows into the queue: which ones, None where others may have come to be due.
        self.on_due: Callable[[Sequence[Arrival] | None], object] = lambda _: None
        self.on_released: Callable[[], object] = lambda: None
        self.make_room: Callable[[], bool] = lambda: False  # when the disk is full; both in the writer's thread
        self.keep_room: Callable[[], object] = lambda: None  # after commits, once room had to be made
        self._made_room = False

    def start(self, connection: sqlite3.Connection) -> None:
        """Take over the connection and begin."""
        self._connection = connection
        self._data_version = self._read_data_version(connection)
        self._busy_milliseconds = int(connection.execute("PRAGMA busy_timeout").fetchone()[0])
        if not self._threads.inline:
            self._threads.start_loop("mailhub store writer", self._loop)

    def stop(self) -> Deferred[None]:
        """Commit all that waits, refuse what comes later, and close the connection."""
        if self._stopped is None:
            self._stopped = Deferred()
            self._hand_over()
            self._units.put(None)
            if self._connection is None:
                self._stopped.callback(None)
            elif self._threads.inline:
                while self._take_group():
                    pass
        stopped: Deferred[None] = Deferred()
        self._stopped.addCallback(lambda _: stopped.callback(None))
        return stopped

    def submit(self, work: Work[T], bodies: Sequence[Claimable] = (), touching: Touching = Touched) -> Deferred[T]:
        """Have `work` run and committed. Fails with what it raises, Busy when too many wait, and StoreUnavailable when
        the database does not take it. Cancelling drops the result only: the commit happens or not as it would."""
        result: Deferred[T] = Deferred()
        if self._connection is None or self._stopped is not None:
            result.errback(StoreUnavailable(detail="write: the store is stopped"))
        elif self._waiting >= self._waiting_limit:
            result.errback(Busy(detail="store writer backlog"))
        else:
            for body in bodies:
                body.claim()
            self._waiting += 1
            unit = Unit(work, result, bodies, touching)
            if self._threads.inline:
                self._units.put(unit)
                self._schedule_turn()
            else:
                self._gathered.append(unit)
                if len(self._gathered) == 1:
                    self._clock.callLater(0, self._hand_over)
        return result

    def _hand_over(self) -> None:
        """What came in one turn of the reactor, at its end: a thread that is woken earlier takes the interpreter lock
        whenever a connection reads or writes, and commits less at a time."""
        units, self._gathered = self._gathered, []
        for unit in units:
            self._units.put(unit)

    # --- without threads

    def _schedule_turn(self) -> None:
        if not self._gather:
            self._turn()
        elif not self._turn_begun:
            self._turn_begun = True
            self._clock.callLater(0, self._turn)

    def _turn(self) -> None:
        """Commit what waits now; what comes of it has its own turn."""
        self._turn_begun = False
        for _ in range(0, self._units.qsize(), self._group_limit):
            self._take_group()

    # --- the writer's own thread

    def _loop(self) -> None:
        while self._take_group():
            pass

    def _take_group(self) -> bool:
        """Wait for a unit, commit it with all that wait behind it. False when it was the last."""
        units: list[Unit] = []
        unit = self._units.get()
        while unit is not None:
            units.append(unit)
            if len(units) >= self._group_limit or self._units.empty():
                break
            unit = self._units.get()
        if units:
            self._commit_and_tell(self._in_order(units))
        if unit is None:
            self._close()
        return unit is not None

    def _commit_and_tell(self, units: Sequence[Unit]) -> None:
        assert self._connection is not None
        try:
            self._commit(self._connection, units)
        except BaseException as error:  # whatever it is, nobody may wait for ever
            self._standing.clear()
            self._fail(units, error)
        foreign, news, self._foreign, self._news = self._foreign, self._news, False, []
        self._threads.call_in_reactor(self._finish, units, foreign, news)
        for unit in units:
            if unit.done is not None:
                for action in unit.done.after_commit:
                    self._run_after_commit(action)
        if self._made_room:
            self.keep_room()

    def _run_after_commit(self, action: Callable[[], None]) -> None:
        try:
            action()
        except Exception:
            log.failure("clean-up after a commit failed; the next start does it")

    def _has_foreign_change(self, connection: sqlite3.Connection) -> bool:
        """Whether another process has written since we looked last: our own commits do not change data_version."""
        version = self._read_data_version(connection)
        changed = version != self._data_version
        self._data_version = version
        return changed

    @staticmethod
    def _read_data_version(connection: sqlite3.Connection) -> int:
        return int(connection.execute("PRAGMA data_version").fetchone()[0])

    def _commit(
        self, connection: sqlite3.Connection, units: Sequence[Unit], careful: bool = False, again: bool = False
    ) -> None:
        """One transaction for all. When it breaks as a whole, each unit gets one of its own, so that the one that
        breaks it fails alone. On a full disk it is tried `again` after room has been made."""
        if not self._begin(connection, units):
            return
        try:
            self._take(connection, units)
            self._look_around(connection)
            for together in self._kinds(units, careful):
                self._run(connection, together, careful)
            connection.commit()  # lets go of the interpreter lock once; execute("COMMIT") does six times
        except Exception as error:
            self._standing.clear()
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            if isinstance(error, _HalfDone):
                self._commit(connection, units, True, again)
            elif is_full(error) and not again:
                self._make_room(connection)
                self._commit(connection, units, careful, again=True)
            elif len(units) == 1:
                if is_damage(error) and not units[0].later:
                    units[0].later = True
                    self._commit(connection, units, again=again)
                else:
                    self._fail(units, error)
            else:
                for index, unit in enumerate(units):
                    self._commit(connection, [unit], again=again)
                    if self._locked_out:
                        self._fail(units[index + 1 :], sqlite3.OperationalError("database is locked"))
                        break

    def _begin(self, connection: sqlite3.Connection, units: Sequence[Unit]) -> bool:
        """Take the database's write lock. Another process that keeps it is waited for once, by all that wait with us:
        whoever comes after that is refused at once, until the lock is had again."""
        try:
            connection.executescript("BEGIN IMMEDIATE")  # as commit()
        except sqlite3.Error as error:
            if error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY and not self._locked_out:
                self._locked_out = True
                connection.execute(f"PRAGMA busy_timeout = {LOCKED_OUT_MILLISECONDS}")
            self._fail(units, error)
            return False
        if self._locked_out:
            self._locked_out = False
            connection.execute(f"PRAGMA busy_timeout = {self._busy_milliseconds}")
        return True

    def _make_room(self, connection: sqlite3.Connection) -> None:
        """The log's file is written from its beginning again once it is folded back, and takes no more of the disk."""
        with suppress(sqlite3.Error):
            connection.execute("PRAGMA wal_checkpoint(PASSIVE)")
        self._made_room = self.make_room() or self._made_room

    def _take(self, connection: sqlite3.Connection, units: Sequence[Unit]) -> None:
        if SQLITE.lock is not None:
            transaction = Transaction(connection, SQLITE, self._files, self._held, self._limits)
            transaction.take([unit.touching for unit in units])

    def _look_around(self, connection: sqlite3.Connection) -> None:
        """Nobody else can write now: what another process has added is announced before all that is added here, so that
        UIDs are told in their order."""
        if not self._has_foreign_change(connection):
            return
        self._foreign = True
        self._standing.clear()
        transaction = Transaction(connection, SQLITE, self._files, self._held)
        try:
            self.take_in(transaction)
            self._news += transaction.announcements
        except sqlite3.Error as error:
            log.error("what another process added is not announced: {reason:text}", reason=str(error))
            if not connection.in_transaction:
                raise

    @staticmethod
    def _in_order(units: Sequence[Unit]) -> Sequence[Unit]:
        """The units as they are run and told: in their order, but joint ones of one kind behind each other, unless one
        stands between them that is not joint."""
        if len(units) == 1:
            return units
        found: list[list[Unit]] = []
        kinds: dict[object, list[Unit]] = {}
        for unit in units:
            work = unit.work
            if not isinstance(work, Joint):
                kinds.clear()
                found.append([unit])
            elif (together := kinds.get(work.run)) is not None:
                together.append(unit)
            else:
                kinds[work.run] = together = [unit]
                found.append(together)
        return found[0] if len(found) == 1 else list(chain.from_iterable(found))

    @staticmethod
    def _kinds(units: Sequence[Unit], careful: bool) -> Sequence[Sequence[Unit]]:
        """The units in their order; those of one kind that follow each other are run together."""
        if len(units) == 1:
            return (units,)
        found: list[list[Unit]] = []
        run: object = None
        for unit in units:
            work = unit.work
            if isinstance(work, Joint) and work.run is run and not careful:
                found[-1].append(unit)
            else:
                found.append([unit])
                run = work.run if isinstance(work, Joint) else None
        return found

    def _run(self, connection: sqlite3.Connection, units: Sequence[Unit], careful: bool) -> None:
        """Run a unit, or several together. Savepoints cost as much as a row, and units refuse before they write: so the
        first try goes without, and is repeated with them in case that a unit fails half done."""
        joint = isinstance(units[0].work, Joint)
        standing = self._standing if joint else Standing()
        transactions = [
            Transaction(connection, SQLITE, self._files, self._held, self._limits, unit.later, standing)
            for unit in units
        ]
        changes = connection.total_changes
        if careful:
            connection.execute("SAVEPOINT unit")
        try:
            values = self._values(units, transactions)
            for transaction in transactions:
                self.hand_out(transaction)
        except Exception as error:
            self._standing.clear()
            if not connection.in_transaction or is_full(error):
                raise  # SQLite has rolled everything back, or is about to: disk full, I/O error
            if careful:
                connection.execute("ROLLBACK TO unit")
            elif len(units) > 1 or connection.total_changes != changes:
                raise _HalfDone from error
            self._fail(units, error)
        else:
            if not joint:
                self._standing.clear()
            for unit, value, transaction in zip(units, values, transactions, strict=True):
                unit.value, unit.error, unit.done = value, None, transaction
        if careful:
            connection.execute("RELEASE unit")

    @staticmethod
    def _values(units: Sequence[Unit], transactions: Sequence[Transaction]) -> Sequence[Any]:
        work = units[0].work
        if len(units) == 1:
            return [work(transactions[0])]
        items = [unit.work.item for unit in units if isinstance(unit.work, Joint)]
        assert isinstance(work, Joint)
        values: Sequence[Any] = work.run(list(zip(transactions, items, strict=True)))
        return values

    @staticmethod
    def _fail(units: Sequence[Unit], error: BaseException) -> None:
        if units and isinstance(error, (sqlite3.Error, OSError)):
            log.error("write failed: {error:text} changes={count}", error=repr(error), count=len(units))
        for unit in units:
            unit.fail(_as_mail_error(error) if isinstance(error, (sqlite3.Error, OSError)) else error)

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.close()
        self._threads.call_in_reactor(self._when_told, None, self._closed)

    # --- the reactor thread again

    def _finish(self, units: Sequence[Unit], foreign: bool, news: Sequence[Announcement]) -> None:
        self._waiting -= len(units)
        if foreign:
            self.on_foreign_change()
        for mailbox, change in news:
            self._announce(mailbox, change)
        due = released = False
        arrived: list[Arrival] = []
        for unit in units:
            kept: Sequence[Claimable] = ()
            if (done := unit.done) is not None:
                kept, due, released = done.kept, due or done.due, released or done.released
                arrived += done.arrived
            for body in unit.bodies:
                body.settle(body in kept)
            if done is not None:
                for mailbox, change in done.announcements:
                    self._announce(mailbox, change)
        if due or arrived:
            self.on_due(None if due else arrived)
        for unit in units:
            # Telling many watchers of many messages may take several turns; who changed nothing there need not wait.
            touched = {mailbox for mailbox, _ in unit.done.announcements} if unit.done is not None else set()
            self._when_told(touched, partial(self._answer, unit))
        if released:
            self.on_released()

    @staticmethod
    def _answer(unit: Unit) -> None:
        if unit.error is None:
            unit.result.callback(unit.value)
        else:
            unit.result.errback(unit.error)

    def _closed(self) -> None:
        self._connection = None
        if self._stopped is not None:
            self._stopped.callback(None)
