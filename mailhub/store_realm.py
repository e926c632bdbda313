"""A mailbox store behind a portal of one's own, without a hub."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import attrs
from twisted.cred.portal import IRealm
from twisted.internet.defer import Deferred, DeferredLock
from zope.interface import Interface, implementer

from mailhub import plugin_faults
from mailhub.alone import real_environment, settings
from mailhub.answers import answer
from mailhub.auth.realm import address_or_name
from mailhub.config.settings import Config
from mailhub.errors import NoSuchUser
from mailhub.hub_view import view
from mailhub.interfaces import Environment, IMailAccount, IMailStore, Part

T = TypeVar("T")


@attrs.frozen
class _House:
    """What a store uses of a hub."""

    hostname: str
    environment: Environment
    settings: Config
    _shared: dict[str, Any] = attrs.field(factory=dict)

    def shared(self, name: str, make: Callable[[], T]) -> T:
        """See `IHub`."""
        if name not in self._shared:
            self._shared[name] = make()
        found: T = self._shared[name]
        return found


@implementer(IRealm)
class StoreRealm:
    """Gives each user the account of that name in a store, such as a `SimpleStore`: for `imap_factory`, `pop3_factory`.

    `make(options, hub)` makes the store, as a component's does; its class will do. In the folder `data` it keeps what
    it has to know again: UIDs, and flags where it keeps them itself. `limits` is as the table `[limits]` of a
    configuration file, and `environment` for tests. The store is started by the first login, and stopped when the
    reactor is.
    """

    def __init__(
        self,
        make: Callable[[Any, Any], IMailStore],
        *,
        data: str | Path,
        options: Any = None,
        limits: Mapping[str, int | bool] | None = None,
        environment: Environment | None = None,
    ) -> None:
        """Raises ConfigurationError, and what the store raises."""
        self._environment = attrs.evolve(environment or real_environment(), data=Path(data).absolute())
        config = settings("StoreRealm", limits=limits or {})
        name = getattr(make, "__name__", "store").lower()
        part = Part("store", name, plugin_faults.source(make))
        self.store = make(options, view(_House(config.hostname, self._environment, config), part))
        self._lock = DeferredLock()
        self._started = False
        self._stops = False  # by itself, at the end

    def requestAvatar(
        self, avatarId: bytes | str | tuple[()], mind: object, *interfaces: type[Interface]
    ) -> Deferred[tuple[type[Interface], Any, Callable[[], None]]]:
        """See `IRealm`. Fails with NotImplementedError where no IMailAccount is wanted, and with NoSuchUser."""
        return Deferred.fromCoroutine(self._avatar(avatarId, interfaces))

    async def _avatar(
        self, avatar_id: bytes | str | tuple[()], interfaces: tuple[type[Interface], ...]
    ) -> tuple[type[Interface], Any, Callable[[], None]]:
        if IMailAccount not in interfaces:
            raise NotImplementedError("a store has accounts, and takes no mail by itself")
        if avatar_id == ():
            raise NoSuchUser(detail="anonymous login")
        user = avatar_id.decode() if isinstance(avatar_id, bytes) else avatar_id
        if not isinstance(user, str) or not user or "\0" in user:
            raise ValueError(f"the checker gave {avatar_id!r:.100}, which is no user's name")
        await self._lock.run(lambda: Deferred.fromCoroutine(self._start()))
        try:
            account = await answer(self.store.account(address_or_name(user)))
        except NoSuchUser as error:
            raise NoSuchUser(detail=error.detail or f"the store has no user {user!r:.100}") from error
        return IMailAccount, account, _nothing

    async def _start(self) -> None:
        if not self._started:
            await self._environment.threads.run(_make, self._environment.data)
            await answer(self.store.start())
            self._started = True
            at_end = getattr(self._environment.clock, "addSystemEventTrigger", None)
            if at_end is not None and not self._stops:
                self._stops = True
                at_end("before", "shutdown", lambda: Deferred.fromCoroutine(self.stop()))

    async def stop(self) -> None:
        """Close the store; the next login would open it again."""
        if self._started:
            self._started = False
            await answer(self.store.stop())


def _make(folder: Path) -> None:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)


def _nothing() -> None:
    """The session tells the account itself (`IMailAccount.logout`)."""
