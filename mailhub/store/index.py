"""Mailbox indexes in memory, shared by all sessions, and the cache of digests. Runs on the reactor thread.

An index is loaded from a snapshot while commits go on. Each change carries its mod-sequence, so a change that the
snapshot holds already is told from one that came after it (RFC 7162 3.1: mod-sequences of a mailbox only grow).
"""

from __future__ import annotations

from bisect import bisect_left
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from enum import Enum
from typing import Any, get_args

import attrs
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from mailhub.log import Logger
from mailhub.message.record import Added, Change, DigestName, Entry, Expunged, FlagsChanged, MailboxGone, News

log = Logger(namespace="mailhub.store")

FLAGS_A_ROW = 8  # as much memory as a row
FEW = 64  # changes that are put in place one by one; more rebuild the list once
VALUE_OVERHEAD = 150  # bytes of Python objects around a value's octets, roughly


class Applied(Enum):
    """What became of a change: it was taken in, it was known, or something before it was missed."""

    NEW = "new"
    KNOWN = "known"
    MISSED = "missed"


class MailboxIndex:
    """The rows of one mailbox in UID order. `modseq` is the one they stand at, `hinted` the highest one heard of."""

    __slots__ = ("_flags_weight", "_rows", "_snapshot_modseq", "_uids", "_weighed", "hinted", "modseq")

    def __init__(self, rows: Iterable[Entry], modseq: int) -> None:
        self._rows = list(rows)
        self._uids = [row.uid for row in self._rows]
        self._snapshot_modseq = self.modseq = self.hinted = modseq
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

    def told_at_start(self, change: Change) -> bool:
        """Whether the rows that it began with held the change already."""
        return not isinstance(change, MailboxGone) and change.modseq <= self._snapshot_modseq

    def apply(self, change: Change) -> Applied:
        """Take in a committed change if it is the next one."""
        if isinstance(change, MailboxGone) or change.modseq <= self.modseq:
            return Applied.KNOWN
        if self.modseq != (change.modseq - 1 if change.previous is None else change.previous):
            self.hinted = max(self.hinted, change.modseq)
            return Applied.MISSED
        if isinstance(change, Added):
            self._add(change.entries)
        elif isinstance(change, FlagsChanged):
            self._update(change.entries)
        else:
            self._remove(change.uids)
        self.modseq = change.modseq
        return Applied.NEW

    def catch_up(self, news: News) -> list[Change]:
        """Take in all that is newer; returns it as changes, for watchers who have not heard of it."""
        previous, last = self.modseq, self._uids[-1] if self._uids else 0
        if news.modseq <= previous:
            return []
        gone = tuple(uid for uid in news.vanished if self._find(uid) >= 0)
        changed = tuple(entry for entry in news.entries if self._find(entry.uid) >= 0)
        added = tuple(entry for entry in news.entries if entry.uid > last)
        self._remove(gone)
        self._update(changed)
        self._add(added)
        self.modseq = news.modseq
        changes: list[Change] = []
        if gone:
            changes.append(Expunged(gone, news.modseq, previous))
        if changed:
            changes.append(FlagsChanged(changed, previous))
        if added:
            changes.append(Added(added, previous))
        return changes

    def amend(self, entries: Sequence[Entry]) -> None:
        """More is known of these rows, and nothing that counts as a change."""
        self._update(entries)

    def _add(self, entries: Sequence[Entry]) -> None:
        last = self._uids[-1] if self._uids else 0
        for entry in entries:
            if entry.uid > last:
                self._rows.append(entry)
                self._uids.append(entry.uid)

    def _update(self, entries: Sequence[Entry]) -> None:
        if len(entries) > FEW:
            if run := self._run([entry.uid for entry in entries]):
                self._rows[run] = entries
                return
            new = {entry.uid: entry for entry in entries}
            self._rows = [new.get(row.uid, row) for row in self._rows]
            return
        for entry in entries:
            position = self._find(entry.uid)
            if position >= 0:
                self._rows[position] = entry

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


@attrs.define(eq=False)
class _Behind:
    """An index that lacks changes up to some mod-sequence, and who waits until it does not."""

    modseq: int
    waiting: list[Deferred[None]] = attrs.field(factory=list)


