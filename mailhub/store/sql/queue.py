"""The durable queue. It shares transactions, bodies and the writer with the mailboxes."""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping, Sequence
from functools import partial
from typing import TypeVar

import attrs
from zope.interface import implementer

from mailhub.interfaces import (
    AT_ONCE,
    EVERYTHING,
    NO_QUOTAS,
    Claim,
    IBlobReader,
    IHeadedBodyWriter,
    IMailStore,
    IQueue,
    QueuedMessage,
    Receipt,
    Refusals,
    RowChange,
    Settlement,
    Submission,
    Waiting,
    Which,
)
from mailhub.message.envelope import State
from mailhub.store.arrivals import Arrival, Arrivals
from mailhub.store.claims import Claims
from mailhub.store.queue_ids import number_of
from mailhub.store.queue_rows import check_readable
from mailhub.store.sql import content, queue_operator
from mailhub.store.sql.deposits import Posting, post, touched_by
from mailhub.store.sql.engine import Engine
from mailhub.store.sql.queue_claim import Wanted, find_due
from mailhub.store.sql.queue_reading import kept_header, load, next_due, open_message, without_rows
from mailhub.store.sql.transaction import Joint, Snapshot, Touched, Transaction, Unreadable, Work

T = TypeVar("T")

# --- settle and the operator's commands ------------------------------------------------------------------------------


def waits(transaction: Transaction, message_id: str, settlements: Sequence[Settlement]) -> bool:
    """Whether any of these rows is still there. If none is, their outcome is known, and their DSN sent or unwanted."""
    row = transaction.row(
        f"SELECT 1 FROM queue_recipient WHERE message = ? AND id IN {transaction.dialect.numbers} LIMIT 1",
        (message_id, transaction.many([item.id for item in settlements])),
    )
    return row is not None


def settle(transaction: Transaction, message_id: str, settlements: Sequence[Settlement], now: int) -> None:
    """Record outcomes. Rows that are gone are passed over, and so are delays of those that the operator has given up
    meanwhile: they wait for their DSN."""
    done = [item.id for item in settlements if item.outcome.state is not State.DELAYED and not item.untold]
    transaction.execute(
        f"DELETE FROM queue_recipient WHERE message = ? AND id IN {transaction.dialect.numbers}",
        (message_id, transaction.many(done)),
    )
    late = [item.id for item in settlements if item.outcome.state is State.DELAYED]
    transaction.execute_many(
        "UPDATE queue_recipient SET turns = turns + 1, attempts = attempts + ?,"
        " tried = CASE WHEN ? <> 0 THEN ? ELSE tried END,"
        " due = CASE WHEN held IS NULL THEN ? ELSE due END, held = CASE WHEN held IS NULL THEN NULL ELSE ? END,"
        " warned = CASE WHEN ? <> 0 THEN 1 ELSE warned END,"
        " state = ?, status = ?, reply = ?, remote = ?, source = ?, protocol = ?, tls = ?"
        " WHERE id = ? AND message = ? AND destination <> ''",
        [
            (
                *(int(item.outcome.tried), int(item.outcome.tried), now),
                *(item.due, item.due, int(item.warned), *content.outcome_columns(item.outcome), item.id, message_id),
            )
            for item in settlements
            if item.outcome.state is State.DELAYED
        ],
    )
    moved = [(item.route, item.id) for item in settlements if item.route and item.outcome.state is State.DELAYED]
    if moved:
        transaction.execute_many(
            "UPDATE queue_recipient SET agent = ?, target = ?, destination = ?"
            " WHERE id = ? AND message = ? AND destination <> ''",
            [(route.agent, route.target, route.destination, number, message_id) for route, number in moved],
        )
    # Rows that wait for their DSN alone wait where no host can hold them up; when they were tried is known of those
    # that have not waited there before.
    transaction.execute_many(
        "UPDATE queue_recipient SET tried = CASE WHEN destination = '' OR ? = 0 THEN tried ELSE ? END,"
        " destination = '', held = NULL, due = ?,"
        " state = ?, status = ?, reply = ?, remote = ?, source = ?, protocol = ?, tls = ? WHERE id = ? AND message = ?",
        [
            (int(item.outcome.tried), now, item.due, *content.outcome_columns(item.outcome), item.id, message_id)
            for item in settlements
            if item.outcome.state is not State.DELAYED and item.untold
        ],
    )
    if transaction.row("SELECT 1 FROM queue_recipient WHERE message = ? LIMIT 1", (message_id,)) is None:
        _remove_messages(transaction, [message_id])
    elif late and _are_given_up(transaction, message_id, late):
        transaction.due = True  # now that the attempt is over, their turn has come


