"""A mailbox that stands among those of other stores, and the ways of messages between them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from hashlib import sha256
from typing import Any

import attrs
from twisted.internet.defer import DeferredLock
from zope.interface import alsoProvides, implementer

from mailhub.errors import MailError, MessageGone, NotPermitted, OverQuota
from mailhub.interfaces import (
    IBlobReader,
    IBody,
    IBodyWriter,
    IHold,
    IMailAccount,
    IMailbox,
    IMailStore,
    IUniqueIds,
    rights_of,
)
from mailhub.message.flags import Flags
from mailhub.message.record import (
    LAST_UID,
    Change,
    CopyResult,
    DigestColumns,
    DigestName,
    Entry,
    FlagChange,
    FlagResult,
    MailboxStatus,
    Quota,
    Rights,
    storable,
)

_BLOCK = 256 * 1024  # octets that are copied at once
_SHIFTS = 2**30  # so many that two stores hardly have the same, and few enough for UIDVALIDITYs that are clock times
MOVED_AT_ONCE = 8  # messages that are in both stores while some are moved


def shift_of(store: str) -> int:
    """What the UIDVALIDITYs of a store are told higher by. Each store counts for itself, and most start from the clock:
    a mailbox of one in the place of another's must not look like it (RFC 9051 2.3.1.1)."""
    return 1 + int.from_bytes(sha256(store.encode()).digest()[:4]) % _SHIFTS


@implementer(IBody)
@attrs.frozen(eq=False)
class SharedBody:
    """A body, and the store that has made it: each takes its own alone."""

    inner: IBody
    store: IMailStore

    @property
    def size(self) -> int:
        """Octets in all."""
        return self.inner.size

    def open(self) -> IBlobReader:
        """See `IBody`."""
        return self.inner.open()

    def discard(self) -> None:
        """See `IBody`."""
        self.inner.discard()


@implementer(IBodyWriter)
@attrs.frozen(eq=False)
class SharedWriter:
    """Writes a `SharedBody`."""

    inner: IBodyWriter
    store: IMailStore

    async def write(self, octets: bytes) -> None:
        """See `IBodyWriter`."""
        await self.inner.write(octets)

    async def finish(self) -> IBody:
        """See `IBodyWriter`."""
        return SharedBody(await self.inner.finish(), self.store)

    def abort(self) -> None:
        """See `IBodyWriter`."""
        self.inner.abort()