Load = Callable[[int], Awaitable[MailboxIndex]]
ReadNews = Callable[[int, int], Awaitable[News]]
Tell = Callable[[int, Change], None]


class Indexes:
    """The indexes in memory. Those of mailboxes nobody watches go, least recently used first, when they hold more than
    `rows_limit` rows together.

    What they are told of may be lost, late, doubled or out of order. An index takes in what comes next; when something
    was missed, it reads all that is `news` in one snapshot, and tells the watchers of it.
    """

    def __init__(
        self, load: Load, watched: Callable[[int], bool], rows_limit: int, *, news: ReadNews, tell: Tell
    ) -> None:
        self._load = load
        self._watched = watched
        self._rows_limit = rows_limit
        self._news = news
        self._tell = tell
        self._ready: OrderedDict[int, MailboxIndex] = OrderedDict()
        self._loading: dict[int, _Loading] = {}
        self._behind: dict[int, _Behind] = {}

    async def get(self, mailbox: int) -> MailboxIndex:
        """The index, loaded when it is not there; several callers share one load. Raises what the load raises."""
        if (index := self._ready.get(mailbox)) is not None:
            if index.hinted > index.modseq:
                await self.catch_up(mailbox, index.hinted)
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
            while not _all_known(outcome, loading.changes):
                outcome = await self._load(mailbox)
        except Exception as error:
            outcome = Failure(error)  # type: ignore[no-untyped-call]
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

    def apply(self, mailbox: int, change: Change) -> bool:
        """Take in a committed change. Whether its watchers are to hear of it: not when they have, or are about to."""
        if isinstance(change, MailboxGone):
            self._ready.pop(mailbox, None)
            self._loading.pop(mailbox, None)
        elif (index := self._ready.get(mailbox)) is not None:
            applied = index.apply(change)
            if applied is Applied.MISSED:
                self._start(mailbox, change.modseq)
            return applied is Applied.NEW or index.told_at_start(change)
        elif loading := self._loading.get(mailbox):
            loading.changes.append(change)
        return True

    async def catch_up(self, mailbox: int, modseq: int) -> None:
        """Have the index in memory, if there is one, know all changes up to this one: they are being told of just now,
        or another process made them. Raises what reading raises."""
        if mailbox in self._ready and self._ready[mailbox].modseq < modseq:
            waiter: Deferred[None] = Deferred()
            self._start(mailbox, modseq, waiter)
            await waiter

    def _start(self, mailbox: int, modseq: int, *waiting: Deferred[None]) -> None:
        if behind := self._behind.get(mailbox):
            behind.modseq = max(behind.modseq, modseq)
            behind.waiting += waiting
        else:
            self._behind[mailbox] = behind = _Behind(modseq, list(waiting))
            Deferred.fromCoroutine(self._read_on(mailbox, behind))

    async def _read_on(self, mailbox: int, behind: _Behind) -> None:
        outcome: Failure | None = None
        try:
            while (index := self._ready.get(mailbox)) is not None and index.modseq < behind.modseq:
                before = index.modseq
                news = await self._news(mailbox, before)
                if self._ready.get(mailbox) is not index or index.modseq != before:
                    continue  # what came next was told of meanwhile
                for change in index.catch_up(news):
                    self._tell(mailbox, change)
                if index.modseq == before:
                    break  # there is nothing more
        except Exception as error:
            outcome = Failure(error)  # type: ignore[no-untyped-call]
            log.info(
                "what is new is not known yet: mailbox={mailbox} error={error:text}", mailbox=mailbox, error=str(error)
            )
        del self._behind[mailbox]
        for waiter in behind.waiting:
            waiter.callback(outcome)

    def known(self) -> dict[int, int]:
        """Mod-sequence by mailbox, of the indexes in memory."""
        return {mailbox: index.modseq for mailbox, index in self._ready.items()}


def _all_known(index: MailboxIndex, changes: Iterable[Change]) -> bool:
    """Take in what was announced while the index was read, in whatever order."""
    told = [change for change in changes if not isinstance(change, MailboxGone)]
    return all(index.apply(change) is not Applied.MISSED for change in sorted(told, key=lambda change: change.modseq))


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
