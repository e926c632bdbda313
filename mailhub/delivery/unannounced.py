"""Connections of proxies that may say yet whose they are."""

from __future__ import annotations

import attrs
from zope.interface import implementer

from mailhub.interfaces import IConversation, IConversations, ISubmitter, ITransaction, Origin
from mailhub.message.envelope import Mail


@implementer(IConversation)
@attrs.define(eq=False, repr=False)
class Unannounced:
    """A conversation that begins with the first thing that somebody is to be asked about: what policies say of
    connections and greetings is not meant for the proxy. A proxy that speaks for itself is a client as others."""

    _conversations: IConversations
    origin: Origin
    _begun: IConversation | None = None
    _greeted: bool = False

    async def hello(self, origin: Origin) -> None:
        """See `IConversation`."""
        if self._begun is not None and self._greeted:
            await self._begun.hello(origin)
        self.origin = origin

    async def login(self, origin: Origin, submitter: ISubmitter) -> None:
        """See `IConversation`."""
        conversation = await self._begin()
        await conversation.login(origin, submitter)
        self.origin = origin

    def secured(self, origin: Origin) -> None:
        """See `IConversation`."""
        self.origin = origin
        if self._begun is not None:
            self._begun.secured(origin)

    async def begin(self, mail: Mail) -> ITransaction:
        """See `IConversation`. Raises what `IConversations.connected` and `IConversation.hello` raise, too."""
        conversation = await self._begin()
        conversation.origin = self.origin
        return await conversation.begin(mail)

    async def turn(self, node: str) -> int:
        """See `IConversation`."""
        return await (await self._begin()).turn(node)

    def closed(self, *, farewell: bool = False) -> None:
        """See `IConversation`."""
        if self._begun is not None:
            self._begun.closed(farewell=farewell)

    async def _begin(self) -> IConversation:
        if self._begun is None:
            self._begun = await self._conversations.connected(attrs.evolve(self.origin, helo="", early=False))
        if not self._greeted:
            await self._begun.hello(self.origin)
            self._greeted = True
        return self._begun
