"""The durable queue. It shares transactions, bodies and the writer with the mailboxes."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import product
from typing import Any

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
    QueuedRecipient,
    Receipt,
    Refusals,
    RowChange,
    Settlement,
    Submission,
    Waiting,
    Which,
)
from mailhub.message.address import Address
from mailhub.message.envelope import Mail, State
from mailhub.message.esmtp import with_mail_parameters
from mailhub.store.claims import Claims
from mailhub.store.queue_ids import number_of
from mailhub.store.queue_rows import ROUTE_COLUMNS, check_readable, outcome_in, route_in
from mailhub.store.sql import content, queue_operator
from mailhub.store.sql.deposits import Posting, post, touched_by
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
        "UPDATE queue_recipient SET attempts = attempts + 1, tried = ?,"
        " due = CASE WHEN held IS NULL THEN ? ELSE due END, held = CASE WHEN held IS NULL THEN NULL ELSE ? END,"
        " warned = CASE WHEN ? <> 0 THEN 1 ELSE warned END,"
        " state = ?, status = ?, reply = ?, remote = ?, source = ?, protocol = ?, tls = ?"
        " WHERE id = ? AND message = ? AND destination <> ''",
        [
            (now, item.due, item.due, int(item.warned), *content.outcome_columns(item.outcome), item.id, message_id)
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
        "UPDATE queue_recipient SET tried = CASE destination WHEN '' THEN tried ELSE ? END, destination = '',"
        " held = NULL, due = ?,"
        " state = ?, status = ?, reply = ?, remote = ?, source = ?, protocol = ?, tls = ? WHERE id = ? AND message = ?",
        [
            (now, item.due, *content.outcome_columns(item.outcome), item.id, message_id)
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
    """Drop a message whose time has not come, unless any of its rows is due or taken; whether that was done."""
    held = transaction.row("SELECT 1 FROM queue_message WHERE id = ? AND not_before > ?", (message_id, now))
    rows = transaction.execute("SELECT id, due FROM queue_recipient WHERE message = ?", (message_id,)).fetchall()
    if held is None or any(due <= now or number in taken for number, due in rows):
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


# --- claim -----------------------------------------------------------------------------------------------------------

_LOOK_AHEAD = 256  # due rows that are looked at before destinations are asked one by one
_PAGE = 1000  # destinations

# What has not been tried and is to be held (`Submission.not_before`) may have any date.
_QUEUED_AT = "(SELECT m.queued_at FROM queue_message m WHERE m.id = queue_recipient.message)"
_CLOCK_WAS_SET = f"due > ? AND held IS NULL AND (attempts > 0 OR due <= {_QUEUED_AT})"

# The next destinations and priorities behind one, and when the first and last rows of each are due: a seek each,
# however many rows they have.
_PLACES = """
WITH RECURSIVE place (name, priority) AS (
  SELECT * FROM (
    SELECT destination, priority FROM queue_recipient WHERE (destination, priority) > (?, ?)
    ORDER BY destination, priority LIMIT 1
  ) AS first
  UNION ALL
  SELECT next.destination, next.priority FROM place JOIN queue_recipient AS next ON next.id = coalesce(
    (SELECT id FROM queue_recipient WHERE destination = place.name AND priority > place.priority
      ORDER BY priority LIMIT 1),
    (SELECT id FROM queue_recipient WHERE destination > place.name ORDER BY destination, priority LIMIT 1)
  )
)
SELECT name, priority,
  (SELECT min(due) FROM queue_recipient WHERE destination = place.name AND priority = place.priority),
  (SELECT max(due) FROM queue_recipient WHERE destination = place.name AND priority = place.priority)
FROM place LIMIT ?"""
_HIGHEST = 9  # RFC 6710 3


@attrs.frozen
class Wanted:
    """What `IQueue.claim` is asked for. `taken` are the rows that are claimed; `after` is the destination at which the
    last call came to its limit."""

    now: int
    limit: int
    quota: int
    quotas: Mapping[str, int]
    latest: int | None
    taken: frozenset[int]
    after: str

    @property
    def moments(self) -> Sequence[tuple[str, int]]:
        """Conditions under which a row's time has come, with their parameter."""
        far = [] if self.latest is None else [(_CLOCK_WAS_SET, self.latest)]
        return [("due <= ?", self.now), *far]


Found = list[tuple[str, QueuedMessage]]


def find_due(snapshot: Snapshot, wanted: Wanted) -> tuple[Found, str]:
    """What can be claimed, and behind which destination the next call is to go on."""
    found: Found = []
    room = wanted.limit
    few = _destinations_of_few(snapshot, wanted)
    for destination, urgent in _destinations_in_turn(snapshot, wanted) if few is None else few:
        quota = wanted.quotas.get(destination, wanted.quota)
        for message_id, rows in _due_at(snapshot, destination, wanted, quota, room).items() if quota > 0 else ():
            message = _message(snapshot, message_id, rows)
            if message is not None:
                found.append((destination, message))
                room -= len(rows)
        if room <= 0:
            return found, wanted.after if urgent else destination
    return found, ""


