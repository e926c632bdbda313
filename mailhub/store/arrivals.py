"""Mail that was just put into the queue and is due, which whoever claims it gets from memory: where it is known that
nothing else is due, the database need not be asked. Everything here runs on the reactor thread.

That is known for a moment, by a claim that has found all that was due. What comes after is committed by this process,
and told, or is another process's, which nobody waits for more eagerly than a look a second finds it.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping, Sequence

import attrs

from mailhub.interfaces import IBlobReader, QueuedMessage

_SECONDS = 1.0  # after which the database is asked again, whatever is known
_MOST = 500  # messages in memory, for one destination each; with more of them the database is asked


@attrs.frozen
class Arrival:
    """The rows of a new message for one destination. `body`: its octets, where it is small."""

    destination: str
    message: QueuedMessage
    body: IBlobReader | None = None


class Arrivals:
    """What has arrived and is not claimed; it is in the database, and no row stands here that is claimed."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._waiting: dict[str, dict[str, Arrival]] = {}
        self._count = 0
        self._known = False  # all rows that are due are claimed, or stand here
        self._asking = False  # whether that is so will be known soon
        self._doubtful = False  # no, for something has happened meanwhile
        self._asked_at = 0.0
        # The wall clock when that became known, and when the next row is due.
        self._since = 0
        self._next: int | None = None

    def add(self, arrived: Sequence[Arrival], claimed: Container[int]) -> None:
        """They are committed. What has been found in the database by now is passed over: it is claimed, for whoever
        settles it hears of that after this."""
        if not self._known and not self._asking:
            return
        for each in arrived:
            if not any(row.id in claimed for row in each.message.recipients):
                self._waiting.setdefault(each.destination, {})[each.message.id] = each
                self._count += 1
        if self._count > _MOST:
            self.forget()

    def forget(self) -> None:
        """Rows are free, due or gone by another way: only the database knows."""
        self._waiting.clear()
        self._count = 0
        self._known = False
        self._doubtful = True

    def later(self, due: int) -> None:
        """A row waits until then."""
        self._next = due if self._next is None else min(self._next, due)
        self._doubtful = True

    def ask(self) -> None:
        """The database is asked for all that is due; `found` or `forget` must follow."""
        self._asking, self._doubtful = True, False
        self._asked_at = self._monotonic()

    def found(self, messages: Sequence[tuple[str, QueuedMessage]], now: int, rest: Rest | None) -> None:
        """What it gave, which is claimed, and what it says of the rest; None where more may be due."""
        self._asking = False
        if rest is None or self._doubtful:
            self.forget()
            return
        for destination, message in messages:
            self._drop(destination, message.id)
        self._known, self._since, self._next = True, now, rest.next_due

    def _drop(self, destination: str, message_id: str) -> None:
        line = self._waiting.get(destination)
        if line is not None and line.pop(message_id, None) is not None:
            self._count -= 1
            if not line:
                del self._waiting[destination]

    def knows(self, now: int) -> bool:
        """Whether all that is due is claimed or stands here."""
        return (
            self._known
            and self._since <= now
            and (self._next is None or now < self._next)
            and self._monotonic() - self._asked_at < _SECONDS
        )

    @property
    def next_due(self) -> int | None:
        """When the next row is due, where that is known."""
        return self._next

    def take(self, limit: int, quota: int, quotas: Mapping[str, int], after: str) -> tuple[list[Arrival], str]:
        """See `IQueue.claim`: the same as the database would give, also of a message of more rows than there is room
        for, and behind which destination to go on."""
        taken: list[Arrival] = []
        if limit <= 0:
            return taken, after
        for name in sorted(self._waiting, key=lambda name: (name != "", name <= after, name)):
            for each in list(self._waiting[name].values())[: quotas.get(name, quota)]:
                part = self._part(name, each, limit)
                taken.append(part)
                limit -= len(part.message.recipients)
                if limit <= 0:
                    return taken, name if quota else after
        return taken, after

    def _part(self, destination: str, whole: Arrival, limit: int) -> Arrival:
        """The first rows of it, up to `limit`, which stand here no more. The others are read with a body of their
        own."""
        rows = whole.message.recipients
        if len(rows) <= limit:
            self._drop(destination, whole.message.id)
            return whole
        rest = attrs.evolve(whole.message, recipients=rows[limit:])
        self._waiting[destination][whole.message.id] = Arrival(destination, rest)
        return attrs.evolve(whole, message=attrs.evolve(whole.message, recipients=rows[:limit]))


@attrs.frozen
class Rest:
    """Of a queue of which all that is due was given: when the next row is due, None where there is none."""

    next_due: int | None
