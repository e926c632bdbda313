"""IMailStore over a mirror."""

from __future__ import annotations

from zope.interface import implementer

from mailhub.errors import NoSuchUser, NotPermitted
from mailhub.interfaces import Environment, IMailAccount, IMailStore
from mailhub.store.limits import StoreLimits
from mailhub.store.mirror.account import MirrorAccount
from mailhub.store.mirror.engine import MirrorEngine
from mailhub.store.mirror.source import ISource


@implementer(IMailStore)
class MirrorStore:
    """The users of a source, which says who they are."""

    def __init__(self, source: ISource, environment: Environment, limits: StoreLimits, name: str) -> None:
        self.engine = MirrorEngine(source, environment, limits, name)

    @property
    def _source(self) -> ISource:
        """Of the moment: the store's code may be swapped."""
        return self.engine.source

    async def start(self) -> None:
        """Open ledger and source."""
        await self.engine.start()

    async def stop(self) -> None:
        """Close them."""
        await self.engine.stop()

    async def exists(self, user: str) -> bool:
        """Whether the source knows the user."""
        return await self._source.exists(user)

    async def account(self, user: str, create: bool = False) -> IMailAccount:
        """Raises NoSuchUser, with `create` where the source makes no users."""
        if not await self._source.exists(user):
            if not create:
                raise NoSuchUser
            await self._source.make_user(user)
        await self._meet(user)
        return MirrorAccount(self.engine, user)

    async def _meet(self, user: str) -> None:
        """Have the user's folders made, once only: what was there and is gone is away with its volume, and not to be
        begun anew."""
        if not await self.engine.knows(user):
            await self._source.make_user(user)

    async def check_quota(self, user: str, size: int) -> None:
        """Raises NotPermitted where no mail can be added, so that it is refused before it comes; OverQuota,
        NoSuchUser."""
        if not await self._source.exists(user):
            raise NoSuchUser
        if "i" not in self._source.rights:
            raise NotPermitted("This mailbox takes no mail", status="5.2.1")
        await self._meet(user)
        await self.engine.check_room(user, size)

    def changed(self, user: str, folder: str) -> None:
        """Something is new there, says the source; on the reactor thread."""
        self.engine.changed(user, folder)