def _destinations_of_few(snapshot: Snapshot, wanted: Wanted) -> Sequence[tuple[str, bool]] | None:
    """The destinations of all rows that are due and free, those with the highest priority first, then in turn, and
    whether they are before their turn; None when that are too many to look at."""
    found: dict[str, int] = {}
    bound = len(wanted.taken) + _LOOK_AHEAD
    for condition, moment in wanted.moments:
        rows = snapshot.execute(
            f"SELECT id, destination, priority FROM queue_recipient WHERE {condition} ORDER BY due, id LIMIT ?",
            (moment, bound),
        ).fetchall()
        if len(rows) == bound:
            return None
        for number, destination, priority in rows:
            if number not in wanted.taken:
                found[destination] = max(priority, found.get(destination, priority))
    order = sorted(found, key=lambda name: (name != "", -found[name], name <= wanted.after, name))
    return [(name, found[name] > 0) for name in order]


def _destinations_in_turn(snapshot: Snapshot, wanted: Wanted) -> Iterator[tuple[str, bool]]:
    """All that have due rows, from where the last call has ended; before them those whose DSN is due, and those that
    have rows of a higher priority than usual."""
    before = {"": 0, **_urgent(snapshot, wanted)}
    for name in sorted(before, key=lambda name: (name != "", -before[name], name <= wanted.after, name)):
        yield name, True
    for start, end in ((wanted.after, None), ("", wanted.after)):
        given = ""
        last: tuple[str, int] | None = (start, _HIGHEST)
        while last is not None:
            page = snapshot.execute(_PLACES, (*last, _PAGE)).fetchall()
            for name, _, first_due, last_due in page:
                if end is not None and name > end:
                    return
                if name in before or name == given:
                    continue
                if first_due <= wanted.now or (wanted.latest is not None and last_due > wanted.latest):
                    given = name
                    yield name, False
            last = page[-1][:2] if len(page) == _PAGE else None


def _urgent(snapshot: Snapshot, wanted: Wanted) -> Mapping[str, int]:
    """Some destinations with due rows of a higher priority than usual, and the highest one at each."""
    found: dict[str, int] = {}
    for number, destination, priority in snapshot.execute(
        "SELECT id, destination, priority FROM queue_recipient WHERE priority > 0 AND due <= ? ORDER BY due LIMIT ?",
        (wanted.now, len(wanted.taken) + wanted.limit),
    ):
        if number not in wanted.taken:
            found[destination] = max(priority, found.get(destination, priority))
    return found


def _priorities(snapshot: Snapshot, destination: str) -> Iterator[int]:
    """Of the rows of a destination, the highest first; by seeks, since most have one alone."""
    lowest, priority = snapshot.row(
        "SELECT (SELECT min(priority) FROM queue_recipient WHERE destination = ?),"
        " (SELECT max(priority) FROM queue_recipient WHERE destination = ?)",
        (destination, destination),
    )
    while priority is not None:
        yield priority
        if priority == lowest:
            return
        (priority,) = snapshot.row(
            "SELECT max(priority) FROM queue_recipient WHERE destination = ? AND priority < ?", (destination, priority)
        )


def _due_at(
    snapshot: Snapshot, destination: str, wanted: Wanted, quota: int, room: int
) -> Mapping[str, Sequence[QueuedRecipient]]:
    """Up to `room` free rows that are due at a destination, by message, of which there are up to `quota`."""
    messages: dict[str, list[QueuedRecipient]] = {}
    priorities = list(_priorities(snapshot, destination))
    for (condition, moment), priority in product(wanted.moments, priorities):
        for message_id, *columns in snapshot.execute(
            f"SELECT message, {_RECIPIENT} FROM queue_recipient WHERE destination = ? AND priority = ? AND {condition}"
            " ORDER BY due, id LIMIT ?",
            (destination, priority, moment, len(wanted.taken) + room),
        ):
            if columns[0] in wanted.taken:
                continue
            if room <= 0 or (message_id not in messages and len(messages) >= quota):
                return messages
            messages.setdefault(message_id, []).append(_recipient(columns))
            room -= 1
    return messages


# --- reading ---------------------------------------------------------------------------------------------------------


def load(snapshot: Snapshot, found: Sequence[tuple[str, Sequence[int]]]) -> list[QueuedMessage]:
    """The messages in the given order, with these rows."""
    loaded = []
    for message_id, numbers in found:
        wanted = set(numbers)
        rows = [row for row in _recipients(snapshot, message_id) if row.id in wanted]
        loaded.append(_message(snapshot, message_id, rows))
    return [message for message in loaded if message is not None]


def _message(snapshot: Snapshot, message_id: str, rows: Iterable[QueuedRecipient]) -> QueuedMessage | None:
    """With these of its recipients; None when it is gone."""
    row = _row(snapshot, message_id)
    if row is None:
        return None
    reverse_path, body_type, smtputf8, parameters, needs, queued_at, not_before, submitter, size = row
    sender = None if reverse_path is None else Address.parse(reverse_path)
    mail = with_mail_parameters(Mail(sender, body_type, bool(smtputf8)), parameters)
    return QueuedMessage(message_id, mail, queued_at, size, tuple(rows), needs, not_before, submitter)