def _are_given_up(transaction: Transaction, message_id: str, rows: Sequence[int]) -> bool:
    """Whether any of these rows waits for its DSN alone."""
    row = transaction.row(
        f"SELECT 1 FROM queue_recipient WHERE message = ? AND id IN {transaction.dialect.numbers}"
        " AND destination = '' LIMIT 1",
        (message_id, transaction.many(rows)),
    )
    return row is not None


@attrs.define(eq=False)
class Settling:
    """What became of rows of a message, with the reports that are due for them."""

    message: str
    settlements: Sequence[Settlement]
    postings: Sequence[Posting]
    now: int

    @property
    def ends(self) -> bool:
        """Whether these rows go, and nothing else is to be done."""
        return not self.postings and not any(
            each.untold or each.outcome.state is State.DELAYED for each in self.settlements
        )


def settle_together(units: Sequence[tuple[Transaction, Settling]]) -> list[None]:
    """What was settled meanwhile. Rows that just go, as those of mail that was delivered, go with one statement."""
    ending: list[Settling] = []
    for transaction, settling in units:
        if settling.ends:
            ending.append(settling)
        elif waits(transaction, settling.message, settling.settlements):
            if settling.postings:
                post([(transaction, settling.postings)])
            settle(transaction, settling.message, settling.settlements, settling.now)
    if ending:
        end(units[0][0], ending)
    return [None] * len(units)


def end(transaction: Transaction, ending: Sequence[Settling]) -> None:
    """Drop rows, and messages that have none any more."""
    numbers = transaction.dialect.numbers
    gone = [each.id for settling in ending for each in settling.settlements]
    transaction.execute(f"DELETE FROM queue_recipient WHERE id IN {numbers}", (transaction.many(gone),))
    in_messages, messages = transaction.within(dict.fromkeys(settling.message for settling in ending))
    rows = transaction.rows(
        f"DELETE FROM queue_message WHERE id {in_messages} AND NOT EXISTS"
        " (SELECT 1 FROM queue_recipient WHERE queue_recipient.message = queue_message.id) RETURNING content",
        messages,
    )
    if rows:
        content.release(transaction, [row[0] for row in rows])


def _remove_messages(transaction: Transaction, message_ids: Sequence[str]) -> int:
    """The messages, whose recipient rows are gone; returns how many there were."""
    contents: list[int] = []
    for message_id in message_ids:
        cursor = transaction.execute("DELETE FROM queue_message WHERE id = ? RETURNING content", (message_id,))
        contents += [row[0] for row in cursor.fetchall()]
    content.release(transaction, contents)
    return len(contents)


def remove(transaction: Transaction, message_ids: Sequence[str]) -> int:
    """Drop messages."""
    transaction.execute_many(
        "DELETE FROM queue_recipient WHERE message = ?", [(message_id,) for message_id in message_ids]
    )
    return _remove_messages(transaction, message_ids)


def cancel(transaction: Transaction, message_id: str, now: int, taken: Container[int]) -> bool:
    """Drop a message whose time has not come, unless a row is due, taken or was tried; whether that was done."""
    held = transaction.row("SELECT 1 FROM queue_message WHERE id = ? AND not_before > ?", (message_id, now))
    rows = transaction.execute(
        "SELECT id, coalesce(held, due), tried FROM queue_recipient WHERE message = ?", (message_id,)
    ).fetchall()
    if held is None or any(due <= now or tried or number in taken for number, due, tried in rows):
        return False
    return remove(transaction, [message_id]) > 0


