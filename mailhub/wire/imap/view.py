"""What one session believes about its selected mailbox, and what it has to be told next.

Sequence numbers exist here and nowhere else. Changes arrive at any time through `apply`; the client hears of them
only when `updates` is called, so that EXPUNGE can never come while a command is under way that counts messages
(RFC 3501 7.4.1).
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import TypeVar

from mailhub.message.flags import NO_FLAGS, RECENT, SEEN, Flags, render
from mailhub.message.record import Added, Change, Entry, Expunged, FlagChange, FlagsChanged
from mailhub.wire.imap.sets import SequenceSet

Item = TypeVar("Item")
Row = tuple[int, Entry, bytes]
Slices = Sequence[tuple[int, int]]
Mailbox = tuple[str, int]  # account and UIDVALIDITY: it stays the same one under whatever name

UPDATE_LINES = 4096
FORM_LIMIT = 1 << 18
PORTION = 1 << 24  # octets of digests held at a time
_DIGEST_LIMIT = 1 << 20  # octets; a digest is at most about as large as the header, of which so much is looked at
MARK_LIMIT = 100_000
# Below this many gaps it is cheaper to cut them out of the columns one by one than to copy the columns.
_CUT_LIMIT = 32


class NoSuchNumber(ValueError):
    """A message sequence number is greater than the number of messages (RFC 3501 9, seq-number): answer BAD."""


class _Forms(dict[Flags, bytes]):
    """Rendered flags; `extra` flags are added. There may be as many as combinations of flags in the mailbox, but no
    more than FORM_LIMIT octets of them are kept."""

    def __init__(self, extra: Flags = NO_FLAGS) -> None:
        self._extra = extra
        self._octets = 0

    def __missing__(self, flags: Flags) -> bytes:
        form = render(flags | self._extra)
        self._octets += len(form)
        if self._octets > FORM_LIMIT:
            self.clear()
            self._octets = len(form)
        self[flags] = form
        return form


class RecentMarks:
    """Which messages no session has been told of yet (\\Recent, RFC 3501 2.3.2), shared by all sessions of a process.

    Kept in memory alone: for a mailbox that is not known here, the messages without \\Seen count as recent, since
    they might be ("if it is not possible to determine [...] that message SHOULD be considered recent").
    """

    def __init__(self, limit: int = MARK_LIMIT) -> None:
        self._limit = limit
        self._marks: OrderedDict[Mailbox, int] = OrderedDict()

    def mark(self, mailbox: Mailbox) -> int | None:
        """The first UID that no session has been told of; None if that is not known."""
        return self._marks.get(mailbox)

    def claim(self, mailbox: Mailbox, entries: Sequence[Entry], *, keep: bool = False) -> set[int]:
        """UIDs among `entries` (ascending) that are recent for a session which is told of them now.

        No other session gets them afterwards, unless `keep` (EXAMINE changes nothing).
        """
        mark = self._marks.get(mailbox)
        if mark is None:
            recent = {entry.uid for entry in entries if SEEN not in entry.flags}
        else:
            recent = {entry.uid for entry in entries[bisect_left(entries, (mark,)) :]}
        if not keep:
            self._move(mailbox, max(mark or 1, entries[-1].uid + 1 if entries else 1))
        return recent

    def _move(self, mailbox: Mailbox, mark: int) -> None:
        self._marks[mailbox] = mark
        self._marks.move_to_end(mailbox)
        if len(self._marks) > self._limit:
            self._marks.popitem(last=False)


class View:
    """The messages of the selected mailbox as this session counts them.

    `position` is the sequence number less one. Columns, not rows: 12 octets a message beside the shared `Entry`.
    """

    def __init__(
        self,
        entries: Iterable[Entry],
        claim: Callable[[Sequence[Entry]], set[int]] | None = None,
        forget: Callable[[Sequence[int]], object] = lambda uids: None,
    ) -> None:
        """`claim` says which of the messages that the client is told of now are recent; `forget` is called with the
        UIDs of expunged messages that it has been told of, or never heard of: nothing more of them is asked for."""
        self._entries = list(entries)
        self._uids = array("I", (entry.uid for entry in self._entries))
        self._claim = claim or (lambda entries: set())
        self._forget = forget
        self._recent = self._claim(self._entries)
        self._recent_told = len(self._recent)
        self._forms = _Forms()
        self._recent_forms = _Forms(frozenset({RECENT}))
        self._added: dict[int, Entry] = {}
        self._gone: set[int] = set()
        self._going: list[int] = []  # _gone in order, as of when it was last told
        # Flags the client believes in, of those messages where they are others now.
        self._believed: dict[int, Flags] = {}

    def __len__(self) -> int:
        return len(self._uids)

    @property
    def recent(self) -> int:
        """How many messages are recent in this session."""
        return len(self._recent)

    @property
    def entries(self) -> Sequence[Entry]:
        """Rows in sequence order, those that are gone but not reported among them."""
        return self._entries

    @property
    def uids(self) -> Sequence[int]:
        """UIDs in sequence order."""
        return self._uids

    @property
    def gone(self) -> frozenset[int] | set[int]:
        """UIDs expunged elsewhere of which the client does not know yet. Their rows stay as they were last, so that
        commands by number can be answered as if they were there (RFC 2180 4.1.1)."""
        return self._gone

    def size(self, position: int) -> int:
        """Octets of the message there."""
        return self._entries[position].size

    def is_recent(self, uid: int) -> bool:
        """Whether the message is recent in this session."""
        return uid in self._recent

    # --- what others do ----------------------------------------------------------------------------------------------

    def apply(self, change: Change) -> None:
        """Take note of a change. The same one may come twice, or again after it was in the rows at the start."""
        if isinstance(change, Added):
            self._add(change.entries)
        elif isinstance(change, FlagsChanged):
            self._change(change.entries)
        elif isinstance(change, Expunged):
            self._expunge(change.uids)

    def _add(self, entries: Iterable[Entry]) -> None:
        last = self._uids[-1] if self._uids else 0
        for entry in entries:
            if entry.uid > last:
                self._added.setdefault(entry.uid, entry)

    def _change(self, changed: Sequence[Entry]) -> None:
        entries, believed = self._entries, self._believed
        for position, entry in zip(self._positions([entry[0] for entry in changed]), changed, strict=True):
            uid, flags, modseq, *_ = entry
            if position < 0:
                if uid in self._added:
                    self._added[uid] = max(entry, self._added[uid], key=_modseq)
                continue
            _, old, old_modseq, *_ = entries[position]
            if modseq > old_modseq:
                entries[position] = entry
                if (before := believed.get(uid, old)) == flags:
                    believed.pop(uid, None)
                else:
                    believed[uid] = before

    def _positions(self, uids: Sequence[int]) -> Iterator[int]:
        """Where they stand, -1 for those that do not, or are gone. What stands in a row is found without a search."""
        known, gone = self._uids, self._gone
        count = len(known)
        position = 0
        for uid in uids:
            if position >= count or known[position] != uid:
                position = bisect_left(known, uid)
            if position < count and known[position] == uid:
                yield -1 if uid in gone else position
                position += 1
            else:
                yield -1

    def _compare(self, uid: int, believed: Flags, flags: Flags) -> None:
        if believed == flags:
            self._believed.pop(uid, None)
        else:
            self._believed[uid] = believed

    def _expunge(self, uids: Iterable[int]) -> None:
        uids = list(uids)
        never_told = []
        for uid, position in zip(uids, self._positions(uids), strict=True):
            self._believed.pop(uid, None)
            if not self._added.pop(uid, None) and position >= 0:
                self._gone.add(uid)
            elif uid not in self._gone:
                never_told.append(uid)
        if never_told:
            self._forget(never_told)

    # --- what the client says ----------------------------------------------------------------------------------------

    def find(self, numbers: SequenceSet, *, by_uid: bool) -> list[tuple[int, int]]:
        """The half-open ranges of positions a set means. Raises NoSuchNumber.

        UIDs that do not exist are passed over (RFC 3501 6.4.8). `N:*` always means the last message at least; in an
        empty mailbox it means nothing, so that a client may fetch `1:*` there.
        """
        if by_uid:
            return numbers.slices(self._uids)
        count = len(self._uids)
        if numbers.ranges and numbers.ranges[-1][1] > count:
            raise NoSuchNumber(f"There are only {count} messages")
        return [(low - 1, min(high, count)) for low, high in numbers.resolve(count)]

    def present(self, slices: Slices) -> list[int]:
        """UIDs at these positions, without messages that are gone."""
        uids = [uid for start, stop in slices for uid in self._uids[start:stop]]
        return [uid for uid in uids if uid not in self._gone] if self._gone else uids

    def rows(self, positions: Iterable[int]) -> list[Row]:
        """Sequence number, row and rendered flags of the messages at these positions."""
        entries, recent = self._entries, self._recent
        forms, recent_forms = self._forms, self._recent_forms
        if not recent:
            return [(p + 1, entry := entries[p], forms[entry[1]]) for p in positions]
        return [
            (p + 1, entry := entries[p], (recent_forms if entry[0] in recent else forms)[entry[1]]) for p in positions
        ]

    def row(self, position: int) -> Row:
        """As `rows`, of one message."""
        entry = self._entries[position]
        return position + 1, entry, (self._recent_forms if entry[0] in self._recent else self._forms)[entry[1]]

    def told(self, uids: Iterable[int]) -> None:
        """The client is told the flags of these messages as they are now."""
        if self._believed:
            for uid in uids:
                self._believed.pop(uid, None)

    def assume(self, uids: Sequence[int], change: FlagChange) -> None:
        """The client believes that its own silent change was made, and knows of nothing else (RFC 3501 6.4.6).

        Where a message came out differently because another session changed it too, its flags stay to be told.
        """
        after: dict[Flags, Flags] = {}  # by the flags before; few in number
        for uid, position in zip(uids, self._positions(uids), strict=True):
            if position >= 0:
                flags = self._entries[position][1]
                before = self._believed.get(uid, flags)
                if before not in after:
                    after[before] = change.apply(before)
                self._compare(uid, after[before], flags)

    def change_gone(self, slices: Slices, change: FlagChange) -> None:
        """The client's own change of flags, for messages at these positions that are gone: to this session they look
        as if it had been made (RFC 2180 4.2), which is all that can be done for them."""
        if not self._gone:
            return
        for start, stop in slices:
            for position in range(start, stop):
                entry = self._entries[position]
                if entry.uid in self._gone:
                    self._entries[position] = entry._replace(flags=change.apply(entry.flags))

    # --- what the client hears ---------------------------------------------------------------------------------------

    def updates(self, *, expunge: bool, limit: int = UPDATE_LINES) -> bytes:
        """The next untagged responses; nothing when there are no more.

        First EXPUNGE if it is allowed now, of up to `limit` messages; then EXISTS and RECENT, and the flags of up to
        `limit` messages.
        """
        lines: list[bytes] = []
        if expunge and self._gone:
            lines += self._take_gone(limit)
            if self._gone:
                return b"".join(lines)
        if self._added:
            self._take_added()
            lines.append(b"* %d EXISTS\r\n" % len(self._uids))
            lines.append(self._take_recent())
        elif len(self._recent) != self._recent_told:
            lines.append(self._take_recent())
        if self._believed:
            lines += self._take_flags(limit)
        return b"".join(lines)

    def _take_gone(self, limit: int) -> list[bytes]:
        """The last ones first, so that no number shifts another (the order is free)."""
        if len(self._going) != len(self._gone):
            self._going = sorted(self._gone)
        chosen = self._going[-limit:]
        del self._going[-limit:]
        positions = [bisect_left(self._uids, uid) for uid in chosen]
        self._gone.difference_update(chosen)
        self._recent.difference_update(chosen)
        runs = _runs(positions)
        if len(runs) <= _CUT_LIMIT:
            for start, stop in reversed(runs):
                del self._uids[start:stop], self._entries[start:stop]
        else:
            start, removed = positions[0], set(chosen)
            kept = [entry for entry in self._entries[start:] if entry.uid not in removed]
            self._entries[start:] = kept
            self._uids[start:] = array("I", [entry.uid for entry in kept])
        self._forget(chosen)
        return [b"* %d EXPUNGE\r\n" % (position + 1) for position in reversed(positions)]

    def _take_added(self) -> None:
        entries = sorted(self._added.values())
        self._added = {}
        self._recent |= self._claim(entries)
        self._entries += entries
        self._uids.extend(entry.uid for entry in entries)

    def _take_recent(self) -> bytes:
        self._recent_told = len(self._recent)
        return b"* %d RECENT\r\n" % self._recent_told

    def _take_flags(self, limit: int) -> list[bytes]:
        uids = sorted(islice(self._believed, limit))
        for uid in uids:
            del self._believed[uid]
        positions = (bisect_left(self._uids, uid) for uid in uids)
        return [b"* %d FETCH (UID %d FLAGS %b)\r\n" % (n, entry.uid, flags) for n, entry, flags in self.rows(positions)]


def batches(slices: Slices, size: int) -> Iterator[list[int]]:
    """The positions of `slices` in lists of `size` at most."""
    batch: list[int] = []
    for start, stop in slices:
        while start < stop:
            end = min(stop, start + size - len(batch))
            batch.extend(range(start, end))
            start = end
            if len(batch) == size:
                yield batch
                batch = []
    if batch:
        yield batch


def portions(items: Sequence[Item], octets: Callable[[Item], int], limit: int = PORTION) -> Iterator[Sequence[Item]]:
    """`items` in stretches whose digests stay within `limit` octets; `octets` is the size of an item's message."""
    if sum(map(octets, items)) <= limit:  # as a rule
        if items:
            yield items
        return
    start = weight = 0
    for index, item in enumerate(items):
        size = min(octets(item), _DIGEST_LIMIT)
        weight += size
        if weight > limit and index > start:
            yield items[start:index]
            start, weight = index, size
    if start < len(items):
        yield items[start:]


def _runs(positions: Sequence[int]) -> list[tuple[int, int]]:
    """Ascending positions as half-open runs."""
    runs: list[tuple[int, int]] = []
    for position in positions:
        if runs and runs[-1][1] == position:
            runs[-1] = (runs[-1][0], position + 1)
        else:
            runs.append((position, position + 1))
    return runs


def _modseq(entry: Entry) -> int:
    return entry.modseq
