"""What the facets of the database share: writer, readers, files, indexes and watchers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, TypeVar

import attrs
from twisted.internet.defer import Deferred

from mailhub.errors import MessageDamaged, NoSuchMailbox
from mailhub.interfaces import Environment, IBlobReader
from mailhub.message.record import Added, Change, MailboxGone
from mailhub.store.changes import Watchers
from mailhub.store.due import DueWatchers
from mailhub.store.held import Held
from mailhub.store.index import DigestCache, Indexes
from mailhub.store.known import KnownAccounts
from mailhub.store.limits import StoreLimits
from mailhub.store.queue_ids import DeliveryIds
from mailhub.store.space import Space
from mailhub.store.sql import messages
from mailhub.store.sql.content import Compared
from mailhub.store.sql.transaction import Claimable, Files, Query, Touched, Touching, Unreadable, Work

T = TypeVar("T")


class Writer(Protocol):
    """Commits units of work."""

    def submit(self, work: Work[T], bodies: Sequence[Claimable] = (), touching: Touching = Touched) -> Deferred[T]:
        """Durable when it answers. Fails with what the unit raises, Busy, StoreUnavailable."""


class Readers(Protocol):
    """Run queries."""

    async def read(self, query: Query[T]) -> T:
        """Each in a snapshot of its own. Raises StoreUnavailable, and what the query raises."""


@attrs.define(eq=False)
class Engine:
    """Built by a database; its methods are called on the reactor thread."""

    environment: Environment
    limits: StoreLimits
    writer: Writer
    readers: Readers
    files: Files
    ids: DeliveryIds
    indexes: Indexes
    digests: DigestCache
    watchers: Watchers
    known: KnownAccounts
    space: Space
    held: Held
    due: DueWatchers
    alone: bool = True  # no other server announces changes of this database
    compared: Compared = attrs.field(factory=Compared)

    async def read(self, query: Query[T]) -> T:
        """One hop: a query in a snapshot."""
        return await self.readers.read(query)

    async def open(self, query: Query[IBlobReader]) -> IBlobReader:
        """A query for the octets of a message. What looks damaged is looked at again: a message that is expunged takes
        its file with it, and a snapshot from before does not know. Raises MessageGone, MessageDamaged."""
        try:
            return await self.readers.read(query)
        except (MessageDamaged, Unreadable):
            pass
        try:
            return await self.readers.read(query)
        except Unreadable as error:
            raise MessageDamaged(detail=error.detail) from error

    def write(self, work: Work[T], bodies: Sequence[Claimable] = (), touching: Touching = Touched) -> Deferred[T]:
        """One unit of work, durable when it answers; `touching` names the mailboxes that it touches."""
        return self.writer.submit(work, bodies, touching)

    def announce(self, mailbox: int, change: Change) -> None:
        """A committed change: indexes first, since watchers will look there."""
        if self.indexes.apply(mailbox, change):
            self.tell(mailbox, change)

    def tell(self, mailbox: int, change: Change) -> None:
        """What the indexes have taken in."""
        if not isinstance(change, Added):  # of what is new nothing is kept yet
            self.digests.apply(mailbox, change)
        self.watchers.announce(mailbox, change)

    async def refresh(self, mailbox: int) -> None:
        """Have the index know all that was committed before this. Where one server has the database to itself, it hears
        of every change; then nothing is read. Raises StoreUnavailable."""
        if self.alone:
            return
        try:
            modseq = await self.read(lambda snapshot: messages.highest_modseq(snapshot, mailbox))
        except NoSuchMailbox:
            self.announce(mailbox, MailboxGone())
        else:
            await self.indexes.catch_up(mailbox, modseq)
