"""The mailbox store: IMailStore, IMailAccount and IMailbox over the engine."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from typing import cast

from zope.interface import implementer

from mailhub.errors import MessageGone, NoSuchMailbox, NoSuchUser, OverQuota
from mailhub.interfaces import (
    IBlobReader,
    IBody,
    IBodyWriter,
    IHold,
    IMailAccount,
    IMailbox,
    IMailStore,
)
from mailhub.message.flags import Flags
from mailhub.message.record import (
    ALL_RIGHTS,
    Change,
    CopyResult,
    DigestColumns,
    DigestName,
    Entry,
    FlagChange,
    FlagResult,
    MailboxGone,
    MailboxInfo,
    MailboxStatus,
    Quota,
)
from mailhub.store.held import Hold
from mailhub.store.sql import accounts, content, mailbox_rows, mailboxes, messages
from mailhub.store.sql.engine import Engine
from mailhub.store.sql.transaction import Touched, Touching


@implementer(IMailbox)
class Mailbox:
    """A mailbox by its number: it stays the same one when it is renamed."""

    rights = ALL_RIGHTS

    def __init__(self, engine: Engine, number: int, name: str, uid_validity: int) -> None:
        self._engine = engine
        self.number = number
        self.name = name
        self.uid_validity = uid_validity
        self._hold: Hold | None = None

    async def status(self) -> MailboxStatus:
        """The counters, from the database."""
        try:
            return await self._engine.read(lambda snapshot: messages.status(snapshot, self.number))
        except NoSuchMailbox:
            self._engine.announce(self.number, MailboxGone())  # news if another process removed the account
            raise

    async def entries(self, uids: Sequence[int] | None = None, since_modseq: int = 0) -> Sequence[Entry]:
        """From the shared index."""
        index = await self._engine.indexes.get(self.number)
        return index.select(uids, since_modseq)

    async def digests(self, uids: Sequence[int], wanted: Collection[DigestName]) -> DigestColumns:
        """From the cache, and the others with one query."""
        cache = self._engine.digests
        found, missing = cache.get(self.number, uids, wanted)
        if missing:
            removals = cache.removals
            fetched = await self._engine.read(lambda snapshot: content.digests(snapshot, self.number, missing, wanted))
            if cache.removals == removals:
                cache.put(self.number, fetched)
            for name, column in found.items():
                column.update(fetched[name])
            if held := self._held(uid for uid in missing if any(uid not in column for column in found.values())):
                kept = await self._engine.read(lambda snapshot: content.held_digests(snapshot, held, wanted))
                for name, column in found.items():
                    column.update(kept[name])
        return cast(DigestColumns, found)

    async def bodies(self, uids: Sequence[int]) -> Mapping[int, bytes]:
        """Those that stand in rows, with one query."""
        compared = self._engine.compared
        found = await self._engine.read(lambda snapshot: content.bodies(snapshot, self.number, uids, compared))
        if held := self._held(uid for uid in uids if uid not in found):
            found |= await self._engine.read(lambda snapshot: content.held_bodies(snapshot, held))
        return found

    async def open(self, uid: int) -> IBlobReader:
        """The very octets that arrived."""
        try:
            return await self._engine.open(lambda snapshot: messages.open_message(snapshot, self.number, uid))
        except MessageGone:
            held = self._held([uid])
            if not held:
                raise
        return await self._engine.open(lambda snapshot: messages.open_held(snapshot, held[uid]))

    def _held(self, uids: Iterable[int]) -> Mapping[int, int]:
        """Contents of expunged messages that may still be read, by UID."""
        return self._hold.among(uids) if self._hold is not None else {}

    def hold(self) -> IHold:
        """Of contents; the rows go."""
        self._hold = hold = self._engine.held.hold(self.number)
        return hold

    async def append(self, body: IBody, flags: Flags, internal_date: int, delivery_id: str = "") -> int:
        """Add a message; durable on return."""
        self._engine.space.check()
        own = self._engine.files.own(body)
        now = self._engine.environment.now()
        number = self._engine.ids.number(now)
        return await self._engine.write(
            lambda transaction: messages.append(
                transaction,
                self.number,
                number,
                own,
                flags,
                internal_date,
                delivery_id,
                now,
            ),
            (own,),
            self._touching(),
        )

    async def change_flags(
        self, uids: Sequence[int], change: FlagChange, unchanged_since: int | None = None
    ) -> FlagResult:
        """One transaction for all."""
        return await self._engine.write(
            lambda transaction: messages.change_flags(transaction, self.number, uids, change, unchanged_since),
            touching=self._touching(),
        )

    async def copy(self, uids: Sequence[int], target: IMailbox) -> CopyResult:
        """The contents are shared, not copied. So it is let through where the disk is short: many clients delete by a
        copy to Trash."""
        other = self._sibling(target)
        return await self._engine.write(
            lambda transaction: messages.copy(transaction, self.number, uids, other.number),
            touching=self._touching(other),
        )

    async def move(self, uids: Sequence[int], target: IMailbox) -> CopyResult:
        """Copy and expunge in one transaction."""
        other = self._sibling(target)
        return await self._engine.write(
            lambda transaction: messages.move(transaction, self.number, uids, other.number, self._hold),
            touching=self._touching(other),
        )

    def _touching(self, *others: Mailbox) -> Touching:
        return lambda: Touched((self.number, *(other.number for other in others)))

    def _sibling(self, target: IMailbox) -> Mailbox:
        if not isinstance(target, Mailbox) or target._engine is not self._engine:
            raise TypeError("the target mailbox is in another store")
        return target

    async def expunge(self, uids: Sequence[int] | None = None, deleted_only: bool = True) -> Sequence[int]:
        """One transaction for all."""
        return await self._engine.write(
            lambda transaction: messages.expunge(transaction, self.number, uids, deleted_only, self._hold),
            touching=self._touching(),
        )

    async def vanished(self, since_modseq: int) -> Sequence[int]:
        """Ascending."""
        return await self._engine.read(lambda snapshot: messages.vanished(snapshot, self.number, since_modseq))

    async def refresh(self) -> None:
        """See `Engine.refresh`."""
        await self._engine.refresh(self.number)

    def watch(self, listener: Callable[[Change], None]) -> Callable[[], None]:
        """Have every change from now on announced."""
        return self._engine.watchers.watch(self.number, listener)


@implementer(IMailAccount)
class MailAccount:
    """One account, by its number."""

    def __init__(self, engine: Engine, number: int, user: str) -> None:
        self._engine = engine
        self._number = number
        self.user = user

    async def mailboxes(self) -> Sequence[MailboxInfo]:
        """In name order."""
        return await self._engine.read(lambda snapshot: mailboxes.list_mailboxes(snapshot, self._number))

    async def mailbox(self, name: str) -> Mailbox:
        """Raises NoSuchMailbox."""
        number, known, uid_validity, modseq = await self._engine.read(
            lambda snapshot: mailboxes.find_mailbox(snapshot, self._number, name)
        )
        # What another process has added is announced with the next commit, for which who opens a mailbox need not wait.
        await self._engine.indexes.catch_up(number, modseq)
        return Mailbox(self._engine, number, known, uid_validity)

    async def create(self, name: str, special_use: str = "") -> None:
        """Raises MailboxExists, InvalidMailboxName."""
        now = self._engine.environment.now()
        await self._engine.write(
            lambda transaction: mailboxes.create(transaction, self._number, name, special_use, now),
            touching=self._touching,
        )

    async def delete(self, name: str) -> None:
        """Raises NoSuchMailbox, NotPermitted for INBOX."""
        await self._engine.write(
            lambda transaction: mailboxes.delete(transaction, self._number, name), touching=self._touching
        )

    async def rename(self, old: str, new: str) -> None:
        """Raises NoSuchMailbox, MailboxExists, InvalidMailboxName."""
        now = self._engine.environment.now()
        await self._engine.write(
            lambda transaction: mailboxes.rename(transaction, self._number, old, new, now), touching=self._touching
        )

    def _touching(self) -> Touched:
        return Touched(accounts=(self._number,))

    async def subscribe(self, name: str, subscribed: bool) -> None:
        """Raises InvalidMailboxName."""
        await self._engine.write(lambda transaction: mailboxes.subscribe(transaction, self._number, name, subscribed))

    async def subscriptions(self) -> Sequence[str]:
        """In name order."""
        return await self._engine.read(lambda snapshot: mailboxes.subscriptions(snapshot, self._number))

    async def quota(self) -> Quota:
        """Raises NoSuchUser when the account was removed."""
        return await self._engine.read(lambda snapshot: accounts.quota(snapshot, self._number))

    def new_body(self, size: int = 0) -> IBodyWriter:
        """For append()."""
        self._engine.space.check(size)
        return self._engine.files.new_body()

    async def logout(self) -> None:
        """Nothing is held for a session."""


@implementer(IMailStore)
class MailStore:
    """The mailboxes of all accounts."""

    def __init__(
        self, engine: Engine, start: Callable[[], Awaitable[None]], stop: Callable[[], Awaitable[None]]
    ) -> None:
        self._engine = engine
        self._start = start
        self._stop = stop
        # Whether an account was there a moment ago, with room for so many octets: that does not wait. Others one asks.
        self.has_room = engine.known.fits

    async def start(self) -> None:
        """Starts the database."""
        await self._start()

    async def stop(self) -> None:
        """Stops the database."""
        await self._stop()

    async def exists(self, user: str) -> bool:
        """Whether there is such an account, or was a moment ago."""
        if not self._engine.known.has(user):
            try:
                await self._free_octets(user)
            except NoSuchUser:
                return False
        return True

    async def account(self, user: str, create: bool = False) -> MailAccount:
        """Raises NoSuchUser."""
        now = self._engine.environment.now()
        try:
            # Who is known comes in to read where nothing can be written: a full disk, another process's lock.
            number = await self._engine.read(lambda snapshot: mailbox_rows.account_id(snapshot, user))
        except NoSuchUser:
            if not create:
                raise
            number = await self._engine.write(lambda transaction: mailbox_rows.ensure_account(transaction, user, now))
        return MailAccount(self._engine, number, user)

    async def check_quota(self, user: str, size: int) -> None:
        """Raises OverQuota, NoSuchUser."""
        if not self._engine.known.fits(user, size):
            free = await self._free_octets(user)
            if free is not None and size > free:
                raise OverQuota

    async def _free_octets(self, user: str) -> int | None:
        known, now = self._engine.known, self._engine.environment.clock.seconds()
        drops = known.drops
        free = await self._engine.read(lambda snapshot: accounts.free_octets(snapshot, user))
        if known.drops == drops:
            known.put(user, free, now)
        return free
