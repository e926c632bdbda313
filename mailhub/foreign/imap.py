"""IMailAccount over an `IAccountIMAP`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from twisted.mail.interfaces import INamespacePresenter
from zope.interface import implementer

from mailhub.answers import answer
from mailhub.errors import (
    InvalidMailboxName,
    MailboxExists,
    MailError,
    NoSuchMailbox,
    NotPermitted,
    PermanentError,
)
from mailhub.foreign.calls import Foreign, text
from mailhub.foreign.folder import Folder
from mailhub.foreign.mailbox import ForeignMailbox
from mailhub.interfaces import IBodyWriter, IMailAccount, IMailbox
from mailhub.message.mailbox_names import DELIMITER, INBOX, check, is_allowed, normalise
from mailhub.message.record import MailboxInfo, Quota
from mailhub.store.mirror.body import MirrorBodyWriter
from mailhub.store.nonsense import Nonsense, listed, shown

_NAMESPACES = 100


@implementer(IMailAccount)
class ForeignAccount:
    """One login's mailboxes. Names have the realm's own delimiter there and `/` here; a level in which the other one
    stands makes no name.

    The realm keeps no use of an account, so `quota` counts nothing and knows no limit.
    """

    def __init__(self, account: Any, user: str, foreign: Foreign, logout: Callable[[], Any]) -> None:
        self._account = account
        self._foreign = foreign
        self._logout = logout
        self.user = user
        self._delimiter = ""

    # --- names -------------------------------------------------------------------------------------------------------

    async def _listed(self) -> dict[str, str]:
        """The mailboxes that can be selected: names as they are here, and as the realm writes them."""
        found: dict[str, str] = await self._foreign.call("listMailboxes", self._list)
        return found

    async def _list(self) -> dict[str, str]:
        given = await answer(self._account.listMailboxes("", "*"))
        found: dict[str, str] = {}
        for pair in listed(given, self._foreign.limits.mailboxes_per_account):
            try:
                name, mailbox = pair
            except (TypeError, ValueError):
                raise Nonsense(f"gave {shown(pair)}, no pair of name and mailbox") from None
            delimiter = await answer(mailbox.getHierarchicalDelimiter())
            self._delimiter = self._delimiter or text(delimiter or DELIMITER)[:1]
            if await _can_be_selected(mailbox):
                if own := self._ours(text(name)):
                    found.setdefault(own, text(name))
                else:
                    self._foreign.fault("listMailboxes", f"{shown(name)} cannot be the name of a mailbox")
        return found

    def _ours(self, name: str) -> str:
        """A name of the realm's as it is here; "" for none."""
        if self._delimiter != DELIMITER and DELIMITER in name:
            return ""
        found = normalise(name.replace(self._delimiter, DELIMITER))
        return found if is_allowed(found) else ""

    async def _theirs(self, name: str) -> str:
        """A name as the realm writes it. Raises InvalidMailboxName: what is no name could mean a file to the realm."""
        check(name)
        if not self._delimiter:
            await self._foreign.call("getPersonalNamespaces", self._learn_delimiter)
        if self._delimiter != DELIMITER and self._delimiter in name:
            raise InvalidMailboxName(f"Mailbox name must not have {self._delimiter} in it")
        return name.replace(DELIMITER, self._delimiter)

    async def _learn_delimiter(self) -> None:
        presenter: Any = INamespacePresenter(self._account, None)
        spaces = await answer(presenter.getPersonalNamespaces()) if presenter is not None else None
        for space in listed(spaces or (), _NAMESPACES):
            _, delimiter = space
            self._delimiter = self._delimiter or text(delimiter or "")[:1]
        if not self._delimiter:
            await self._list()
        self._delimiter = self._delimiter or DELIMITER

    # --- mailboxes ---------------------------------------------------------------------------------------------------

    async def mailboxes(self) -> Sequence[MailboxInfo]:
        """In name order."""
        return [MailboxInfo(name) for name in sorted(await self._listed())]

    async def mailbox(self, name: str) -> IMailbox:
        """Raises NoSuchMailbox."""
        name = normalise(name)
        _, given = await self._there(name)
        try:
            folder = await self._opened(given, name)
        except NoSuchMailbox:
            folder = await self._opened(given, name)  # the one that it was is gone now
        return ForeignMailbox(folder)

    async def _there(self, name: str) -> tuple[str, Any]:
        """A mailbox's name as the realm writes it, and what it gives for it. Raises NoSuchMailbox."""
        try:
            theirs = await self._theirs(name)
        except InvalidMailboxName as error:
            raise NoSuchMailbox from error
        # Where the case of names does not matter it may be listed under another one; and INBOX may have to be asked
        # for as it is listed.
        given = await self._select(theirs)
        if given is None and (listed_as := (await self._listed()).get(name, theirs)) != theirs:
            theirs, given = listed_as, await self._select(listed_as)
        if given is None:
            raise NoSuchMailbox
        return theirs, given

    async def _opened(self, given: Any, name: str) -> Folder:
        """The one of this object, which sessions share. Raises NoSuchMailbox for one that is gone."""
        folder: Folder | None = self._foreign.folders.get(id(given))
        if folder is None or folder.given is not given or folder.gone:
            self._foreign.folders[id(given)] = folder = Folder(self._foreign, given, self.user, name)
        await folder.in_turn(folder.open)
        return folder

    async def _select(self, name: str) -> Any:
        try:
            return await self._foreign.call("select", self._selected, name)
        except NoSuchMailbox:
            return None

    async def _selected(self, name: str) -> Any:
        mailbox = await answer(self._account.select(name, True))
        return mailbox if mailbox is not None and await _can_be_selected(mailbox) else None

    async def create(self, name: str, special_use: str = "") -> None:
        """Raises MailboxExists, InvalidMailboxName, NotPermitted."""
        name = normalise(name)
        check(name)
        if special_use:
            raise NotPermitted("Special uses are not kept here")
        known = await self._listed()
        if name in known:
            raise MailboxExists
        if len(known) >= self._foreign.limits.mailboxes_per_account:
            raise InvalidMailboxName("Too many mailboxes")
        theirs = await self._theirs(name)
        if not await self._foreign.ask(self._account, "create", theirs):
            if await self._select(theirs) is not None:
                raise MailboxExists
            raise PermanentError("The mailbox was not made", status="5.2.0")

    async def delete(self, name: str) -> None:
        """Raises NoSuchMailbox, NotPermitted."""
        name = normalise(name)
        if name == INBOX:
            raise NotPermitted("INBOX cannot be deleted")
        theirs, given = await self._there(name)
        await self._foreign.ask(self._account, "delete", theirs)
        for folder in self._folders(name, given):
            folder.go()

    async def rename(self, old: str, new: str) -> None:
        """With inferiors. Raises NoSuchMailbox, MailboxExists, InvalidMailboxName, NotPermitted."""
        old, new = normalise(old), normalise(new)
        check(new)
        if old == INBOX:
            await self._move_inbox(new)
            return
        if new.startswith(old + DELIMITER):
            raise InvalidMailboxName("A mailbox cannot become its own inferior")
        known = await self._listed()
        renamed = {name: new + name[len(old) :] for name in known if name == old or name.startswith(old + DELIMITER)}
        theirs = await self._theirs(old) if renamed and old not in known else (await self._there(old))[0]
        for name in renamed.values():
            check(name)
        if new in known or not known.keys().isdisjoint(renamed.values()):
            raise MailboxExists
        await self._foreign.ask(self._account, "rename", theirs, await self._theirs(new))
        for name, other in renamed.items():
            for folder in self._folders(name):
                folder.name = other

    async def _move_inbox(self, new: str) -> None:
        """RFC 9051 6.3.6: its messages go to a new mailbox, its inferiors stay."""
        await self.create(new)
        inbox = await self.mailbox(INBOX)
        await inbox.move([entry.uid for entry in await inbox.entries()], await self.mailbox(new))

    def _folders(self, name: str, given: Any = None) -> list[Folder]:
        """Those that sessions have of this name, or of this object of the realm."""
        folders = list(self._foreign.folders.values())
        return [each for each in folders if (each.user, each.name) == (self.user, name) or each.given is given]

    # --- subscriptions -----------------------------------------------------------------------------------------------

    async def subscribe(self, name: str, subscribed: bool) -> None:
        """What the realm says to names that have no mailbox is its own matter. Raises InvalidMailboxName."""
        name = normalise(name)
        if subscribed:
            check(name)
        theirs = await self._theirs(name)
        named = self._foreign.named.setdefault(self.user, set())
        if subscribed and len(named) >= self._foreign.limits.subscriptions_per_account:
            raise PermanentError("Too many subscriptions", status="5.2.0")
        await self._foreign.ask(self._account, "subscribe" if subscribed else "unsubscribe", theirs)
        if subscribed:
            named.add(name)

    async def subscriptions(self) -> Sequence[str]:
        """Among the mailboxes that there are and the names that were subscribed to lately: the realm tells of no
        others."""
        names = await self._listed()
        for name in self._foreign.named.get(self.user, ()):
            names.setdefault(name, await self._theirs(name))
        found: list[str] = await self._foreign.call("isSubscribed", self._subscribed, names)
        self._foreign.named.get(self.user, set()).intersection_update(found)
        return sorted(found)

    async def _subscribed(self, names: dict[str, str]) -> list[str]:
        return [name for name, theirs in names.items() if await answer(self._account.isSubscribed(theirs))]

    # --- the rest ----------------------------------------------------------------------------------------------------

    async def quota(self) -> Quota:
        """No limit is known."""
        return Quota(0, 0, 0)

    def new_body(self, size: int = 0) -> IBodyWriter:
        """For append()."""
        environment = self._foreign.environment
        return MirrorBodyWriter(environment.threads, _folder(environment.data))

    async def logout(self) -> None:
        """As the realm wants to be told."""
        with suppress(MailError):
            await self._foreign.call("logout", self._logout)


def _folder(data: Path) -> Path | None:
    return data if data.is_dir() else None


async def _can_be_selected(mailbox: Any) -> bool:
    flags = listed(await answer(mailbox.getFlags()), 1000)
    return not any(isinstance(flag, str | bytes) and text(flag).lower() == "\\noselect" for flag in flags)
