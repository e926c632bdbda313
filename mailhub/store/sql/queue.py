"""The durable queue. It shares transactions, bodies and the writer with the mailboxes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from zope.interface import implementer

from mailhub.interfaces import (
    AT_ONCE,
    IBlobReader,
    IHeadedBodyWriter,
    IMailStore,
    IQueue,
    QueuedMessage,
    QueuedRecipient,
    Receipt,
    Refusals,
    Settlement,
    Submission,
)
from mailhub.message.address import Address
from mailhub.message.envelope import Mail, Outcome, Source, State
from mailhub.message.esmtp import with_mail_parameters
from mailhub.store.queue_ids import number_of
from mailhub.store.queue_rows import ROUTE_COLUMNS, route_in
from mailhub.store.sql import content
from mailhub.store.sql.deposits import Posting, post
from mailhub.store.sql.engine import Engine
from mailhub.store.sql.messages import open_content
from mailhub.store.sql.transaction import Joint, Snapshot, Transaction, Unreadable

# --- settle and the operator's commands ------------------------------------------------------------------------------


def waits(transaction: Transaction, message_id: str, settlements: Sequence[Settlement]) -> bool:
    """Whether any of these rows is still there. If none is, their outcome is known, and their DSN sent or unwanted."""
    row = transaction.row(
        f"SELECT 1 FROM queue_recipient WHERE message = ? AND id IN {transaction.dialect.numbers} LIMIT 1",
        (message_id, transaction.many([item.id for item in settlements])),
    )
    return row is not None


def settle(transaction: Transaction, message_id: str, settlements: Sequence[Settlement]) -> None:
    """Record outcomes; rows that are gone are passed over."""
    done = [item.id for item in settlements if item.outcome.state is not State.DELAYED]
    transaction.execute(
        f"DELETE FROM queue_recipient WHERE message = ? AND id IN {transaction.dialect.numbers}",
        (message_id, transaction.many(done)),
    )
    transaction.execute_many(
        "UPDATE queue_recipient"
        " SET attempts = attempts + 1, due = ?, state = ?, status = ?, reply = ?, remote = ?, source = ?"
        " WHERE id = ? AND message = ?",
        [
            (item.due, *content.outcome_columns(item.outcome), item.id, message_id)
            for item in settlements
            if item.outcome.state is State.DELAYED
        ],
    )
    if transaction.row("SELECT 1 FROM queue_recipient WHERE message = ? LIMIT 1", (message_id,)) is None:
        _remove_messages(transaction, [message_id])


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


def retry(transaction: Transaction, message_ids: Sequence[str]) -> int:
    """Make rows due; returns how many messages they belong to."""
    if not message_ids:
        transaction.execute("UPDATE queue_recipient SET due = ?", (AT_ONCE,))
        return int(transaction.row("SELECT count(*) FROM queue_message")[0])
    count = 0
    for message_id in dict.fromkeys(message_ids):
        transaction.execute("UPDATE queue_recipient SET due = ? WHERE message = ?", (AT_ONCE, message_id))
        count += transaction.row("SELECT 1 FROM queue_message WHERE id = ?", (message_id,)) is not None
    return count


# --- reading ---------------------------------------------------------------------------------------------------------


# Which rows are due: (the latest moment that has come, the earliest one that no pause can reach).
Due = tuple[int, int]
_NEVER = (1 << 63) - 1

# The conditions of `Due`. What has not been tried and is to be held (`Submission.not_before`) may have any date.
_HAS_COME = "due <= ?"
_QUEUED_AT = "(SELECT m.queued_at FROM queue_message m WHERE m.id = queue_recipient.message)"
_CLOCK_WAS_SET = f"due > ? AND (attempts > 0 OR due <= {_QUEUED_AT})"


def _is_due(row_due: int, attempts: int, queued_at: int, wanted: Due) -> bool:
    """The same of a row that has been read."""
    return row_due <= wanted[0] or (row_due > wanted[1] and (attempts > 0 or row_due <= queued_at))


def due_ids(snapshot: Snapshot, due: Due, limit: int, exclude: Iterable[str]) -> list[str]:
    """Messages with due rows in the order of their earliest one. Reads no further than it must."""
    excluded = set(exclude)
    found: dict[str, None] = {}
    for condition, moment in zip((_HAS_COME, _CLOCK_WAS_SET), due, strict=True):
        for (message_id,) in snapshot.execute(
            f"SELECT message FROM queue_recipient WHERE {condition} ORDER BY due, id", (moment,)
        ):
            if len(found) >= limit:
                return list(found)
            if message_id not in excluded:
                found[message_id] = None
    return list(found)


def load(snapshot: Snapshot, message_ids: Sequence[str], due: Due | None = None) -> list[QueuedMessage]:
    """The messages in the given order, with all their recipients or those due."""
    messages = []
    for message_id in message_ids:
        row = _row(snapshot, message_id)
        if row is not None:
            reverse_path, body_type, smtputf8, parameters, needs, queued_at, size = row
            sender = None if reverse_path is None else Address.parse(reverse_path)
            mail = with_mail_parameters(Mail(sender, body_type, bool(smtputf8)), parameters)
            recipients = tuple(_recipients(snapshot, message_id, queued_at, due))
            messages.append(QueuedMessage(message_id, mail, queued_at, size, recipients, needs))
    return messages


_ROW = (
    "SELECT q.reverse_path, q.body_type, q.smtputf8, q.parameters, q.needs, q.queued_at, {size}"
    " FROM queue_message q {join}WHERE q.id = ?"
)
_WITH_SIZE = _ROW.format(size="coalesce(c.size - q.relay_offset, 0)", join="LEFT JOIN content c ON c.id = q.content ")


def _row(snapshot: Snapshot, message_id: str) -> Any:
    """With the size 0 where the content is lost: such a message has to be found, so that its sender is told."""
    try:
        return snapshot.execute(_WITH_SIZE, (message_id,)).fetchone()
    except snapshot.dialect.errors as error:
        if not snapshot.dialect.is_damage(error):
            raise
    return snapshot.execute(_ROW.format(size=0, join=""), (message_id,)).fetchone()


def _recipients(snapshot: Snapshot, message_id: str, queued_at: int, wanted: Due | None) -> Iterable[QueuedRecipient]:
    for number, attempts, due, state, status, reply, remote, source, *columns in snapshot.execute(
        f"SELECT id, attempts, due, state, status, reply, remote, source, {ROUTE_COLUMNS}"
        " FROM queue_recipient WHERE message = ? ORDER BY id",
        (message_id,),
    ):
        if wanted is None or _is_due(due, attempts, queued_at, wanted):
            last = None if state is None else Outcome(State(state), status, reply, remote, Source(source))
            yield QueuedRecipient(number, route_in(columns), attempts, due, last)


def oldest_ids(snapshot: Snapshot, limit: int) -> list[str]:
    """In the order of arrival."""
    rows = snapshot.execute("SELECT id FROM queue_message ORDER BY number LIMIT ?", (limit,))
    return [row[0] for row in rows]


def next_due(snapshot: Snapshot) -> int | None:
    """When the earliest row is due."""
    due: int | None = snapshot.execute("SELECT min(due) FROM queue_recipient").fetchone()[0]
    return due


def open_message(snapshot: Snapshot, message_id: str) -> IBlobReader:
    """The octets to relay. Raises MessageGone, MessageDamaged."""
    row = snapshot.execute(
        "SELECT c.size, c.blob, c.start, c.octets, c.checksum, q.relay_offset"
        " FROM queue_message q LEFT JOIN content c ON c.id = q.content WHERE q.id = ?",
        (message_id,),
    ).fetchone()
    # What is sent on cannot be taken back, nor is it in anybody's way to be read twice.
    return open_content(row and row[:5], snapshot.files, row[5] if row else 0, thorough=True)


def kept_header(snapshot: Snapshot, message_id: str) -> bytes:
    """The usual fields of the header, nothing when they are lost too."""
    row = snapshot.execute(
        "SELECT c.fields FROM queue_message q JOIN content c ON c.id = q.content WHERE q.id = ?", (message_id,)
    ).fetchone()
    return row[0] if row else b""


# --- the facet -------------------------------------------------------------------------------------------------------


@implementer(IQueue)
class Queue:
    """The queue of the database."""

    def __init__(self, engine: Engine, store: IMailStore) -> None:
        self._engine = engine
        self._store = store

    def deposits_into(self, store: object) -> bool:
        """Into the mailboxes of the same database."""
        return store is self._store

    def new_body(self, size: int = 0, head_limit: int = 0) -> IHeadedBodyWriter:
        """For submit()."""
        return self._engine.files.new_body(head_limit)

    def check_space(self, size: int = 0) -> None:
        """Of the data folder's disk."""
        self._engine.space.check(size)

    def new_delivery_id(self) -> str:
        """Of time and randomness."""
        return self._engine.ids.next(self._engine.environment.now())[0]

    async def submit(
        self, submission: Submission, refusals: Refusals = "bounce", also: Sequence[Submission] = ()
    ) -> Receipt:
        """Durable on return."""
        self.check_space()
        postings = [self._posting(each, refusals) for each in (submission, *also)]
        return await self._engine.write(Joint(post, postings), [posting.body for posting in postings])

    def _posting(self, submission: Submission, refusals: Refusals) -> Posting:
        now, name = self._engine.environment.now(), submission.delivery_id
        if name:
            number = number_of(name, again=True)
        else:
            name, number = self._engine.ids.next(now)
        return Posting(name, number, submission, self._engine.files.own(submission.body), refusals, now)

    async def due(
        self, now: int, limit: int, exclude: Iterable[str] = (), latest: int | None = None
    ) -> Sequence[QueuedMessage]:
        """In the order of their earliest due row."""
        without = frozenset(exclude)
        due = (now, _NEVER if latest is None else latest)
        return await self._engine.read(lambda snapshot: load(snapshot, due_ids(snapshot, due, limit, without), due))

    async def next_due(self) -> int | None:
        """None for an empty queue."""
        return await self._engine.read(next_due)

    async def open(self, message_id: str) -> IBlobReader:
        """Raises MessageGone, MessageDamaged."""
        return await self._engine.open(lambda snapshot: open_message(snapshot, message_id))

    async def kept_header(self, message_id: str) -> bytes:
        """From the digest."""
        try:
            return await self._engine.read(lambda snapshot: kept_header(snapshot, message_id))
        except Unreadable:
            return b""

    async def settle(
        self, message_id: str, settlements: Sequence[Settlement], reports: Sequence[Submission] = ()
    ) -> None:
        """Outcomes and reports in one transaction."""
        postings = [self._posting(report, "reply") for report in reports]

        def work(transaction: Transaction) -> None:
            if not waits(transaction, message_id, settlements):
                return
            if postings:
                post([(transaction, postings)])
            settle(transaction, message_id, settlements)

        await self._engine.write(work, [posting.body for posting in postings])

    async def messages(self, limit: int = 1000) -> Sequence[QueuedMessage]:
        """Oldest first."""
        return await self._engine.read(lambda snapshot: load(snapshot, oldest_ids(snapshot, limit)))

    async def retry(self, message_ids: Sequence[str]) -> int:
        """Make rows due now."""
        return await self._engine.write(lambda transaction: retry(transaction, message_ids))

    async def remove(self, message_ids: Sequence[str]) -> int:
        """Drop messages without a DSN."""
        return await self._engine.write(lambda transaction: remove(transaction, message_ids))