def retry(transaction: Transaction, message_ids: Sequence[str]) -> int:
    """Make rows due; returns how many messages they belong to."""
    transaction.due = True
    at_once = (
        "UPDATE queue_recipient SET due = CASE WHEN held IS NULL THEN ? ELSE due END,"
        " held = CASE WHEN held IS NULL THEN NULL ELSE ? END"
    )
    if not message_ids:
        transaction.execute(at_once, (AT_ONCE, AT_ONCE))
        return int(transaction.row("SELECT count(*) FROM queue_message")[0])
    count = 0
    for message_id in dict.fromkeys(message_ids):
        transaction.execute(f"{at_once} WHERE message = ?", (AT_ONCE, AT_ONCE, message_id))
        count += transaction.row("SELECT 1 FROM queue_message WHERE id = ?", (message_id,)) is not None
    return count


_BODIES = 1000  # small messages that are read ahead

# --- the facet -------------------------------------------------------------------------------------------------------


@implementer(IQueue)
class Queue:
    """The queue of the database."""

    def __init__(self, engine: Engine, store: IMailStore) -> None:
        self._engine = engine
        self._store = store
        # Later fences are greater, those of the next process too.
        self._claims = Claims(engine.environment.now() << 20)
        self._arrivals = Arrivals(engine.environment.monotonic)
        engine.due.arrived = self._arrived
        self._after = ""
        # Small messages that are claimed and not opened yet; forgotten when the operator changes anything.
        self._bodies: dict[str, IBlobReader] = {}

    def deposits_into(self, store: object) -> bool:
        """Into the mailboxes of the same database."""
        return store is self._store

    def new_body(self, size: int = 0, head_limit: int = 0) -> IHeadedBodyWriter:
        """For submit()."""
        return self._engine.files.new_body(head_limit)

    def check_space(self, size: int = 0) -> None:
        """Of the data folder's disk."""
        self._engine.space.check(size)

    def watch(self, listener: Callable[[], None]) -> Callable[[], None]:
        """Told by the writer."""
        return self._engine.due.watch(listener)

    def new_delivery_id(self) -> str:
        """Of time and randomness."""
        return self._engine.ids.next(self._engine.environment.now())[0]

    async def submit(
        self, submission: Submission, refusals: Refusals = "bounce", also: Sequence[Submission] = ()
    ) -> Receipt:
        """Durable on return."""
        engine = self._engine
        engine.space.check()
        now = engine.environment.now()
        postings = [self._posting(submission, refusals, now)]
        if also:
            postings += [self._posting(each, refusals, now) for each in also]
        bodies = [posting.body for posting in postings]
        return await engine.writer.submit(Joint(post, postings), bodies, partial(touched_by, postings))

    def _posting(self, submission: Submission, refusals: Refusals, now: int) -> Posting:
        if submission.plan.routes or submission.plan.notices:
            check_readable(submission.mail, submission.plan.routes)
        if name := submission.delivery_id:
            number = number_of(name, again=True)
        else:
            name, number = self._engine.ids.next(now)
        return Posting(name, number, submission, self._engine.files.own(submission.body), refusals, now)

    async def claim(
        self, now: int, limit: int, quota: int, quotas: Mapping[str, int] = NO_QUOTAS, latest: int | None = None
    ) -> Sequence[Claim]:
        """Noted in memory."""
        await self._claims.taking.acquire()
        try:
            if self._arrivals.knows(now):
                arrived, self._after = self._arrivals.take(limit, quota, quotas, self._after)
                return self._take(
                    [(each.destination, each.message) for each in arrived],
                    {each.message.id: each.body for each in arrived if each.body is not None},
                )
            wanted = Wanted(now, limit, quota, dict(quotas), latest, self._claims.rows, self._after)
            bodies: dict[str, IBlobReader] = {}
            found: Sequence[tuple[str, QueuedMessage]] = ()
            rest = None
            self._arrivals.ask()
            try:
                found, self._after, rest = await self._engine.read(lambda snapshot: find_due(snapshot, wanted, bodies))
            finally:
                self._arrivals.found(found, now, rest)
            return self._take(found, bodies)
        finally:
            self._claims.taking.release()

    def _take(self, found: Sequence[tuple[str, QueuedMessage]], bodies: Mapping[str, IBlobReader]) -> Sequence[Claim]:
        if len(self._bodies) < _BODIES:
            self._bodies.update(bodies)
        return self._claims.take(found)

    def _arrived(self, arrived: Sequence[Arrival] | None) -> None:
        """Before anybody is told that there is something to claim."""
        if arrived is None:
            self._arrivals.forget()
        else:
            self._arrivals.add(arrived, self._claims)

    async def release(self, claims: Sequence[Claim]) -> None:
        """In memory."""
        self._arrivals.forget()
        for claim in claims:
            self._bodies.pop(claim.message.id, None)
            self._claims.drop(claim, [row.id for row in claim.message.recipients])

    async def next_due(self, after: int = -1) -> int | None:
        """From the index, unless it is known."""
        if self._arrivals.knows(after):
            return self._arrivals.next_due
        return await self._engine.read(lambda snapshot: next_due(snapshot, after))

    async def open(self, message_id: str) -> IBlobReader:
        """Raises MessageGone, MessageDamaged."""
        body = self._bodies.pop(message_id, None)
        return body or await self._engine.open(lambda snapshot: open_message(snapshot, message_id))

    async def kept_header(self, message_id: str) -> bytes:
        """From the digest."""
        try:
            return await self._engine.read(lambda snapshot: kept_header(snapshot, message_id))
        except Unreadable:
            return b""

    async def settle(self, claim: Claim, settlements: Sequence[Settlement], reports: Sequence[Submission] = ()) -> bool:
        """Outcomes and reports in one transaction."""
        held = self._claims.held(claim, [item.id for item in settlements])
        if not held:
            return False
        now = self._engine.environment.now()
        postings = [self._posting(report, "reply", now) for report in reports]
        settling = Settling(claim.message.id, [item for item in settlements if item.id in held], postings, now)
        touching = partial(touched_by, postings) if postings else Touched
        await self._engine.write(Joint(settle_together, settling), [posting.body for posting in postings], touching)
        for item in settling.settlements:
            if item.untold or item.outcome.state is State.DELAYED:
                self._arrivals.later(item.due)
        self._bodies.pop(claim.message.id, None)
        self._claims.drop(claim, held)
        return True

    async def messages(self, limit: int = 1000, after: str = "", which: Which = EVERYTHING) -> Sequence[QueuedMessage]:
        """Oldest first."""
        now = self._engine.environment.now()

        def query(snapshot: Snapshot) -> list[QueuedMessage]:
            found = queue_operator.page(snapshot, which, now, after, limit)
            return load(snapshot, found)

        return await self._engine.read(query)

    async def waiting(self, which: Which = EVERYTHING) -> Sequence[Waiting]:
        """Counted."""
        now = self._engine.environment.now()
        return await self._engine.read(lambda snapshot: queue_operator.waiting(snapshot, which, now))

    async def change(self, changes: Mapping[RowChange, Sequence[QueuedMessage]]) -> int:
        """In one transaction."""
        now = self._engine.environment.now()
        emptied = [each.id for change, messages in changes.items() if change.removed for each in messages]

        def work(transaction: Transaction) -> int:
            changed = queue_operator.change(transaction, changes, now)
            _remove_messages(transaction, without_rows(transaction, emptied))
            return changed

        return await self._change(work)

    async def retry(self, message_ids: Sequence[str]) -> int:
        """Make rows due now."""
        return await self._change(lambda transaction: retry(transaction, message_ids))

    async def cancel(self, message_id: str) -> bool:
        """While nothing can be claimed."""
        await self._claims.taking.acquire()
        try:
            now, taken = self._engine.environment.now(), self._claims.rows
            return await self._change(lambda transaction: cancel(transaction, message_id, now, taken))
        finally:
            self._claims.taking.release()

    async def remove(self, message_ids: Sequence[str]) -> int:
        """Drop messages without a DSN."""
        return await self._change(lambda transaction: remove(transaction, message_ids))

    async def _change(self, work: Work[T]) -> T:
        """What is in memory of messages is not so any more, during the change and after it."""
        self._forget()
        try:
            return await self._engine.write(work)
        finally:
            self._forget()

    def _forget(self) -> None:
        self._bodies.clear()
        self._arrivals.forget()
