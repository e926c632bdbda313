"""IMailStore and IMailAccount of a guarded store."""

from __future__ import annotations

from collections.abc import Sequence

from twisted.internet.interfaces import IDelayedCall
from zope.interface import implementer

from mailhub.answers import answer
from mailhub.errors import MailError
from mailhub.guard import Guard
from mailhub.interfaces import IBodyWriter, IMailAccount, IMailbox, IMailStore
from mailhub.log import Logger
from mailhub.message.record import MailboxInfo, Quota
from mailhub.store.guarded import sound
from mailhub.store.guarded.asking import Asking
from mailhub.store.guarded.mailbox import GuardedMailbox
from mailhub.store.guarded.octets import GuardedWriter
from mailhub.store.guarded.sound import nothing
from mailhub.store.nonsense import Nonsense, shown

log = Logger(namespace="mailhub.plugins")

STARTING_SECONDS = 10.0  # between two lines about a store that takes its time


@implementer(IMailStore)
class GuardedStore:
    """As the store's own. `inner` is that."""

    def __init__(self, inner: IMailStore, guard: Guard) -> None:
        self.inner = inner
        self._guard = guard

    @property
    def makes_accounts(self) -> bool:
        """See `interfaces.makes_account`."""
        return bool(getattr(self.inner, "makes_accounts", True))

    def _asking(self, **about: object) -> Asking:
        return Asking(self._guard, self.inner, "store", about)

    async def start(self) -> None:
        """Opening may take its time, but who waits is told for what. Raises ConfigurationError, and whatever else it
        raises."""
        waiting: list[IDelayedCall] = []

        def tell() -> None:
            guard = self._guard
            log.warn("still waiting for a store to start: store={store} file={file}", store=guard.name, file=guard.file)
            waiting[:] = [guard.clock.callLater(STARTING_SECONDS, tell)]

        waiting.append(self._guard.clock.callLater(STARTING_SECONDS, tell))
        try:
            await answer(self.inner.start())
        finally:
            waiting[0].cancel()

    async def stop(self) -> None:
        """Whatever it makes of that, it is the last that is heard of it."""
        try:
            await self._asking().ask(nothing, "stop", last=True)
        except MailError:
            return  # the log has it

    async def exists(self, user: str) -> bool:
        """Raises MailError."""
        return await self._asking(user=user).ask(sound.answer, "exists", user)

    async def account(self, user: str, create: bool = False) -> IMailAccount:
        """Raises MailError."""
        asking = self._asking(user=user)
        return await asking.ask(
            lambda given: GuardedAccount(asking.part(given, "account"), user),
            "account",
            user,
            create,
        )

    async def check_quota(self, user: str, size: int) -> None:
        """Raises MailError."""
        await self._asking(user=user).ask(nothing, "check_quota", user, size)


@implementer(IMailAccount)
class GuardedAccount:
    """As the store's own. Raises Nonsense for that of somebody else."""

    def __init__(self, asking: Asking, user: str) -> None:
        self._asking = asking
        self.user = user
        found = getattr(asking.thing, "user", None)
        if found != user:
            raise Nonsense(f"it gave an account of {shown(found)}")

    async def mailboxes(self) -> Sequence[MailboxInfo]:
        """Raises MailError."""
        return await self._asking.ask(sound.mailboxes, "mailboxes")

    async def mailbox(self, name: str) -> IMailbox:
        """Raises MailError."""
        asking = self._asking
        return await asking.ask(
            lambda given: GuardedMailbox(asking.part(given, "mailbox", mailbox=name)), "mailbox", name
        )

    async def create(self, name: str, special_use: str = "") -> None:
        """Raises MailError."""
        await self._asking.ask(nothing, "create", name, special_use)

    async def delete(self, name: str) -> None:
        """Raises MailError."""
        await self._asking.ask(nothing, "delete", name)

    async def rename(self, old: str, new: str) -> None:
        """Raises MailError."""
        await self._asking.ask(nothing, "rename", old, new)

    async def subscribe(self, name: str, subscribed: bool) -> None:
        """Raises MailError."""
        await self._asking.ask(nothing, "subscribe", name, subscribed)

    async def subscriptions(self) -> Sequence[str]:
        """Raises MailError."""
        return await self._asking.ask(sound.names, "subscriptions")

    async def quota(self) -> Quota:
        """Raises MailError."""
        return await self._asking.ask(sound.quota, "quota")

    def new_body(self, size: int = 0) -> IBodyWriter:
        """Raises MailError."""
        asking = self._asking
        return asking.call(lambda given: GuardedWriter(asking.part(given, "writer")), "new_body", size)

    async def logout(self) -> None:
        """Raises MailError."""
        await self._asking.ask(nothing, "logout", last=True)
