"""IMailbox over a folder of a mirror."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Collection, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, cast
from zlib import crc32

from zope.interface import implementer

from mailhub.errors import MailError, MessageGone, NotPermitted, StoreUnavailable
from mailhub.interfaces import IBlobReader, IBody, IHold, IMailbox
from mailhub.message.digest import columns, digest
from mailhub.message.flags import DELETED, SEEN, Flags
from mailhub.message.record import (
    Change,
    CopyResult,
    DigestColumns,
    DigestName,
    Entry,
    FlagChange,
    FlagResult,
    MailboxStatus,
    Rights,
)
from mailhub.store.mirror import rows
from mailhub.store.mirror.body import MirrorBody
from mailhub.store.mirror.engine import MirrorEngine
from mailhub.store.mirror.folder import BATCH, BATCH_OCTETS, MirrorFolder, Scanned
from mailhub.store.mirror.held import Hold
from mailhub.store.mirror.rows import Delivery, Note, Row
from mailhub.store.mirror.source import ISource, Key
from mailhub.store.octets import OctetsReader

MOVED = 5  # messages that a crash may leave in both folders


@implementer(IMailbox)
class MirrorMailbox:
    """A folder as one session has it."""

    def __init__(self, engine: MirrorEngine, folder: MirrorFolder) -> None:
        self._engine = engine
        self._ledger = engine.ledger
        self.folder = folder
        self.name = folder.name
        self.uid_validity = folder.uid_validity
        self.rights: Rights = engine.source.rights
        self._fresh = True
        self._hold: Hold | None = None

    @property
    def _source(self) -> ISource:
        """Of the moment: the store's code may be swapped."""
        return self._engine.source

    # --- reading -----------------------------------------------------------------------------------------------------

    async def _looked(self) -> None:
        """The source is looked at for whoever opens a mailbox. Where it cannot be, what is known has to do."""
        self.folder.require()
        if self._fresh:
            self._fresh = False
            try:
                await self.folder.refresh()
            except MailError:
                if not self.folder.listed:
                    raise
            if not self.folder.listed:
                raise StoreUnavailable(detail=f"{self._source.name}: a folder was not listed in time")
            self.folder.require()

    async def status(self) -> MailboxStatus:
        """The counters."""
        await self._looked()
        return self.folder.status()

    async def entries(self, uids: Sequence[int] | None = None, since_modseq: int = 0) -> Sequence[Entry]:
        """From memory."""
        await self._looked()
        return self.folder.index.select(uids, since_modseq)

    async def digests(self, uids: Sequence[int], wanted: Collection[DigestName]) -> DigestColumns:
        """From the cache, from the ledger, and of messages that nobody has read yet from the source."""
        folder, cache = self.folder, self._engine.digests
        there = [uid for uid in uids if uid in folder.notes] if not folder.gone else []
        found, missing = cache.get(folder.number, there, wanted)
        if missing:
            removals = cache.removals
            unread = [uid for uid in missing if uid in folder.notes and folder.notes[uid].checksum is None]
            async for _ in self._read(unread):
                pass  # the ledger knows them now
            fetched = await self._ledger.run(
                partial(rows.digests, number=folder.number, uids=missing, wanted=list(wanted))
            )
            if cache.removals == removals:
                cache.put(folder.number, fetched)
            for name, column in found.items():
                column.update({uid: value for uid, value in fetched[name].items() if uid in folder.notes})
        if self._hold is not None and self._hold.octets:
            held = self._hold.octets
            kept = columns({uid: digest(held[uid]) for uid in uids if uid in held}, wanted)
            for name, column in found.items():
                column.update(cast(Any, kept)[name])
        return cast(DigestColumns, found)

    async def bodies(self, uids: Sequence[int]) -> Mapping[int, bytes]:
        """Some hundred with one call into the store's thread."""
        if self.folder.gone:
            return {}
        limit = self._engine.limits.inline_body_octets
        small = [entry.uid for entry in self.folder.index.select(uids) if entry.size <= limit]
        found: dict[int, bytes] = {}
        async for some in self._read(small):
            found |= {uid: body.octets for uid, body in some.items()}
        held = self._hold.octets if self._hold is not None else {}
        return found | {uid: held[uid] for uid in uids if uid in held}

    async def _read(self, uids: Sequence[int]) -> AsyncIterator[dict[int, Scanned]]:
        """The octets of those messages that can be read and are what they were, some at a time."""
        keys = {self.folder.notes[uid].key: uid for uid in uids if uid in self.folder.notes}
        todo = list(keys)
        while todo:
            found = await self._source.read(self.folder.user, self.folder.name, todo[:BATCH], BATCH_OCTETS)
            octets = {key: each for key, each in found.items() if isinstance(each, bytes)}
            scanned = await self._engine.scan(list(octets.values()))
            yield await self._taken({keys[key]: body for key, body in zip(octets, scanned, strict=True)})
            rest = [key for key in todo if key not in found]
            if len(rest) == len(todo):
                return
            todo = rest

    async def _taken(self, bodies: Mapping[int, Scanned]) -> dict[int, Scanned]:
        """Those that are what they were; of those that are met for the first time the ledger takes note."""
        folder = self.folder
        same = {}
        unknown = []
        for uid, body in bodies.items():
            entry, note = folder.entry(uid), folder.notes.get(uid)
            if entry is None or note is None:
                continue
            if entry.size != body.digest.size or note.checksum not in (None, body.checksum):
                await folder.take_octets(uid, body)
                continue
            same[uid] = body
            if note.checksum is None:
                unknown.append(
                    Row(entry._replace(growth=body.digest.growth), note._replace(checksum=body.checksum), body.digest)
                )
        if unknown:
            await folder.in_turn(partial(folder.learn, unknown))
        return same

    async def open(self, uid: int) -> IBlobReader:
        """The very octets, or MessageGone."""
        folder = self.folder
        note = folder.notes.get(uid) if not folder.gone else None
        if note is None:
            if self._hold is not None and uid in self._hold.octets:
                return OctetsReader(self._hold.octets[uid])
            raise MessageGone
        try:
            reader = await self._source.open(folder.user, folder.name, note.key)
        except MailError as error:
            folder.look()
            if isinstance(error, MessageGone):
                raise
            # What cannot be read because it is not there any more is gone; for all else the client may come again.
            try:
                await folder.refresh()
            except MailError:
                raise error from None
            if uid not in folder.notes:
                raise MessageGone from error
            raise
        try:
            if not await self._same(uid, note, reader):
                raise MessageGone
        except BaseException:
            reader.close()
            raise
        return reader

    async def _same(self, uid: int, note: Note, reader: IBlobReader) -> bool:
        """Whether these are the octets that the UID stands for."""
        entry = self.folder.entry(uid)
        if entry is None:
            return False
        whole = isinstance(reader, OctetsReader) or reader.size != entry.size or note.checksum is None
        if not whole:
            return True
        (body,) = await self._engine.scan([await reader.read()])
        return bool(await self._taken({uid: body}))

    async def vanished(self, since_modseq: int) -> Sequence[int]:
        """Ascending."""
        if self.folder.gone:
            return []
        return await self._ledger.run(partial(rows.vanished, number=self.folder.number, since_modseq=since_modseq))

    async def refresh(self) -> None:
        """Look at the source."""
        self._fresh = False
        if not self.folder.gone:
            await self.folder.refresh()

    def watch(self, listener: Callable[[Change], None]) -> Callable[[], None]:
        """The source is looked at every few seconds from now on."""
        stop = self._engine.watchers.watch(self.folder.number, listener)
        self.folder.poll()
        return stop

    def hold(self) -> IHold:
        """Of messages that others remove through mailhub; what is gone from the source is gone."""
        self._hold = self._engine.kept.hold(self.folder.number)
        return self._hold

    # --- adding ------------------------------------------------------------------------------------------------------

    def _need(self, *rights: str) -> None:
        self.folder.require()
        if not self.rights.intersection(rights):
            raise NotPermitted("This mailbox cannot be changed in this way", status="5.7.1")

    async def append(self, body: IBody, flags: Flags, internal_date: int, delivery_id: str = "") -> int:
        """The source first, then the ledger."""
        self._need("i")
        folder = self.folder
        if delivery_id and (known := await folder.delivered(delivery_id)) is not None:
            return known
        await self._engine.check_room(folder.user, body.size)
        if delivery_id:
            scanned = _scanned(body)
            now = self._engine.environment.now()
            delivery = Delivery(delivery_id, None, folder.uid_next, body.size, scanned.checksum, now)
            await self._ledger.run(partial(rows.note_delivery, number=folder.number, delivery=delivery))
            self._engine.undecided[folder.number] = True
        added = await folder.in_turn(partial(self._add, [(body, flags, internal_date)], delivery_id))
        return added[0]

    def _allowed(self, flags: Flags) -> Flags:
        """Those that can be kept here."""
        for right, flag in (("s", SEEN), ("t", DELETED)):
            if right not in self.rights:
                flags -= {flag}
        return flags if "w" in self.rights else flags & {SEEN, DELETED}

    async def _add(self, messages: Sequence[tuple[IBody, Flags, int]], delivery_id: str = "") -> list[int]:
        """In the folder's turn: all or none, as far as the source lets messages be taken back."""
        folder = self.folder
        folder.changed_by_us()
        new: list[Row] = []
        modseq = folder.modseq + 1
        try:
            for uid, (body, flags, date) in enumerate(messages, folder.uid_next):
                scanned = _scanned(body)
                flags = folder.admitted(self._allowed(flags))
                key = await self._source.add(folder.user, folder.name, body, flags, date)
                if key is None:
                    key = await self._find(body, [row.note.key for row in new])
                entry = Entry(uid, flags, modseq, body.size, date, scanned.digest.growth)
                new.append(Row(entry, Note(key, scanned.checksum, None, ""), scanned.digest))
        except MailError as error:
            await self._take_back(new, delivery_id, error)
            raise
        if replaced := sorted(folder.uids[row.note.key] for row in new if row.note.key in folder.uids):
            self._source.fault("add", f"{folder.user} {folder.name}: it gave the key of a message that was there")
            await folder.vanish(replaced)
            new = [row._replace(entry=row.entry._replace(modseq=folder.modseq + 1)) for row in new]
        await folder.insert(new, {delivery_id: new[0].entry.uid} if delivery_id else None)
        return [row.entry.uid for row in new]

    async def _find(self, body: IBody, others: Collection[Key]) -> Key:
        """The source has added a message and does not know as what: it is the new one with these octets."""
        folder = self.folder
        listing = await self._source.messages(folder.user, folder.name)
        new = [
            each.key
            for each in reversed(listing)
            if each.key not in folder.uids and each.key not in others and each.size in (None, body.size)
        ]
        for key in new[:BATCH]:
            found = await self._source.read(folder.user, folder.name, [key], BATCH_OCTETS)
            octets = found.get(key)
            if isinstance(octets, bytes) and crc32(octets) == _scanned(body).checksum:
                return key
        raise StoreUnavailable(detail=f"{self._source.name}: what was added is not there")

    async def _take_back(self, new: Sequence[Row], delivery_id: str, error: MailError) -> None:
        """After add() failed. What was added before goes; what add() itself may have done is looked at later."""
        folder = self.folder
        if new and "e" in self.rights:
            await self._source.remove(folder.user, folder.name, [row.note.key for row in new])
        if delivery_id and not error.temporary:
            await self._ledger.run(
                partial(rows.settle_delivery, number=folder.number, delivery_id=delivery_id, uid=None)
            )
        folder.look()

    # --- flags -------------------------------------------------------------------------------------------------------

    async def change_flags(
        self, uids: Sequence[int], change: FlagChange, unchanged_since: int | None = None
    ) -> FlagResult:
        """In the source where it keeps flags, else in the ledger. Flags that cannot be kept are passed over when others
        can (RFC 4314 4)."""
        self._need("s", "w", "t")
        if change.flags and not self._allowed(change.flags):
            raise NotPermitted("These flags cannot be changed here")
        return await self.folder.in_turn(partial(self._change_flags, uids, change, unchanged_since))

    async def _change_flags(self, uids: Sequence[int], change: FlagChange, unchanged_since: int | None) -> FlagResult:
        folder = self.folder
        if change.mode != "remove":
            change = FlagChange(change.mode, folder.keywords.spelled(change.flags, folder.present()))
        failed = []
        changed: list[Entry] = []
        for entry in folder.index.select(sorted(uids)):
            if unchanged_since is not None and entry.modseq > unchanged_since:
                failed.append(entry.uid)
                continue
            flags = self._allowed(change.apply(entry.flags)) | (entry.flags - self._allowed(entry.flags))
            if flags != entry.flags:
                if len(flags) > len(entry.flags):
                    folder.keywords.check_number(flags)
                changed.append(entry._replace(flags=flags, modseq=folder.modseq + 1))
        if changed and change.mode != "remove":
            folder.keywords.take_up((change.flags,), folder.present())
        errors: Mapping[Key, Exception] = {}
        if changed and self._source.keeps_flags:
            folder.changed_by_us()
            by_key = {folder.notes[entry.uid].key: entry.flags for entry in changed}
            errors = await self._source.change(folder.user, folder.name, by_key)
            changed = [entry for entry in changed if folder.notes[entry.uid].key not in errors]
        if changed:
            await folder.set_flags(changed)
        _raise_first(errors)
        return FlagResult(tuple(changed), tuple(failed))

    # --- removing ----------------------------------------------------------------------------------------------------

    async def expunge(self, uids: Sequence[int] | None = None, deleted_only: bool = True) -> Sequence[int]:
        """From the source, then from the ledger."""
        self._need("e")
        return await self.folder.in_turn(partial(self._expunge, uids, deleted_only))

    async def _expunge(self, uids: Sequence[int] | None, deleted_only: bool) -> Sequence[int]:
        entries = self.folder.index.select(None if uids is None else sorted(uids))
        chosen = [entry.uid for entry in entries if not deleted_only or DELETED in entry.flags]
        gone, errors = await self._remove(chosen)
        _raise_first(errors)
        return gone

    async def _remove(self, uids: Sequence[int]) -> tuple[list[int], Mapping[Key, Exception]]:
        folder = self.folder
        if not uids:
            return [], {}
        if self._engine.kept.wanted(folder.number, self._hold):
            await self._keep(uids)
        folder.changed_by_us()
        keys = [folder.notes[uid].key for uid in uids]
        errors = await self._source.remove(folder.user, folder.name, keys)
        gone = [uid for uid in uids if folder.notes[uid].key not in errors]
        if gone:
            await folder.vanish(gone)
        return gone, errors

    async def _keep(self, uids: Sequence[int]) -> None:
        """Others count these messages: have them keep the octets, as far as they may and the source gives them."""
        folder, kept = self.folder, self._engine.kept
        keys = {folder.notes[uid].key: uid for uid in uids}
        todo = list(keys)
        while todo and kept.wanted(folder.number, self._hold):
            try:
                found = await self._source.read(folder.user, folder.name, todo[:BATCH], BATCH_OCTETS)
            except MailError:
                return
            kept.keep(
                folder.number, {keys[key]: each for key, each in found.items() if isinstance(each, bytes)}, self._hold
            )
            todo = [key for key in todo if key not in found]
            if not found:
                return

    # --- copying -----------------------------------------------------------------------------------------------------

    async def copy(self, uids: Sequence[int], target: IMailbox) -> CopyResult:
        """All or nothing."""
        other = self._sibling(target)
        self.folder.require()
        other._need("i")
        entries = self.folder.index.select(sorted(uids))
        await self._engine.check_room(other.folder.user, sum(entry.size for entry in entries))
        return await self._copy(entries, other)

    async def move(self, uids: Sequence[int], target: IMailbox) -> CopyResult:
        """A few at a time are added there, then removed here: a crash between the two leaves those few twice, and never
        not at all. An error leaves moved what was moved."""
        other = self._sibling(target)
        self._need("e")
        other._need("i")
        entries = self.folder.index.select(sorted(uids))
        if other.folder.user != self.folder.user:
            await self._engine.check_room(other.folder.user, sum(entry.size for entry in entries))
        moved: list[tuple[int, int]] = []
        for batch in _batches(entries):
            bodies = [(await self._body(entry), entry.uid) for entry in batch]
            there = [(body, uid) for body, uid in bodies if body is not None]
            for start in range(0, len(there), MOVED):
                some = there[start : start + MOVED]
                moved += await self.folder.in_turns(other.folder, partial(self._move, some, other))
        return CopyResult(other.uid_validity, tuple(uid for uid, _ in moved), tuple(uid for _, uid in moved))

    async def _move(self, some: Sequence[tuple[MirrorBody, int]], other: MirrorMailbox) -> list[tuple[int, int]]:
        """In the turns of both folders, so that two sessions never move one message twice: what is not here any more
        was moved or removed by somebody else. UIDs here and there."""
        rows = {entry.uid: entry for entry in self.folder.index.select([uid for _, uid in some])}
        bodies = {uid: body for body, uid in some if uid in rows}
        if not bodies:
            return []
        added = await other._add([(body, rows[uid].flags, rows[uid].internal_date) for uid, body in bodies.items()])
        _, errors = await self._remove(list(bodies))
        _raise_first(errors)
        return list(zip(bodies, added, strict=True))

    async def _remove_copied(self, uids: Sequence[int]) -> tuple[list[int], Mapping[Key, Exception]]:
        return await self._remove([uid for uid in uids if uid in self.folder.notes])

    def _sibling(self, target: IMailbox) -> MirrorMailbox:
        if not isinstance(target, MirrorMailbox) or target._engine is not self._engine:
            raise TypeError("the target mailbox is in another store")
        target.folder.require()
        return target

    async def _copy(self, entries: Sequence[Entry], other: MirrorMailbox) -> CopyResult:
        sources: list[int] = []
        targets: list[int] = []
        try:
            for batch in _batches(entries):
                bodies = [(await self._body(entry), entry) for entry in batch]
                messages = [(body, entry.flags, entry.internal_date) for body, entry in bodies if body is not None]
                if messages:
                    targets += await other.folder.in_turn(partial(other._add, messages))
                    sources += [entry.uid for body, entry in bodies if body is not None]
        except MailError:
            if targets and "e" in other.rights:
                await other.folder.in_turn(partial(other._remove_copied, targets))
            raise
        return CopyResult(other.uid_validity, tuple(sources), tuple(targets))

    async def _body(self, entry: Entry) -> MirrorBody | None:
        """None for a message that is gone."""
        try:
            reader = await self.open(entry.uid)
        except MessageGone:
            return None
        try:
            return MirrorBody(await reader.read())
        finally:
            reader.close()


def _scanned(body: IBody) -> Any:
    if not hasattr(body, "checksum") or not hasattr(body, "digest"):
        raise TypeError("the body comes from another store")
    return body


def _raise_first(errors: Mapping[Key, Exception]) -> None:
    for error in errors.values():
        raise error if isinstance(error, MailError) else StoreUnavailable(detail=str(error))


def _batches(entries: Sequence[Entry]) -> Iterator[list[Entry]]:
    """So many messages that their octets find room in memory together."""
    batch: list[Entry] = []
    octets = 0
    for entry in entries:
        if batch and (octets + entry.size > BATCH_OCTETS or len(batch) >= BATCH):
            yield batch
            batch, octets = [], 0
        batch.append(entry)
        octets += entry.size
    if batch:
        yield batch
