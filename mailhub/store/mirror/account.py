"""IMailAccount over a mirror."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from zope.interface import implementer

from mailhub.errors import InvalidMailboxName, MailboxExists, NoSuchMailbox, NoSuchUser, NotPermitted
from mailhub.interfaces import IBodyWriter, IMailAccount, IMailbox
from mailhub.message.mailbox_names import DELIMITER, INBOX, check, normalise
from mailhub.message.record import MailboxInfo, Quota
from mailhub.store.mirror import rows
from mailhub.store.mirror.engine import MirrorEngine
from mailhub.store.mirror.mailbox import MirrorMailbox
from mailhub.store.mirror.rows import FolderRow
from mailhub.store.mirror.source import ISource


@implementer(IMailAccount)
class MirrorAccount:
    """One user's folders. Until a user says otherwise all are subscribed, so that clients which show those alone show
    what there is."""

    def __init__(self, engine: MirrorEngine, user: str) -> None:
        self._engine = engine
        self._ledger = engine.ledger
        self.user = user

    @property
    def _source(self) -> ISource:
        """Of the moment: the store's code may be swapped."""
        return self._engine.source

    async def mailboxes(self) -> Sequence[MailboxInfo]:
        """In name order."""
        if not await self._source.exists(self.user):
            raise NoSuchUser
        return [MailboxInfo(row.name, row.special_use) for row in await self._engine.folders(self.user)]

    async def mailbox(self, name: str) -> IMailbox:
        """Raises NoSuchMailbox."""
        return MirrorMailbox(self._engine, await self._engine.folder(self.user, normalise(name)))

    async def _names(self) -> dict[str, FolderRow]:
        return {row.name: row for row in await self._engine.folders(self.user)}

    def _permit(self) -> None:
        if not self._source.makes_folders:
            raise NotPermitted("Mailboxes cannot be made, deleted or renamed here")

    async def create(self, name: str, special_use: str = "") -> None:
        """Raises MailboxExists, InvalidMailboxName, NotPermitted."""
        name = normalise(name)
        check(name)
        known = await self._names()
        if name in known:
            raise MailboxExists
        self._permit()
        if len(known) >= self._engine.limits.mailboxes_per_account:
            raise InvalidMailboxName("Too many mailboxes")
        await self._source.create(self.user, name)
        self._engine.folders_changed(self.user)
        uses = {row.special_use for row in known.values()}
        use = special_use or ("" if rows.usual_use(name) in uses else rows.usual_use(name))
        await self._ledger.run(partial(rows.created, user=self.user, name=name, special_use=use, now=self._now()))

    def _now(self) -> int:
        return self._engine.environment.now()

    async def delete(self, name: str) -> None:
        """Raises NoSuchMailbox, NotPermitted."""
        name = normalise(name)
        if name == INBOX:
            raise NotPermitted("INBOX cannot be deleted")
        row = (await self._names()).get(name)
        if row is None:
            raise NoSuchMailbox
        self._permit()
        await self._source.delete(self.user, name)
        await self._ledger.run(partial(rows.forget_folder, number=row.number))
        self._engine.folders_changed(self.user)
        self._engine.drop(row.number)

    async def rename(self, old: str, new: str) -> None:
        """With inferiors. Raises NoSuchMailbox, MailboxExists, InvalidMailboxName, NotPermitted."""
        old, new = normalise(old), normalise(new)
        if old == INBOX:
            await self._move_inbox(new)
            return
        check(new)
        if new.startswith(old + DELIMITER):
            raise InvalidMailboxName("A mailbox cannot become its own inferior")
        known = await self._names()
        below = old + DELIMITER
        names = {name: normalise(new + name[len(old) :]) for name in known if name == old or name.startswith(below)}
        if not names:
            raise NoSuchMailbox
        for name in names.values():
            check(name)
        if new in known or not known.keys().isdisjoint(names.values()):
            raise MailboxExists
        self._permit()
        await self._source.rename(self.user, names)
        await self._ledger.run(partial(rows.rename_folders, user=self.user, names=names))
        self._engine.renamed(names, self.user)

    async def _move_inbox(self, new: str) -> None:
        """RFC 9051 6.3.6: its messages go to a new mailbox, its inferiors stay."""
        await self.create(new)
        inbox = await self.mailbox(INBOX)
        await inbox.move([entry.uid for entry in await inbox.entries()], await self.mailbox(new))

    async def subscribe(self, name: str, subscribed: bool) -> None:
        """Raises InvalidMailboxName, PermanentError."""
        name = normalise(name)
        if subscribed:
            check(name)
        limit = self._engine.limits.subscriptions_per_account
        if self._source.keeps_subscriptions:
            await self._source.subscribe(self.user, name, subscribed, limit)
            return
        await self._ledger.run(partial(rows.subscribe, user=self.user, name=name, subscribed=subscribed, limit=limit))

    async def subscriptions(self) -> Sequence[str]:
        """In name order."""
        if self._source.keeps_subscriptions:
            return await self._source.subscriptions(self.user)
        chosen = await self._ledger.run(partial(rows.choices, user=self.user))
        there = {row.name for row in await self._engine.folders(self.user)}
        return sorted(name for name in there | chosen.keys() if chosen.get(name, name in there))

    async def quota(self) -> Quota:
        """Use and limit."""
        if not await self._source.exists(self.user):
            raise NoSuchUser
        limit = await self._source.quota(self.user)
        used, messages = await self._engine.used(self.user)
        return Quota(used, limit, messages)

    def new_body(self, size: int = 0) -> IBodyWriter:
        """For append()."""
        return self._source.new_body(size)

    async def logout(self) -> None:
        """Nothing is held for a session."""