_ROW = (
    "SELECT q.reverse_path, q.body_type, q.smtputf8, q.parameters, q.needs, q.queued_at, q.not_before, q.submitter,"
    " {size}"
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


_SAID = content.OUTCOME_COLUMNS.count(",") + 1
_RECIPIENT = f"id, attempts, due, tried, warned, priority, held, {content.OUTCOME_COLUMNS}, {ROUTE_COLUMNS}"


def _recipients(snapshot: Snapshot, message_id: str) -> Iterable[QueuedRecipient]:
    rows = snapshot.execute(f"SELECT {_RECIPIENT} FROM queue_recipient WHERE message = ? ORDER BY id", (message_id,))
    return map(_recipient, rows)


def _recipient(columns: Sequence[Any]) -> QueuedRecipient:
    number, attempts, due, tried, warned, priority, held, *said = columns
    last, route = outcome_in(said[:_SAID]), route_in(said[_SAID:])
    return QueuedRecipient(number, route, attempts, due, last, tried, bool(warned), priority, held is not None)


def without_rows(snapshot: Snapshot, messages: Sequence[str]) -> list[str]:
    """Those of the messages that have no row any more."""
    return [
        name
        for name in messages
        if snapshot.row("SELECT 1 FROM queue_recipient WHERE message = ? LIMIT 1", (name,)) is None
    ]


def next_due(snapshot: Snapshot, after: int) -> int | None:
    """When the earliest row is due of those that are due after a moment."""
    due: int | None = snapshot.execute("SELECT min(due) FROM queue_recipient WHERE due > ?", (after,)).fetchone()[0]
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
        # Later fences are greater, those of the next process too.
        self._claims = Claims(engine.environment.now() << 20)
        self._after = ""

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
        self.check_space()
        postings = [self._posting(submission, refusals)]
        if also:
            postings += [self._posting(each, refusals) for each in also]
        return await self._engine.write(
            Joint(post, postings), [posting.body for posting in postings], partial(touched_by, postings)
        )

    def _posting(self, submission: Submission, refusals: Refusals) -> Posting:
        if submission.plan.routes or submission.plan.notices:
            check_readable(submission.mail, submission.plan.routes)
        now, name = self._engine.environment.now(), submission.delivery_id
        if name:
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
            wanted = Wanted(now, limit, quota, dict(quotas), latest, self._claims.rows, self._after)
            found, self._after = await self._engine.read(lambda snapshot: find_due(snapshot, wanted))
            return self._claims.take(found)
        finally:
            self._claims.taking.release()

    async def release(self, claims: Sequence[Claim]) -> None:
        """In memory."""
        for claim in claims:
            self._claims.drop(claim, [row.id for row in claim.message.recipients])

    async def next_due(self, after: int = -1) -> int | None:
        """From the index."""
        return await self._engine.read(lambda snapshot: next_due(snapshot, after))

    async def open(self, message_id: str) -> IBlobReader:
        """Raises MessageGone, MessageDamaged."""
        return await self._engine.open(lambda snapshot: open_message(snapshot, message_id))

    async def kept_header(self, message_id: str) -> bytes:
        """From the digest."""
        try:
            return await self._engine.read(lambda snapshot: kept_header(snapshot, message_id))
        except Unreadable:
            return b""

    async def settle(self, claim: Claim, settlements: Sequence[Settlement], reports: Sequence[Submission] = ()) -> bool:
        """Outcomes and reports in one transaction."""
        message_id = claim.message.id
        held = self._claims.held(claim, [item.id for item in settlements])
        if not held:
            return False
        ours = [item for item in settlements if item.id in held]
        postings = [self._posting(report, "reply") for report in reports]
        now = self._engine.environment.now()

        def work(transaction: Transaction) -> None:
            if not waits(transaction, message_id, ours):
                return
            if postings:
                post([(transaction, postings)])
            settle(transaction, message_id, ours, now)

        await self._engine.write(work, [posting.body for posting in postings], partial(touched_by, postings))
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

        return await self._engine.write(work)

    async def retry(self, message_ids: Sequence[str]) -> int:
        """Make rows due now."""
        return await self._engine.write(lambda transaction: retry(transaction, message_ids))

    async def cancel(self, message_id: str) -> bool:
        """While nothing can be claimed."""
        await self._claims.taking.acquire()
        try:
            now, taken = self._engine.environment.now(), self._claims.rows
            return await self._engine.write(lambda transaction: cancel(transaction, message_id, now, taken))
        finally:
            self._claims.taking.release()

    async def remove(self, message_ids: Sequence[str]) -> int:
        """Drop messages without a DSN."""
        return await self._engine.write(lambda transaction: remove(transaction, message_ids))
