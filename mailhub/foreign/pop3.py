"""IMailAccount over an `IMailboxPOP3`: one INBOX, as it was when the session began."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from typing import Any
from zlib import crc32

from zope.interface import implementer

from mailhub.answers import answer
from mailhub.errors import (
    MailboxExists,
    MailError,
    MessageGone,
    NoSuchMailbox,
    NotPermitted,
)
from mailhub.foreign.calls import Foreign, Measured, octets, text
from mailhub.interfaces import IBlobReader, IBody, IBodyWriter, IHold, IMailAccount, IMailbox, IUniqueIds
from mailhub.message.digest import columns, digest
from mailhub.message.flags import NO_FLAGS, Flags
from mailhub.message.mailbox_names import INBOX, normalise
from mailhub.message.record import (
    LAST_UID,
    Change,
    CopyResult,
    Digest,
    DigestColumns,
    DigestName,
    Entry,
    Expunged,
    FlagChange,
    FlagResult,
    MailboxInfo,
    MailboxStatus,
    Quota,
    Rights,
)
from mailhub.store.changes import Watchers
from mailhub.store.nonsense import Nonsense, listed, shown
from mailhub.store.octets import OctetsReader
from mailhub.wire.pop3.maildrop import is_unique_id

MESSAGES = 1_000_000  # in a maildrop
BATCH_OCTETS = 1 << 20  # read with one call, about, and
BATCH_SECONDS = 0.05  # how long that takes
_RIGHTS: Rights = frozenset("lrte")


@implementer(IMailAccount)
class ForeignMaildrop:
    """One login's maildrop. Nothing is marked in it before QUIT, so that RSET, or a connection that is lost, takes
    nothing from it."""

    def __init__(self, mailbox: Any, user: str, foreign: Foreign, logout: Callable[[], Any]) -> None:
        self._inbox = ForeignInbox(mailbox, user, foreign)
        self._foreign = foreign
        self._logout = logout
        self.user = user

    async def mailboxes(self) -> Sequence[MailboxInfo]:
        """There is one."""
        return [MailboxInfo(INBOX)]

    async def mailbox(self, name: str) -> IMailbox:
        """Raises NoSuchMailbox."""
        if normalise(name) != INBOX:
            raise NoSuchMailbox
        await self._inbox.listed()
        return self._inbox

    async def create(self, name: str, special_use: str = "") -> None:
        """Raises NotPermitted, MailboxExists."""
        if normalise(name) == INBOX:
            raise MailboxExists
        raise NotPermitted

    async def delete(self, name: str) -> None:
        """Raises NotPermitted, NoSuchMailbox."""
        await self.mailbox(name)
        raise NotPermitted

    async def rename(self, old: str, new: str) -> None:
        """Raises NotPermitted, NoSuchMailbox."""
        await self.mailbox(old)
        raise NotPermitted

    async def subscribe(self, name: str, subscribed: bool) -> None:
        """Raises NotPermitted."""
        raise NotPermitted

    async def subscriptions(self) -> Sequence[str]:
        """INBOX."""
        return [INBOX]

    async def quota(self) -> Quota:
        """No limit is known."""
        status = await self._inbox.status()
        return Quota(status.size, 0, status.messages)

    def new_body(self, size: int = 0) -> IBodyWriter:
        """Raises NotPermitted."""
        raise NotPermitted

    async def logout(self) -> None:
        """As the realm wants to be told."""
        with suppress(MailError):
            await self._foreign.call("logout", self._logout)


@implementer(IMailbox, IUniqueIds)
class ForeignInbox:
    """The messages that there were when it was listed; their UIDs are their numbers then. Equal lists have the same
    UIDVALIDITY, others another one."""

    name = INBOX
    rights = _RIGHTS

    def __init__(self, mailbox: Any, user: str, foreign: Foreign) -> None:
        self._mailbox = mailbox
        self._foreign = foreign
        self._sizes = foreign.sizes.of(user).messages
        self._user = user
        self._list: dict[int, Entry] | None = None
        self._ids: dict[int, str] = {}
        self._modseq = 1
        self._removed: list[tuple[int, int]] = []  # mod-sequence and UID
        self._watchers = Watchers(foreign.environment.clock)
        self.uid_validity = LAST_UID

    async def listed(self) -> dict[int, Entry]:
        """The rows by UID. Raises MailError."""
        if self._list is None:
            ids = await self._foreign.call("listMessages", self._unique_ids)
            rows: dict[int, Entry] = {}
            todo = list(ids)
            while todo:
                some: dict[int, Measured | None] = await self._foreign.call("getMessage", self._measure, todo, ids)
                for uid, each in some.items():
                    if each is not None:
                        rows[uid] = Entry(uid, NO_FLAGS, uid, each.size, each.sent, each.growth)
                todo = todo[len(some) :]
                if todo:
                    await self._foreign.breathe()
            self.uid_validity = 1 + crc32("\n".join(ids.values()).encode()) % (LAST_UID - 1)
            self._list, self._ids = rows, ids
            self._modseq = max(ids, default=1)
        return self._list

    async def _unique_ids(self) -> dict[int, str]:
        """By UID, of those messages that are not marked already."""
        sizes = listed(await answer(self._mailbox.listMessages()), MESSAGES)
        found: dict[int, str] = {}
        for index, size in enumerate(sizes):
            if not isinstance(size, int) or size < 0:
                raise Nonsense(f"gave {shown(size)}, no size")
            if size:
                found[index + 1] = text(await answer(self._mailbox.getUidl(index)))
        if bad := next((each for each in found.values() if not is_unique_id(each)), None):
            raise Nonsense(f"getUidl() gave {shown(bad)}: it must be 1 to 70 printable characters of ASCII")
        return found

    async def _measure(self, uids: Sequence[int], ids: Mapping[int, str]) -> dict[int, Measured | None]:
        """Of the first of these messages; None for one that cannot be read, which is left out of the session. Each has
        to be read once: what the realm says of its size need not be so."""
        found: dict[int, Measured | None] = {}
        counts = Counter(ids.values())
        room, clock = BATCH_OCTETS, self._foreign.environment.clock
        until = clock.seconds() + BATCH_SECONDS
        for uid in uids:
            # Copies may share theirs (RFC 1939 7); who gives one to different messages is not to be believed.
            own = ids[uid] if counts[ids[uid]] == 1 else None
            found[uid] = self._sizes.get(own) if own is not None else None
            if found[uid] is None:
                try:
                    octets = await self._read(uid)
                except Exception as error:
                    self._foreign.fault("getMessage", f"{self._user}: message {ids[uid]} cannot be read: {error!r}")
                else:
                    found[uid] = measured = Measured.of(octets, max(0, digest(octets).sent))
                    if own is not None:
                        self._sizes[own] = measured
                    room -= len(octets)
            if room <= 0 or clock.seconds() > until:
                break
        return found

    async def _read(self, uid: int) -> bytes:
        return octets(await answer(self._mailbox.getMessage(uid - 1)), self._foreign.message_octets)

    async def unique_ids(self, uids: Sequence[int]) -> Mapping[int, str]:
        """What UIDL tells of these messages."""
        return {uid: self._ids[uid] for uid in uids if uid in self._ids}

    async def status(self) -> MailboxStatus:
        """The counters."""
        rows = await self.listed()
        sizes = sum(row.size for row in rows.values())
        uid_next = max(self._ids, default=0) + 1
        return MailboxStatus(len(rows), len(rows), sizes, uid_next, self.uid_validity, self._modseq)

    async def entries(self, uids: Sequence[int] | None = None, since_modseq: int = 0) -> Sequence[Entry]:
        """In UID order."""
        rows = await self.listed()
        chosen = rows.values() if uids is None else [rows[uid] for uid in uids if uid in rows]
        return [row for row in chosen if row.modseq > since_modseq]

    async def _octets(self, uid: int) -> bytes:
        if uid not in await self.listed():
            raise MessageGone
        given: bytes = await self._foreign.call("getMessage", self._one, uid)
        return given

    async def _one(self, uid: int) -> bytes:
        try:
            return await self._read(uid)
        except (IndexError, FileNotFoundError) as error:
            raise MessageGone(detail=repr(error)) from error

    async def digests(self, uids: Sequence[int], wanted: Collection[DigestName]) -> DigestColumns:
        """Worked out here."""
        found: dict[int, Digest] = {}
        for uid in uids:
            with suppress(MessageGone):
                found[uid] = digest(await self._octets(uid))
        return columns(found, wanted)

    async def bodies(self, uids: Sequence[int]) -> Mapping[int, bytes]:
        """Dearer than to open them."""
        return {}

    async def open(self, uid: int) -> IBlobReader:
        """Whole, in memory. Raises MessageGone."""
        return OctetsReader(await self._octets(uid))

    async def expunge(self, uids: Sequence[int] | None = None, deleted_only: bool = True) -> Sequence[int]:
        """Mark them, and have the realm do what is marked; what it cannot mark leaves no marks."""
        rows = await self.listed()
        if deleted_only:
            return []  # there are no flags
        gone = sorted(rows if uids is None else rows.keys() & set(uids))
        if gone:
            await self._foreign.call("sync", self._remove, gone)
            for uid in gone:
                del rows[uid]
            self._modseq += 1
            self._removed += [(self._modseq, uid) for uid in gone]
            self._watchers.announce(0, Expunged(tuple(gone), self._modseq))
        return gone

    async def _remove(self, uids: Sequence[int]) -> None:
        try:
            for uid in uids:
                await answer(self._mailbox.deleteMessage(uid - 1))
            await answer(self._mailbox.sync())
        except Exception:
            await answer(self._mailbox.undeleteMessages())
            raise

    async def vanished(self, since_modseq: int) -> Sequence[int]:
        """What this session has removed."""
        return sorted(uid for modseq, uid in self._removed if modseq > since_modseq)

    async def refresh(self) -> None:
        """A maildrop does not change while it is open."""

    def watch(self, listener: Callable[[Change], None]) -> Callable[[], None]:
        """Tell what this session removes."""
        return self._watchers.watch(0, listener)

    def hold(self) -> IHold:
        """Nobody else removes anything that is told of here."""
        return _NOTHING_HELD

    async def append(self, body: IBody, flags: Flags, internal_date: int, delivery_id: str = "") -> int:
        """Raises NotPermitted."""
        raise NotPermitted

    async def change_flags(
        self, uids: Sequence[int], change: FlagChange, unchanged_since: int | None = None
    ) -> FlagResult:
        """Raises NotPermitted."""
        raise NotPermitted

    async def copy(self, uids: Sequence[int], target: IMailbox) -> CopyResult:
        """Raises NotPermitted."""
        raise NotPermitted

    async def move(self, uids: Sequence[int], target: IMailbox) -> CopyResult:
        """Raises NotPermitted."""
        raise NotPermitted


@implementer(IHold)
class _Nothing:
    def let_go(self, uids: Sequence[int]) -> None:
        """There is nothing."""

    def end(self) -> None:
        """There is nothing."""


_NOTHING_HELD = _Nothing()