@implementer(IMailbox)
class SharedMailbox:
    """`inner`, of that account and store, under the name that the user knows it by: `outer` of its own name. `owner`
    and UIDVALIDITY together are those of no other mailbox. Who moves messages out of it has `moves`. `shift`: see
    `shift_of`; 0 for the main store."""

    def __init__(
        self,
        inner: IMailbox,
        account: IMailAccount,
        store: IMailStore,
        owner: str,
        outer: Callable[[str], str],
        moves: DeferredLock,
        shift: int,
    ) -> None:
        self.inner = inner
        self._account = account
        self._store = store
        self.owner = owner
        self._outer = outer
        self._moves = moves
        self._shift = shift
        if IUniqueIds.providedBy(inner):
            alsoProvides(self, IUniqueIds)

    @property
    def name(self) -> str:
        """See `IMailbox`."""
        return self._outer(self.inner.name)

    @property
    def uid_validity(self) -> int:
        """See `IMailbox`."""
        return (self.inner.uid_validity - 1 + self._shift) % LAST_UID + 1

    @property
    def rights(self) -> Rights:
        """See `IMailbox`."""
        return rights_of(self.inner)

    def new_body(self, size: int = 0) -> IBodyWriter:
        """A writer for append(), of the store that has the mailbox."""
        return SharedWriter(self._account.new_body(size), self._store)

    async def quota(self) -> Quota:
        """Of the account that has the mailbox."""
        return await self._account.quota()

    async def append(self, body: IBody, flags: Flags, internal_date: int, delivery_id: str = "") -> int:
        """See `IMailbox`. A body of another store is written once more."""
        if isinstance(body, SharedBody) and body.store is self._store:
            uid: int = await self.inner.append(body.inner, flags, internal_date, delivery_id)
            return uid
        own = await self._written(body.open())
        try:
            uid = await self.inner.append(own, flags, internal_date, delivery_id)
        finally:
            own.discard()
        return uid

    async def _written(self, reader: IBlobReader) -> IBody:
        """The octets of `reader`, which is closed, as a body of this store."""
        try:
            writer = self._account.new_body(reader.size)
            try:
                for start in range(0, reader.size, _BLOCK):
                    octets = await reader.read(start, min(_BLOCK, reader.size - start))
                    await writer.write(octets)
                body: IBody = await writer.finish()
            finally:
                writer.abort()
        finally:
            reader.close()
        return body

    # --- From store to store ---------------------------------------------------------------------------------------

    async def copy(self, uids: Sequence[int], target: IMailbox) -> CopyResult:
        """See `IMailbox`, to a mailbox of any of the stores."""
        assert isinstance(target, SharedMailbox), "it is one of ours"
        if target._store is self._store:
            return target._told(await self.inner.copy(uids, target.inner))
        return (await self._carried(await self.inner.entries(sorted(uids)), target))[0]

    async def move(self, uids: Sequence[int], target: IMailbox) -> CopyResult:
        """See `IMailbox`. From one store to another some messages go at a time, and are removed when they are durable
        there: a crash leaves those few in both. After an error those that went before are moved."""
        assert isinstance(target, SharedMailbox), "it is one of ours"
        await self._moves.acquire()  # of two moves at once each would copy what the other is about to remove
        try:
            if target._store is self._store:
                return target._told(await self.inner.move(uids, target.inner))
            return await self._move_over(uids, target)
        finally:
            self._moves.release()

    def _told(self, result: CopyResult) -> CopyResult:
        """Of messages that came here."""
        return attrs.evolve(result, uid_validity=self.uid_validity)

    async def _move_over(self, uids: Sequence[int], target: SharedMailbox) -> CopyResult:
        if "e" not in self.rights:
            raise NotPermitted("Messages cannot be removed from this mailbox")
        entries: Sequence[Entry] = await self.inner.entries(sorted(uids))
        if len(entries) > MOVED_AT_ONCE:
            await target._check_room(entries)
        source: list[int] = []
        moved: list[int] = []
        for start in range(0, len(entries), MOVED_AT_ONCE):
            result, before = await self._carried(entries[start : start + MOVED_AT_ONCE], target)
            await self._follow(result, before, target)
            await self.inner.expunge(result.source, deleted_only=False)
            source += result.source
            moved += result.target
        return CopyResult(target.uid_validity, tuple(source), tuple(moved))

    async def _check_room(self, entries: Sequence[Entry]) -> None:
        """Raises OverQuota before anything is moved rather than half-way."""
        quota = await self.quota()
        if quota.limit and quota.used + sum(entry.size for entry in entries) > quota.limit:
            raise OverQuota

    async def _carried(self, entries: Sequence[Entry], target: SharedMailbox) -> tuple[CopyResult, Mapping[int, Flags]]:
        """Add messages to a mailbox of another store, all or none; and the flags they came with."""
        rights = target.rights
        if "i" not in rights:
            raise NotPermitted("Nothing can be added to this mailbox")
        added: dict[int, int] = {}
        before: dict[int, Flags] = {}
        try:
            for entry in entries:
                try:
                    reader = await self.inner.open(entry.uid)
                except MessageGone:
                    continue
                body = await target._written(reader)
                try:
                    flags = storable(entry.flags, rights)
                    added[entry.uid] = await target.inner.append(body, flags, entry.internal_date)
                    before[entry.uid] = entry.flags
                finally:
                    body.discard()
        except BaseException:
            if added:
                with suppress(MailError):
                    await target.inner.expunge(sorted(added.values()), deleted_only=False)
            raise
        return CopyResult(target.uid_validity, tuple(added), tuple(added.values())), before

    async def _follow(self, result: CopyResult, before: Mapping[int, Flags], target: SharedMailbox) -> None:
        """Flags that others have changed meanwhile."""
        new = dict(zip(result.source, result.target, strict=True))
        entries: Sequence[Entry] = await self.inner.entries(sorted(new))
        for entry in entries:
            flags = storable(entry.flags, target.rights)
            if flags != storable(before[entry.uid], target.rights):
                await target.inner.change_flags([new[entry.uid]], FlagChange("replace", flags))

    # --- As it is --------------------------------------------------------------------------------------------------

    async def status(self) -> MailboxStatus:
        """See `IMailbox`."""
        return attrs.evolve(await self.inner.status(), uid_validity=self.uid_validity)

    async def entries(self, uids: Sequence[int] | None = None, since_modseq: int = 0) -> Sequence[Entry]:
        """See `IMailbox`."""
        return await self.inner.entries(uids, since_modseq)

    async def digests(self, uids: Sequence[int], wanted: Collection[DigestName]) -> DigestColumns:
        """See `IMailbox`."""
        return await self.inner.digests(uids, wanted)

    async def bodies(self, uids: Sequence[int]) -> Mapping[int, bytes]:
        """See `IMailbox`."""
        return await self.inner.bodies(uids)

    async def open(self, uid: int) -> IBlobReader:
        """See `IMailbox`."""
        return await self.inner.open(uid)

    async def change_flags(
        self, uids: Sequence[int], change: FlagChange, unchanged_since: int | None = None
    ) -> FlagResult:
        """See `IMailbox`."""
        return await self.inner.change_flags(uids, change, unchanged_since)

    async def expunge(self, uids: Sequence[int] | None = None, deleted_only: bool = True) -> Sequence[int]:
        """See `IMailbox`."""
        return await self.inner.expunge(uids, deleted_only)

    async def unique_ids(self, uids: Sequence[int]) -> Mapping[int, str]:
        """See `IUniqueIds`: where the mailbox has such."""
        own: Any = self.inner
        found: Mapping[int, str] = await own.unique_ids(uids)
        return found

    async def vanished(self, since_modseq: int) -> Sequence[int]:
        """See `IMailbox`."""
        return await self.inner.vanished(since_modseq)

    async def refresh(self) -> None:
        """See `IMailbox`."""
        await self.inner.refresh()

    def watch(self, listener: Callable[[Change], None]) -> Callable[[], None]:
        """See `IMailbox`."""
        return self.inner.watch(listener)

    def hold(self) -> IHold:
        """See `IMailbox`."""
        return self.inner.hold()
