"""Several stores as one: some accounts in one, some in another, and mailboxes of one among those of another.

An account has a home, by its name or its domain. What is mounted at `Feeds` is another store's account of the same
user: its INBOX is `Feeds`, its `X` is `Feeds/X`. A store that fails leaves the others served.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any
from weakref import WeakValueDictionary

import attrs
from twisted.internet.defer import Deferred, DeferredLock, gatherResults
from twisted.internet.defer import TimeoutError as NoAnswer
from twisted.internet.interfaces import IReactorTime
from zope.interface import implementer

from mailhub.answers import in_time
from mailhub.errors import InvalidMailboxName, MailboxExists, MailError, NoSuchMailbox, NoSuchUser, NotPermitted
from mailhub.interfaces import IBodyWriter, IMailAccount, IMailbox, IMailStore, makes_account
from mailhub.log import Logger
from mailhub.message.mailbox_names import DELIMITER, INBOX, check, normalise
from mailhub.message.record import MailboxInfo, Quota
from mailhub.store.several_mailbox import SharedMailbox, SharedWriter, shift_of

log = Logger(namespace="mailhub.store")

MAIN = "store"  # what [store] is called where others have names
LIST_SECONDS = 5.0  # how long a listing waits for what is mounted
LISTINGS = 1000  # of mounted accounts, remembered for when they do not answer

_Names = Sequence[MailboxInfo] | Sequence[str]


@attrs.frozen
class Shares:
    """Who has which store, by its name: by domain (A-label), by account (`Address.key`), by mailbox of everybody."""

    domains: Mapping[str, str] = attrs.field(factory=dict)
    accounts: Mapping[str, str] = attrs.field(factory=dict)
    folders: Mapping[str, str] = attrs.field(factory=dict)

    def home(self, user: str) -> str:
        """The store of the account."""
        return self.accounts.get(user) or self.domains.get(user.rpartition("@")[2]) or MAIN

    def mount(self, name: str) -> str:
        """Where what has this mailbox is mounted; "" for what is at home."""
        while name not in self.folders:
            name, below, _ = name.rpartition(DELIMITER)
            if not below:
                return ""
        return name

    def hidden(self, user: str, names: Iterable[str]) -> list[str]:
        """Those of the mailboxes of an account in whose place another store is mounted."""
        home = self.home(user)
        return [name for name in names if (mount := self.mount(name)) and self.folders[mount] != home]


def inner_name(mount: str, name: str) -> str:
    """What the mounted store calls a mailbox."""
    return INBOX if name == mount else normalise(name[len(mount) + 1 :])


def _second_inbox(mount: str, name: str) -> bool:
    """Whether the name would be another one of what is called as the mount is."""
    return bool(mount) and name != mount and inner_name(mount, name) == INBOX


def outer_name(mount: str, name: str) -> str:
    """What the user calls it."""
    return mount if name == INBOX else mount + DELIMITER + name


@implementer(IMailStore)
class SeveralStores:
    """`stores` by name; `MAIN` is that of all who have no other."""

    def __init__(self, stores: Mapping[str, IMailStore], shares: Shares, clock: IReactorTime) -> None:
        self.stores = dict(stores)
        self.shares = shares
        self.clock = clock
        self._moves: WeakValueDictionary[tuple[str, str, int], DeferredLock] = WeakValueDictionary()
        self._told: set[str] = set()
        self.listings: OrderedDict[tuple[str, str, str], _Names] = OrderedDict()

    async def start(self) -> None:
        """Open them, the main one first."""
        for store in self.stores.values():
            await store.start()

    async def stop(self) -> None:
        """Close them, the main one last, whatever becomes of the others."""
        stopping = [Deferred.fromCoroutine(_stop(store)) for name, store in self.stores.items() if name != MAIN]
        try:
            await gatherResults(stopping, consumeErrors=True)
        finally:
            await self.stores[MAIN].stop()

    def makes_accounts(self, user: str) -> bool:
        """Whether the store of that user does."""
        return makes_account(self._home(user), user)

    def place_of(self, user: str, mailbox: str = "") -> IMailStore:
        """The very store that has a mailbox."""
        mount = self.shares.mount(normalise(mailbox))
        return self.stores[self.shares.folders[mount]] if mount else self._home(user)

    def _home(self, user: str) -> IMailStore:
        return self.stores[self.shares.home(user)]

    async def exists(self, user: str) -> bool:
        """At home."""
        return await self._home(user).exists(user)

    async def account(self, user: str, create: bool = False) -> IMailAccount:
        """That at home, with what is mounted in it. Raises NoSuchUser."""
        return SharedAccount(self, user, await self._home(user).account(user, create))

    async def check_quota(self, user: str, size: int) -> None:
        """Of the INBOX, which is at home."""
        await self._home(user).check_quota(user, size)

    def moves_out_of(self, place: str, user: str, mailbox: IMailbox) -> DeferredLock:
        """One lock for all sessions that have this mailbox of the store `place`."""
        return self._moves.setdefault((place, user, mailbox.uid_validity), DeferredLock())

    def tell_of(self, user: str, hidden: Sequence[str]) -> None:
        """Mail that a user does not see is in the log, once."""
        if hidden and user not in self._told and len(self._told) < LISTINGS:
            self._told.add(user)
            log.warn(
                "mailboxes hidden by what is mounted in their place: account={account} mailboxes={mailboxes:text}",
                account=user,
                mailboxes=", ".join(hidden),
            )

    def remember(self, key: tuple[str, str, str], names: _Names) -> None:
        """A listing of what is mounted."""
        self.listings[key] = names
        self.listings.move_to_end(key)
        if len(self.listings) > LISTINGS:
            self.listings.popitem(last=False)


async def _stop(store: IMailStore) -> None:
    await store.stop()


@implementer(IMailAccount)
class SharedAccount:
    """The mailboxes of one user, wherever they are."""

    def __init__(self, store: SeveralStores, user: str, home: IMailAccount) -> None:
        self.user = user
        self._store = store
        self._shares = store.shares
        self._home_name = store.shares.home(user)
        self._home = home
        # What is mounted in its own store is at home already.
        folders = store.shares.folders.items()
        self._mounts = {mount: store.stores[name] for mount, name in folders if name != self._home_name}
        self._mounted: dict[str, IMailAccount] = {}  # by mount

    # --- Which account has a name ---------------------------------------------------------------------------------

    def _mount(self, name: str) -> str:
        """Where what has the mailbox is mounted, "" for what is at home. Whether the mounted store knows the user makes
        no difference: mail that went home meanwhile would be hidden when it does again."""
        mount = self._shares.mount(name)
        return "" if mount not in self._mounts else mount

    async def _at(self, name: str) -> tuple[str, IMailAccount]:
        """The mount and the account that has the mailbox; "" is home. Raises NoSuchMailbox where the mounted store does
        not know the user, TemporaryError."""
        mount = self._mount(name)
        if _second_inbox(mount, name):
            raise NoSuchMailbox
        try:
            return mount, await self._account(mount) if mount else self._home
        except NoSuchUser:
            raise NoSuchMailbox from None

    async def _account(self, mount: str) -> IMailAccount:
        if mount not in self._mounted:
            store = self._mounts[mount]
            found = await store.account(self.user, makes_account(store, self.user))
            self._mounted.setdefault(mount, found)
        return self._mounted[mount]

    # --- IMailAccount ----------------------------------------------------------------------------------------------

    async def mailboxes(self) -> Sequence[MailboxInfo]:
        """Raises NoSuchUser. What does not answer is as it was when it last did."""
        home = await self._home.mailboxes()
        mounted: dict[str, Any] = await self._listed("mailboxes", [MailboxInfo(INBOX)])
        hidden = self._shares.hidden(self.user, (each.name for each in home))
        self._store.tell_of(self.user, hidden)
        found = [each for each in home if each.name not in hidden]
        for mount, listed in mounted.items():
            # An account has one mailbox for each special use, and its own has it.
            found += [MailboxInfo(name) for name in self._outer(mount, (each.name for each in listed))]
        return sorted(found, key=lambda each: each.name)

    def _outer(self, mount: str, names: Iterable[str]) -> Iterable[str]:
        """Without those in whose place something else is mounted."""
        outer = (outer_name(mount, name) for name in names)
        return [name for name in outer if self._shares.mount(name) == mount]

    async def _listed(self, method: str, otherwise: _Names) -> dict[str, Any]:
        """What the mounted accounts say, by mount, all asked at once."""
        mounts = list(self._mounts)
        answers = [Deferred.fromCoroutine(self._listed_at(mount, method, otherwise)) for mount in mounts]
        found = zip(mounts, await gatherResults(answers, consumeErrors=True), strict=True)
        return {mount: names for mount, names in found if names is not None}

    async def _listed_at(self, mount: str, method: str, otherwise: _Names) -> _Names | None:
        async def asked() -> _Names:
            names: _Names = await getattr(await self._account(mount), method)()
            return names

        key = (self.user, mount, method)
        try:
            names: _Names = await in_time(self._store.clock, LIST_SECONDS, asked)
        except NoSuchUser:
            return None
        except (MailError, NoAnswer):
            # Clients forget what they have of a mailbox that is listed no more.
            return self._store.listings.get(key, otherwise)
        self._store.remember(key, names)
        return names

    async def mailbox(self, name: str) -> IMailbox:
        """Raises NoSuchMailbox, TemporaryError."""
        name = normalise(name)
        mount, account = await self._at(name)
        try:
            inner = await account.mailbox(inner_name(mount, name) if mount else name)
        except NoSuchUser:
            if mount:
                raise NoSuchMailbox from None
            raise
        place = self._shares.folders[mount] if mount else self._home_name
        owner = f"{self.user} {mount}" if mount else self.user
        return SharedMailbox(
            inner,
            account,
            self._store.stores[place],
            owner,
            lambda found: outer_name(mount, found) if mount else found,
            self._store.moves_out_of(place, self.user, inner),
            0 if place == MAIN else shift_of(place),
        )

    async def create(self, name: str, special_use: str = "") -> None:
        """Raises MailboxExists, InvalidMailboxName, NoSuchUser, NotPermitted."""
        name = normalise(name)
        mount = self._mount(name)
        if not mount:
            await self._home.create(name, special_use)
            return
        check(name)
        if _second_inbox(mount, name):
            raise InvalidMailboxName(f"The INBOX of this store is {mount}")
        try:
            account = await self._account(mount)
            if name == mount:
                raise MailboxExists
            if special_use:
                raise InvalidMailboxName("Mailboxes in another store have no special use")
            await account.create(inner_name(mount, name), "")
        except NoSuchUser:
            raise InvalidMailboxName("This name belongs to another store, which does not know you") from None

    async def delete(self, name: str) -> None:
        """Raises NoSuchMailbox, NotPermitted."""
        name = normalise(name)
        mount, account = await self._at(name)
        if mount and name == mount:
            raise NotPermitted("This mailbox is another store's INBOX and cannot be deleted")
        await account.delete(inner_name(mount, name) if mount else name)

    async def rename(self, old: str, new: str) -> None:
        """Within a store. Raises NoSuchMailbox, MailboxExists, InvalidMailboxName, NotPermitted."""
        old, new = normalise(old), normalise(new)
        mount, account = await self._at(old)
        if mount != self._mount(new) or (mount and old == mount):
            raise InvalidMailboxName("A mailbox cannot be renamed into another store; copy its messages")
        if _second_inbox(mount, new):
            raise InvalidMailboxName(f"The INBOX of this store is {mount}")
        if not mount and (self._has_below(old) or self._has_below(new)):
            raise InvalidMailboxName("Below this name there are mailboxes of another store")
        convert: Callable[[str], str] = (lambda name: inner_name(mount, name)) if mount else (lambda name: name)
        if mount:
            check(new)
        await account.rename(convert(old), convert(new))

    def _has_below(self, name: str) -> bool:
        return name != INBOX and any(mount.startswith(name + DELIMITER) for mount in self._mounts)

    async def subscribe(self, name: str, subscribed: bool) -> None:
        """Kept by the store that has the mailbox; by the user's own where that keeps none."""
        name = normalise(name)
        mount = self._mount(name)
        if not mount:
            await self._home.subscribe(name, subscribed)
            return
        if subscribed:
            check(name)
        try:
            account = await self._account(mount)
            await account.subscribe(inner_name(mount, name), subscribed)
        except (NotPermitted, NoSuchUser):
            await self._home.subscribe(name, subscribed)
            return
        if not subscribed:
            with suppress(NotPermitted):
                await self._home.subscribe(name, False)

    async def subscriptions(self) -> Sequence[str]:
        """In name order."""
        found = set(await self._home.subscriptions())
        mounted: dict[str, Any] = await self._listed("subscriptions", [])
        for mount, names in mounted.items():
            found.update(self._outer(mount, names))
        return sorted(found)

    async def quota(self) -> Quota:
        """That of the account at home. Others are told when something is added."""
        return await self._home.quota()

    def new_body(self, size: int = 0) -> IBodyWriter:
        """For any of the mailboxes; that of the mailbox itself saves a copy where it is another store's."""
        return SharedWriter(self._home.new_body(size), self._store.stores[self._home_name])

    async def logout(self) -> None:
        """Of all accounts, whatever one of them says."""
        for account in self._mounted.values():
            with suppress(MailError):
                await account.logout()
        await self._home.logout()
