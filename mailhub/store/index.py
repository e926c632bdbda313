"""Mailbox indexes in memory, shared by all sessions, and the cache of digests. Runs on the reactor thread.

An index is loaded from a snapshot while commits go on. Each change carries its mod-sequence, so a change that the
snapshot holds already is told from one that came after it (RFC 7162 3.1: mod-sequences of a mailbox only grow).
"""

from __future__ import annotations

from bisect import bisect_left
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, get_args

import attrs
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from mailhub.message.record import Added, Change, DigestName, Entry, Expunged, FlagsChanged, MailboxGone

FLAGS_A_ROW = 8  # as much memory as a row
FEW = 64  # changes that are put in place one by one; more rebuild the list once
VALUE_OVERHEAD = 150  # bytes of Python objects around a value's octets, roughly


class MailboxIndex:
    """The rows of one mailbox in UID order. `modseq` is the highest one known."""

    __slots__ = ("_flags_weight", "_rows", "_snapshot_modseq", "_uids", "_weighed", "modseq")

    def __init__(self, rows: Iterable[Entry], modseq: int) -> None:
        self._rows = list(rows)
        self._uids = [row.uid for row in self._rows]
        self._snapshot_modseq = self.modseq = modseq
        self._weighed = self._flags_weight = 0

    def __len__(self) -> int:
        return len(self._rows)

    def weight(self) -> int:
        """What it takes of memory, in rows; flags that no other message has count too, eight as a row."""
        if self._weighed != self.modseq:
            self._weighed = self.modseq
            self._flags_weight = sum(map(len, {row.flags for row in self._rows})) // FLAGS_A_ROW
        return len(self._rows) + self._flags_weight

    def select(self, uids: Sequence[int] | None = None, since_modseq: int = 0) -> list[Entry]:
        """Copies of the list are cheap: 10,000 rows cost some 20 us."""
        rows = self._rows[:] if uids is None else self._pick(uids)
        return [row for row in rows if row.modseq > since_modseq] if since_modseq else rows

    def _pick(self, uids: Sequence[int]) -> list[Entry]:
        if len(uids) > FEW and uids[-1] - uids[0] == len(uids) - 1:  # one run
            return self._rows[bisect_left(self._uids, uids[0]) : bisect_left(self._uids, uids[-1] + 1)]
        if len(uids) * 8 > len(self._rows):
            wanted = set(uids)
            return [row for row in self._rows if row.uid in wanted]
        found = []
        for uid in uids:
            position = self._find(uid)
            if position >= 0:
                found.append(self._rows[position])
        return found

    def _find(self, uid: int) -> int:
        position = bisect_left(self._uids, uid)
        return position if position < len(self._uids) and self._uids[position] == uid else -1

    def _run(self, uids: list[int]) -> slice | None:
        """Where exactly these messages stand, if there are no others between them."""
        start = bisect_left(self._uids, uids[0])
        run = slice(start, start + len(uids))
        return run if self._uids[run] == uids else None

    def apply(self, change: Change) -> None:
        """Take in a committed change; one that the snapshot held already is passed over."""
        if isinstance(change, Added):
            self._add(change.entries)
        elif isinstance(change, FlagsChanged):
            self._update(change.entries)
        elif isinstance(change, Expunged) and change.modseq > self._snapshot_modseq:
            self._remove(change.uids)
            self.modseq = max(self.modseq, change.modseq)

    def _add(self, entries: Sequence[Entry]) -> None:
        last = self._uids[-1] if self._uids else 0
        for entry in entries:
            if entry.modseq > self._snapshot_modseq and entry.uid > last:
                self._rows.append(entry)
                self._uids.append(entry.uid)
                self.modseq = max(self.modseq, entry.modseq)

    def _update(self, entries: Sequence[Entry]) -> None:
        if len(entries) > FEW:
            run = self._run([entry.uid for entry in entries])
            if run and all(entry.modseq > self._snapshot_modseq for entry in entries):
                self._rows[run] = entries
                self.modseq = max(self.modseq, entries[-1].modseq)
                return
            new = {entry.uid: entry for entry in entries if entry.modseq > self._snapshot_modseq}
            self._rows = [new.get(row.uid, row) for row in self._rows]
            self.modseq = max(self.modseq, entries[-1].modseq)
            return
        for entry in entries:
            position = self._find(entry.uid)
            if position >= 0 and entry.modseq > self._snapshot_modseq:
                self._rows[position] = entry
                self.modseq = max(self.modseq, entry.modseq)

    def _remove(self, uids: Sequence[int]) -> None:
        if len(uids) > FEW:
            if run := self._run(list(uids)):
                del self._rows[run], self._uids[run]
                return
            gone = set(uids)
            self._rows = [row for row in self._rows if row.uid not in gone]
            self._uids = [row.uid for row in self._rows]
            return
        for uid in uids:
            position = self._find(uid)
            if position >= 0:
                del self._rows[position], self._uids[position]


@attrs.define(eq=False)
class _Loading:
    """A load under way: who waits for it, and what was committed meanwhile."""

    waiting: list[Deferred[MailboxIndex]] = attrs.field(factory=list)
    changes: list[Change] = attrs.field(factory=list)


Load = Callable[[int], Awaitable[MailboxIndex]]


