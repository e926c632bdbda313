"""A mailbox backend in a few lines: you say which messages there are, mailhub does the rest.

    class Notes(SimpleStore):
        def users(self):
            return ["ann@xx.example"]

        def messages(self, user, folder):
            return ["first", "second"]

        def read(self, user, folder, key):
            return b"Subject: " + key.encode() + b"\\r\\n\\r\\nHello\\r\\n"

    notes = Component("store", "notes", Notes)

UIDs, UIDVALIDITY, mod-sequences, flags, search, copy, move, IDLE and POP3 come from `mailhub.store.mirror`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterable, Awaitable, Iterable
from typing import Any

from zope.interface import implementer

from mailhub.errors import ConfigurationError, StoreUnavailable
from mailhub.guard import Guard
from mailhub.interfaces import IHub, IMailAccount, IMailStore
from mailhub.keys import MESSAGE_SIZE
from mailhub.store.limits import StoreLimits
from mailhub.store.mirror.answers import Message
from mailhub.store.mirror.simple_source import SimpleSource, check_methods, file_of
from mailhub.store.mirror.source import Key
from mailhub.store.mirror.store import MirrorStore

__all__ = ["Key", "Message", "SimpleStore"]


@implementer(IMailStore)
class SimpleStore(ABC):
    """An IMailStore of a few small methods; `Component("store", "mine", MyStore)` is all that is needed.

    `users`, `messages` and `read` are what every store has, and `folders` where there are others than INBOX. It can
    only be read unless it also has some of

        def add(self, user, folder, octets, flags, date): ...  # returns the new message's key
        def change(self, user, folder, key, flags): ...        # the flags that the message has from now on
        def remove(self, user, folder, key): ...               # the message is gone for good
        def quota(self, user): ...                             # octets; or `quota = ...` for everybody

    `add` takes mail (APPEND, COPY into it, delivery), durable when it returns; `date` is in seconds since the epoch.
    `change` keeps flags, which come back in `Message.flags`; a store without it that has `add` or `remove`, or
    `keep_flags`, has them kept for it. `remove` takes messages away (EXPUNGE, MOVE, DELE).

    Each method may be a plain function: then it is called in a thread of this store's own, one call at a time, so it
    may block and needs no locks. (A call that does not return in time is left behind, and the next one is made in
    another thread; with four such calls the store is busy.) Or it may be `async def`, or give a Deferred: then it runs
    on the reactor, and must not block. What a method raises is logged with file and method; a MailError goes to the
    client as it is.

    A store that cannot tell now must raise (StoreUnavailable, or what comes), and not give an empty list: that means
    that all is gone for good. What comes back after it has new UIDs, and a folder a new UIDVALIDITY; flags that were
    kept are lost, and mail for a user who is not listed is refused.
    """

    poll_seconds: float = 10.0
    """How often a folder that a session has selected is listed; 0: only when `changed` is called or the client asks."""

    makes_accounts = False  # `users` says who there is

    keep_flags: bool = False
    """Whether flags are kept for a store that cannot be written otherwise (\\\\Seen of a feed)."""

    def __init__(self, options: Any, hub: IHub) -> None:
        self.options = options
        self.hub = hub
        check_methods(self)

    @abstractmethod
    def users(self) -> Iterable[str] | Awaitable[Iterable[str]]:
        """The addresses of all who have mail here."""

    def folders(self, user: str, /) -> Iterable[str] | Awaitable[Iterable[str]]:
        """The names of a user's folders, `/` between levels. There is an INBOX in any case."""
        return ("INBOX",)

    @abstractmethod
    def messages(
        self, user: str, folder: str, /
    ) -> Iterable[Key | Message] | Awaitable[Iterable[Key | Message]] | AsyncIterable[Key | Message]:
        """What is in a folder now, in the order in which it came: keys, or `Message`s where more is known."""

    @abstractmethod
    def read(self, user: str, folder: str, key: Any, /) -> bytes | Awaitable[bytes]:
        """A message (RFC 5322), always the same octets for the same key."""

    def changed(self, user: str, folder: str = "INBOX") -> None:
        """Tell that something is new in a folder, so that who watches it is told now. From any thread."""
        self.hub.environment.threads.call_in_reactor(self.__changed, user, folder)

    def __changed(self, user: str, folder: str) -> None:
        if self.__mirror is not None:
            self.__mirror.changed(user, folder)

    # --- IMailStore, by the mirror ---------------------------------------------------------------------------------

    __mirror: MirrorStore | None = None
    __source: SimpleSource | None = None
    __before: SimpleStore | None = None
    __guard: Guard | None = None

    def guard_by(self, guard: Guard) -> None:
        """Call all of the methods above by this guard."""
        self.__guard = guard

    def __started(self) -> MirrorStore:
        if self.__mirror is None:
            raise StoreUnavailable(detail=f"{type(self).__name__} is not started")
        return self.__mirror

    async def start(self) -> None:
        """Open the ledger. Raises ConfigurationError."""
        hub = getattr(self, "hub", None)
        if hub is None:
            raise ConfigurationError(f"{type(self).__name__}.__init__ must call super().__init__(options, hub)")
        check_methods(self)
        name, environment = hub.part.name, hub.environment
        limits = hub.settings.of(StoreLimits)
        source = SimpleSource(
            self,
            environment,
            self.__guard or Guard("store", name, file_of(self), environment.clock),
            size_limit=hub.settings.value(MESSAGE_SIZE),
            folder_limit=limits.mailboxes_per_account,
        )
        if self.__before is None:
            mirror = MirrorStore(source, environment, limits, name)
            await mirror.start()
            self.__mirror = mirror
        self.__source = source

    async def stop(self) -> None:
        """Close it; what another store has taken over stays open."""
        mirror, source = self.__mirror, self.__source
        self.__mirror = self.__source = self.__before = None
        if mirror is not None:
            await mirror.stop()
        elif source is not None:
            await source.stop()

    @property
    def taken_over(self) -> bool:
        """Whether another store goes on where this one was, so that this one can be stopped at once."""
        return self.__source is not None and self.__mirror is None

    def start_after(self, store: object) -> bool:
        """Have `start` leave the ledger to the store that is to be replaced, until `take_over` is called. False where
        that one is none of this kind."""
        if isinstance(store, SimpleStore) and store.__mirror is not None and store.hub.part.name == self.hub.part.name:
            self.__before = store
        return self.__before is not None

    def take_over(self) -> None:
        """Go on where the store of `start_after` is: with its ledger, and the folders that its sessions have open. What
        they ask next is asked of this one."""
        before, self.__before = self.__before, None
        if before is not None and before.__mirror is not None and self.__source is not None:
            self.__mirror, before.__mirror = before.__mirror, None
            self.__mirror.engine.swap(self.__source)

    async def exists(self, user: str, /) -> bool:
        """Whether `users` has this one."""
        return await self.__started().exists(user)

    async def account(self, user: str, create: bool = False) -> IMailAccount:
        """Raises NoSuchUser."""
        return await self.__started().account(user, create)

    async def check_quota(self, user: str, size: int, /) -> None:
        """Raises OverQuota, NotPermitted, NoSuchUser."""
        await self.__started().check_quota(user, size)
