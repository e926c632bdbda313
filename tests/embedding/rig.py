"""Factories over portals of somebody else's, on a Clock."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

from twisted.cred.checkers import AllowAnonymousAccess, InMemoryUsernamePasswordDatabaseDontUse
from twisted.cred.portal import IRealm, Portal
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from zope.interface import implementer

from mailhub.interfaces import Environment, IMailAccount, IMailReceiver, Origin
from mailhub.store.memory.database import MemoryDatabase
from mailhub.threads import InlineThreads
from tests.net.line_session import PEER, Peer

USER, PASSWORD = "Bob", "secret"  # a name that is no address, and is not to be changed


def environment(clock: Clock) -> Environment:
    nothing: Any = None
    return Environment(clock, InlineThreads(), nothing, nothing, Random(1), Path("/nonexistent"), lambda: 1_767_268_800)


@implementer(IMailReceiver)
class Inbox:
    """Keeps octets in a list."""

    def __init__(self) -> None:
        self.messages: list[tuple[Origin, bytes]] = []

    def recipient(self, recipient: Any, transaction: Any) -> None:
        """Everybody is welcome."""

    async def message(self, message: Any) -> None:
        self.messages.append((message.origin, await message.open().read()))


class Realm:
    """`gives` is what a login gets; by default an inbox, or the account of that name in a store of memory."""

    def __init__(self, gives: Callable[..., Any] | None = None) -> None:
        self.gives = gives
        self.inbox = Inbox()
        self.store = MemoryDatabase(environment(Clock())).store
        self.asked: list[tuple[Any, Any, tuple[Any, ...]]] = []
        self.logouts = 0

    async def requestAvatar(self, avatarId: Any, mind: Any, *interfaces: Any) -> Any:
        self.asked.append((avatarId, mind, interfaces))
        if self.gives is not None:
            return self.gives(self, *interfaces)
        if IMailAccount in interfaces:
            return IMailAccount, await self.store.account(avatarId.decode(), create=True), self.logout
        return IMailReceiver, self.inbox, self.logout

    def logout(self) -> None:
        self.logouts += 1


@implementer(IRealm)
class Deferring:
    """Twisted's portal wants Deferreds, which a coroutine becomes."""

    def __init__(self, realm: Realm) -> None:
        self.realm = realm

    def requestAvatar(self, *arguments: Any) -> Any:
        return Deferred.fromCoroutine(self.realm.requestAvatar(*arguments))


class Embedded:
    """A factory that `make` makes over a realm, and its one connection."""

    def __init__(self, make: Callable[..., Any], realm: Realm | None = None, **options: Any) -> None:
        self.clock = Clock()
        self.realm = realm or Realm()
        users: Any = InMemoryUsernamePasswordDatabaseDontUse(**{USER: PASSWORD})  # type: ignore[arg-type]
        self.portal: Any = Portal(Deferring(self.realm), [users, AllowAnonymousAccess()])
        self.options = {"cleartext_login": ["192.0.2.0/24"], "environment": environment(self.clock), **options}
        self.factory_of = make
        self.factory = make(self.portal, hostname="mx.xx.example", **self.options)
        self.connect()

    def connect(self) -> bytes:
        self.channel: Any = self.factory.buildProtocol(PEER)
        self.peer = Peer()
        self.channel.makeConnection(self.peer)
        self.greeting = self.peer.taken()
        return self.greeting

    def say(self, *lines: bytes) -> bytes:
        self.channel.dataReceived(b"".join(line + b"\r\n" for line in lines))
        self.clock.advance(0)
        return self.peer.taken()

    def lose(self) -> None:
        self.channel.connectionLost(Failure(ConnectionDone()))  # type: ignore[no-untyped-call]