class Indexes:
    """The indexes in memory. Those of mailboxes nobody watches go, least recently used first, when they hold more than
    `rows_limit` rows together."""

    def __init__(self, load: Load, watched: Callable[[int], bool], rows_limit: int) -> None:
        self._load = load
        self._watched = watched
        self._rows_limit = rows_limit
        self._ready: OrderedDict[int, MailboxIndex] = OrderedDict()
        self._loading: dict[int, _Loading] = {}

    async def get(self, mailbox: int) -> MailboxIndex:
        """The index, loaded when it is not there; several callers share one load. Raises what the load raises."""
        if mailbox in self._ready:
            self._ready.move_to_end(mailbox)
            return self._ready[mailbox]
        waiter: Deferred[MailboxIndex] = Deferred()
        if loading := self._loading.get(mailbox):
            loading.waiting.append(waiter)
        else:
            self._loading[mailbox] = loading = _Loading([waiter])
            # Not awaited: the first caller may be cancelled while others wait for the same load.
            Deferred.fromCoroutine(self._fetch(mailbox, loading))
        return await waiter

    async def _fetch(self, mailbox: int, loading: _Loading) -> None:
        outcome: MailboxIndex | Failure
        try:
            outcome = await self._load(mailbox)
        except Exception as error:
            outcome = Failure(error)  # type: ignore[no-untyped-call]
        else:
            for change in loading.changes:
                outcome.apply(change)
        # Unless the mailbox went away meanwhile: then a snapshot from before is of use to nobody after this.
        if self._loading.get(mailbox) is loading:
            del self._loading[mailbox]
            if isinstance(outcome, MailboxIndex):
                self._ready[mailbox] = outcome
                self._evict(mailbox)
        for waiter in loading.waiting:
            waiter.callback(outcome)

    def _evict(self, newest: int) -> None:
        unused = [number for number in self._ready if number != newest and not self._watched(number)]
        rows = sum(self._ready[number].weight() for number in unused)
        for number in unused:
            if rows <= self._rows_limit:
                break
            rows -= self._ready.pop(number).weight()

    def apply(self, mailbox: int, change: Change) -> None:
        """Take in a committed change, before its watchers hear of it."""
        if isinstance(change, MailboxGone):
            self._ready.pop(mailbox, None)
            self._loading.pop(mailbox, None)
        elif mailbox in self._ready:
            self._ready[mailbox].apply(change)
        elif loading := self._loading.get(mailbox):
            loading.changes.append(change)

    def behind(self, mailbox: int, modseq: int) -> bool:
        """Whether the index in memory lacks changes that the database has: they are being told of just now, or another
        process made them."""
        return mailbox in self._ready and self._ready[mailbox].modseq < modseq

    def known(self) -> dict[int, int]:
        """Mod-sequence by mailbox, of the indexes in memory."""
        return {mailbox: index.modseq for mailbox, index in self._ready.items()}


Columns = Mapping[str, Mapping[int, Any]]
_NAMES: tuple[DigestName, ...] = get_args(DigestName)


class DigestCache:
    """What was lately asked for of digests, up to `limit` bytes. Mailbox and UID are never used twice.

    Attribute by attribute, since clients ask for the same few again and again: a column has one attribute of the
    messages of one mailbox. The column used longest ago goes first, and as a whole.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._columns: OrderedDict[tuple[int, str], dict[int, Any]] = OrderedDict()
        self._removals = 0
        self.bytes = 0

    @property
    def removals(self) -> int:
        """How many changes removed messages so far: what was read from an older snapshot may hold messages that are
        gone."""
        return self._removals

    def get(
        self, mailbox: int, uids: Sequence[int], wanted: Collection[DigestName]
    ) -> tuple[dict[str, dict[int, Any]], list[int]]:
        """What is here, and the UIDs of which something has to be fetched."""
        kept = [(name, self._columns.get((mailbox, name), {})) for name in wanted]
        for name, column in kept:
            if column:
                self._columns.move_to_end((mailbox, name))
        if not all(column for _, column in kept):
            return {name: {} for name in wanted}, list(uids)
        found: dict[str, dict[int, Any]] = {
            name: dict(zip(uids, map(column.get, uids), strict=True)) for name, column in kept
        }
        # No value is None; to look for it in all of them is much cheaper than to look at each.
        gaps = {uid for column in found.values() if None in column.values() for uid in column if column[uid] is None}
        if gaps:
            found = {name: {uid: column[uid] for uid in column if uid not in gaps} for name, column in found.items()}
        return found, [uid for uid in uids if uid in gaps] if gaps else []

    def put(self, mailbox: int, columns: Columns) -> None:
        """Keep them; what was used longest ago goes."""
        for name, column in columns.items():
            kept = self._columns.setdefault((mailbox, name), {})
            self._columns.move_to_end((mailbox, name))
            if not kept.keys().isdisjoint(column):
                column = {uid: value for uid, value in column.items() if uid not in kept}
            kept.update(column)
            self.bytes += weight(column.values())
        while self.bytes > self._limit:
            _, oldest = self._columns.popitem(last=False)
            self.bytes -= weight(oldest.values())

    def apply(self, mailbox: int, change: Change) -> None:
        """Forget messages that are gone."""
        if not isinstance(change, Expunged | MailboxGone):
            return
        self._removals += 1
        for name in _NAMES:
            if column := self._columns.get((mailbox, name)):
                gone = column.keys() & change.uids if isinstance(change, Expunged) else set(column)
                self.bytes -= weight([column.pop(uid) for uid in gone])
            if not column:
                self._columns.pop((mailbox, name), None)


def weight(values: Collection[Any]) -> int:
    """Bytes of memory, roughly. The values of a column are all numbers or all octets or text."""
    sized = isinstance(next(iter(values), 0), bytes | str)
    return VALUE_OVERHEAD * len(values) + (sum(map(len, values)) if sized else 0)
