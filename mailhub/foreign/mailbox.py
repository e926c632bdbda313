"""IMailbox over an `IMailboxIMAP`, as one session has it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from functools import partial
from io import BytesIO
from typing import Any, NamedTuple, cast
from zlib import crc32

from twisted.mail.interfaces import IMessageIMAPCopier
from zope.interface import implementer

from mailhub.errors import MailError, MessageGone, NotPermitted, StoreUnavailable
from mailhub.foreign.folder import Folder, message_set
from mailhub.interfaces import IBlobReader, IBody, IHold, IMailbox
from mailhub.message.dates import format_date
from mailhub.message.digest import columns, digest
from mailhub.message.flags import DELETED, Flags
from mailhub.message.record import (
    Change,
    CopyResult,
    DigestColumns,
    DigestName,
    Entry,
    FlagChange,
    FlagMode,
    FlagResult,
    MailboxStatus,
    Rights,
)
from mailhub.store.mirror.held import Hold
from mailhub.store.mirror.rows import runs
from mailhub.store.octets import OctetsReader

_MODES: dict[FlagMode, int] = {"add": 1, "remove": -1, "replace": 0}
_SMALL = 1 << 16  # octets of a message that is read with others
_DELIVERIES = 1000  # ids that are remembered


class Adding(NamedTuple):
    """A message to be added: its octets, what it is to have, and the message that it is a copy of."""

    octets: bytes
    flags: Flags
    date: Any
    original: Any = None


@implementer(IMailbox)
class ForeignMailbox:
    """What the realm's mailbox cannot do in one step is done in several, in an order in which a crash doubles a message
    or takes \\\\Deleted from it, and never loses one."""

    def __init__(self, folder: Folder) -> None:
        self.folder = folder
        self.name = folder.name
        self.uid_validity = folder.uid_validity
        self._fresh = True
        self._hold: Hold | None = None

    @property
    def rights(self) -> Rights:
        """All, or those of `READ_ONLY` where `isWriteable` says no."""
        return self.folder.rights

    # --- reading -----------------------------------------------------------------------------------------------------

    async def _looked(self) -> None:
        """The realm's mailbox is looked at for whoever opens it."""
        self.folder.require()
        if self._fresh or not self.folder.looked:
            await self.folder.refresh()
            self._fresh = False

    async def status(self) -> MailboxStatus:
        """The counters."""
        await self._looked()
        return self.folder.status()

    async def entries(self, uids: Sequence[int] | None = None, since_modseq: int = 0) -> Sequence[Entry]:
        """From memory."""
        await self._looked()
        return self.folder.index.select(uids, since_modseq)

    async def digests(self, uids: Sequence[int], wanted: Collection[DigestName]) -> DigestColumns:
        """Worked out here."""
        if self.folder.gone:
            return columns({}, wanted)
        await self._looked()
        found = await self.folder.digests(uids, wanted)
        kept = self._kept()
        if held := {uid: digest(kept[uid]) for uid in uids if uid in kept}:
            for name, column in cast("dict[str, dict[int, Any]]", columns(held, wanted)).items():
                found[name].update(column)
        return cast(DigestColumns, found)

    async def bodies(self, uids: Sequence[int]) -> Mapping[int, bytes]:
        """Small ones."""
        kept = self._kept()
        held = {uid: kept[uid] for uid in uids if uid in kept}
        if self.folder.gone:
            return held
        await self._looked()
        small = [entry.uid for entry in self.folder.index.select(uids) if entry.size <= _SMALL]
        return await self.folder.octets(small) | held

    async def open(self, uid: int) -> IBlobReader:
        """Whole, in memory. Raises MessageGone, StoreUnavailable."""
        kept = self._kept()
        if uid in kept:
            return OctetsReader(kept[uid])
        if self.folder.gone:
            raise MessageGone
        await self._looked()
        octets = (await self.folder.octets([uid])).get(uid)
        if octets is None:
            raise MessageGone
        return OctetsReader(octets)

    def _kept(self) -> Mapping[int, bytes]:
        return self._hold.octets if self._hold is not None else {}

    async def vanished(self, since_modseq: int) -> Sequence[int]:
        """Those that have gone since the mailbox was first looked at."""
        return [] if self.folder.gone else self.folder.vanished(since_modseq)

    async def refresh(self) -> None:
        """Look at the realm's mailbox."""
        self._fresh = False
        if not self.folder.gone:
            await self.folder.refresh()

    def watch(self, listener: Callable[[Change], None]) -> Callable[[], None]:
        """By a listener on the realm's mailbox, too."""
        return self.folder.watch(listener)

    def hold(self) -> IHold:
        """Of what others remove through mailhub; what goes otherwise is gone."""
        self._hold = self.folder.foreign.kept.hold(self.folder.number)
        return self._hold

    # --- adding ------------------------------------------------------------------------------------------------------

    def _need(self, right: str) -> None:
        self.folder.require()
        if right not in self.rights:
            raise NotPermitted("This mailbox cannot be changed")

    async def append(self, body: IBody, flags: Flags, internal_date: int, delivery_id: str = "") -> int:
        """By addMessage. Of `delivery_id`s the last thousand are known while the mailbox is open."""
        self._need("i")
        await self._looked()
        octets = await self.folder.foreign.environment.threads.run(_octets, body)
        message = Adding(octets, flags, format_date(internal_date).encode())
        added = await self.folder.in_turn(partial(self._append, message, delivery_id))
        await self.folder.changed_by_us()
        return added

    async def _append(self, message: Adding, delivery_id: str) -> int:
        folder = self.folder
        if delivery_id in folder.deliveries:
            return folder.deliveries[delivery_id]
        (uid,) = await self._add([message._replace(flags=folder.admitted(message.flags))])
        if delivery_id:
            folder.deliveries[delivery_id] = uid
            if len(folder.deliveries) > _DELIVERIES:
                del folder.deliveries[next(iter(folder.deliveries))]
        return uid

    async def _add(self, messages: Sequence[Adding]) -> list[int]:
        """In the folder's turn: all or none, as far as the realm lets messages be taken back."""
        folder = self.folder
        await folder.look()
        before = {entry.uid for entry in folder.index.select()}
        copier = IMessageIMAPCopier(folder.given, None)
        told = []
        try:
            for message in messages:
                if copier is not None and message.original is not None:
                    told.append(await folder.foreign.ask(copier, "copy", message.original))
                else:
                    file, flags = BytesIO(message.octets), sorted(message.flags)
                    told.append(await folder.foreign.ask(folder.given, "addMessage", file, flags, message.date))
            await folder.look()
            new = [entry for entry in folder.index.select() if entry.uid not in before]
            return self._found(messages, told, new)
        except MailError:
            with suppress(MailError):
                await folder.look()
                await self._take_back(messages, [entry for entry in folder.index.select() if entry.uid not in before])
            raise

    def _found(self, messages: Sequence[Adding], told: Sequence[Any], new: Sequence[Entry]) -> list[int]:
        """Which of the new messages are these: what the realm says of them need not be a UID. Raises
        StoreUnavailable."""
        left = [entry.uid for entry in new]
        uids = []
        for message, said in zip(messages, told, strict=True):
            same = [uid for uid in left if self._same(uid, message.octets)]
            if said in left and (said in same or not same):
                uids.append(said)
            elif same:
                uids.append(same[0])
            elif len(new) == len(messages):
                uids.append(left[0])  # it has changed the octets
            else:
                raise StoreUnavailable(detail=f"{self.folder.foreign.guard.name}: what was added is not there")
            left.remove(uids[-1])
        return uids

    def _same(self, uid: int, octets: bytes) -> bool:
        measured = self.folder.measured(uid)
        return measured is not None and (measured.size, measured.checksum) == (len(octets), crc32(octets))

    async def _take_back(self, messages: Sequence[Adding], new: Sequence[Entry]) -> None:
        """The messages that were added before one could not be."""
        found = []
        for message in messages:
            same = [entry.uid for entry in new if entry.uid not in found and self._same(entry.uid, message.octets)]
            found += same[:1]
        await self._remove(sorted(found))

    async def copy(self, uids: Sequence[int], target: IMailbox) -> CopyResult:
        """By IMessageIMAPCopier where the target has it, else by addMessage."""
        self.folder.require()
        await self._looked()
        other = self._sibling(target)
        other._need("i")
        await other._looked()
        source, messages = await self._originals(uids)
        if not source:
            return CopyResult(other.uid_validity, (), ())
        copies = await other.folder.in_turn(partial(other._add, messages))
        await other.folder.changed_by_us()
        return CopyResult(other.uid_validity, tuple(source), tuple(copies))

    def _sibling(self, target: IMailbox) -> ForeignMailbox:
        if not isinstance(target, ForeignMailbox) or target.folder.foreign is not self.folder.foreign:
            raise TypeError("the target mailbox is in another store")
        return target

    async def _originals(self, uids: Sequence[int]) -> tuple[list[int], list[Adding]]:
        folder = self.folder
        source: list[int] = []
        messages: list[Adding] = []
        todo = [entry.uid for entry in folder.index.select(uids)]
        for uid, message in (await folder.fetched(todo)).items():
            octets = (await folder.octets([uid])).get(uid)
            if octets is None:
                continue
            date = await folder.foreign.ask(message.given, "getInternalDate")
            source.append(uid)
            messages.append(Adding(octets, message.flags, date, message.given))
        return source, messages

    async def move(self, uids: Sequence[int], target: IMailbox) -> CopyResult:
        """Copied first; where the originals cannot be removed then, the copies are."""
        self._need("e")
        result = await self.copy(uids, target)
        if not result.source:
            return result
        other = self._sibling(target)
        try:
            await self.folder.in_turn(partial(self._remove, list(result.source)))
        except MailError:
            with suppress(MailError):
                await other.folder.in_turn(partial(other._remove, list(result.target)))
            raise
        await self.folder.changed_by_us()
        return result

    # --- flags -------------------------------------------------------------------------------------------------------

    async def change_flags(
        self, uids: Sequence[int], change: FlagChange, unchanged_since: int | None = None
    ) -> FlagResult:
        """By `store`; what the messages have then is asked."""
        self._need("s")
        await self._looked()
        result = await self.folder.in_turn(partial(self._change_flags, uids, change, unchanged_since))
        if result.changed:
            await self.folder.changed_by_us()
        return result

    async def _change_flags(self, uids: Sequence[int], change: FlagChange, unchanged_since: int | None) -> FlagResult:
        folder = self.folder
        if change.mode != "remove":
            change = FlagChange(change.mode, folder.keywords.spelled(change.flags, folder.present()))
        failed, todo = [], []
        for entry in folder.index.select(sorted(uids)):
            if unchanged_since is not None and entry.modseq > unchanged_since:
                failed.append(entry.uid)
            elif (flags := change.apply(entry.flags)) != entry.flags:
                if len(flags) > len(entry.flags):
                    folder.keywords.check_number(flags)
                todo.append(entry.uid)
        if not todo:
            return FlagResult((), tuple(failed))
        if change.mode != "remove":
            folder.keywords.take_up((change.flags,), folder.present())
        known = {flag.lower(): flag for flags in folder.present() for flag in flags}
        named = sorted(known.get(flag.lower(), flag) for flag in change.flags)
        await self._store(todo, named, _MODES[change.mode])
        return FlagResult(folder.take_flags((await folder.fetched(todo)).values()), tuple(failed))

    async def _store(self, uids: Sequence[int], flags: Sequence[str], mode: int) -> None:
        folder = self.folder
        if uids:
            await folder.foreign.ask(folder.given, "store", message_set(runs(uids)), list(flags), mode, uid=True)

    # --- removing ----------------------------------------------------------------------------------------------------

    async def expunge(self, uids: Sequence[int] | None = None, deleted_only: bool = True) -> Sequence[int]:
        """By `expunge`, which removes all that have \\\\Deleted: those that are to stay are without it meanwhile."""
        self._need("e")
        await self._looked()
        gone = await self.folder.in_turn(partial(self._expunge, uids, deleted_only))
        if gone:
            await self.folder.changed_by_us()
        return gone

    async def _expunge(self, uids: Sequence[int] | None, deleted_only: bool) -> list[int]:
        await self.folder.look()
        rows = self.folder.index.select(uids)
        return await self._remove([row.uid for row in rows if not deleted_only or DELETED in row.flags])

    async def _remove(self, uids: Sequence[int]) -> list[int]:
        """In the folder's turn, just looked at."""
        folder = self.folder
        wanted = set(uids)
        if not wanted:
            return []
        rows = folder.index.select()
        await self._keep(uids)
        spared = [row.uid for row in rows if DELETED in row.flags and row.uid not in wanted]
        await self._store(spared, [DELETED], -1)
        try:
            await self._store([row.uid for row in rows if DELETED not in row.flags and row.uid in wanted], [DELETED], 1)
            await folder.foreign.ask(folder.given, "expunge")
        finally:
            await self._store(spared, [DELETED], 1)
        await folder.look()
        left = {row.uid for row in folder.index.select()}
        if wanted & left:
            raise StoreUnavailable(detail=f"{folder.foreign.guard.name}: expunge() has left messages")
        return [row.uid for row in rows if row.uid in wanted]

    async def _keep(self, uids: Sequence[int]) -> None:
        """For sessions that count these messages (RFC 2180 4.1.1)."""
        folder, kept = self.folder, self.folder.foreign.kept
        todo = list(uids)
        while todo and kept.wanted(folder.number, self._hold):
            with suppress(MailError):
                kept.keep(folder.number, await folder.octets(todo[:1]), self._hold)
            del todo[0]


def _octets(body: Any) -> bytes:
    octets: bytes = body.octets()
    return octets
