"""Which rows of the queue come next: what is due, in turn of the destinations, however many wait."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import product

import attrs

from mailhub.interfaces import IBlobReader, QueuedMessage, QueuedRecipient
from mailhub.store.arrivals import Rest
from mailhub.store.sql.queue_reading import RECIPIENT, load_whole, next_due, recipient_in
from mailhub.store.sql.transaction import Snapshot

_LOOK_AHEAD = 256  # due rows that are looked at before destinations are asked one by one
_PAGE = 1000  # destinations

# What has not been tried and is to be held (`Submission.not_before`) may have any date.
_QUEUED_AT = "(SELECT m.queued_at FROM queue_message m WHERE m.id = queue_recipient.message)"
_CLOCK_WAS_SET = f"due > ? AND held IS NULL AND (turns > 0 OR due <= {_QUEUED_AT})"

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


def find_due(
    snapshot: Snapshot, wanted: Wanted, bodies: dict[str, IBlobReader] | None = None
) -> tuple[Found, str, Rest | None]:
    """What can be claimed, behind which destination the next call is to go on, and what is known of the rest where
    that is all. What is read of small messages on the way is put into `bodies`."""
    bodies = {} if bodies is None else bodies
    if not wanted.quota:
        return *_claimable(snapshot, wanted, bodies, _destinations_named(snapshot, wanted)), None
    few, rows = _destinations_of_few(snapshot, wanted)
    found, after = _claimable(snapshot, wanted, bodies, _destinations_in_turn(snapshot, wanted) if few is None else few)
    is_all = few is not None and wanted.latest is not None
    if is_all and rows == sum(len(message.recipients) for _, message in found):
        return found, after, Rest(next_due(snapshot, wanted.now))
    return found, after, None


def _claimable(
    snapshot: Snapshot, wanted: Wanted, bodies: dict[str, IBlobReader], destinations: Iterable[tuple[str, bool]]
) -> tuple[Found, str]:
    found: Found = []
    room = wanted.limit
    for destination, urgent in destinations:
        quota = wanted.quotas.get(destination, wanted.quota)
        due = _due_at(snapshot, destination, wanted, quota, room) if quota > 0 else {}
        for message in load_whole(snapshot, due, bodies) if due else ():
            found.append((destination, message))
            room -= len(message.recipients)
        if room <= 0:
            return found, wanted.after if urgent else destination
    return found, wanted.after


def _destinations_named(snapshot: Snapshot, wanted: Wanted) -> Sequence[tuple[str, bool]]:
    """Those that may give something and have rows, all before their turn."""
    statement = "SELECT 1 FROM queue_recipient WHERE destination = ? LIMIT 1"
    named = [name for name, quota in wanted.quotas.items() if quota > 0]
    return [(name, True) for name in named if snapshot.execute(statement, (name,)).fetchall()]


def _destinations_of_few(snapshot: Snapshot, wanted: Wanted) -> tuple[Sequence[tuple[str, bool]] | None, int]:
    """The destinations of all rows that are due and free, those with the highest priority first, then in turn, and
    whether they are before their turn, and the number of these rows; None when that are too many to look at."""
    found: dict[str, int] = {}
    count = 0
    bound = len(wanted.taken) + _LOOK_AHEAD
    for condition, moment in wanted.moments:
        rows = snapshot.execute(
            f"SELECT id, destination, priority FROM queue_recipient WHERE {condition} ORDER BY due, id LIMIT ?",
            (moment, bound),
        ).fetchall()
        if len(rows) == bound:
            return None, 0
        for number, destination, priority in rows:
            if number not in wanted.taken:
                count += 1
                found[destination] = max(priority, found.get(destination, priority))
    order = sorted(found, key=lambda name: (name != "", -found[name], name <= wanted.after, name))
    return [(name, found[name] > 0) for name in order], count


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
        for message_id, *columns in snapshot.packed(
            f"message, {RECIPIENT}",
            f"FROM queue_recipient WHERE destination = ? AND priority = ? AND {condition} ORDER BY due, id LIMIT ?",
            (destination, priority, moment, len(wanted.taken) + room),
        ):
            if columns[0] in wanted.taken:
                continue
            if room <= 0 or (message_id not in messages and len(messages) >= quota):
                return messages
            messages.setdefault(message_id, []).append(recipient_in(columns))
            room -= 1
    return messages
