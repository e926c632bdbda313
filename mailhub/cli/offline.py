"""The database as commands see it: opened beside a running server, or without one, and without a reactor."""

from __future__ import annotations

import os
import time
from collections.abc import Awaitable, Iterator
from contextlib import contextmanager
from pathlib import Path
from random import SystemRandom
from typing import Any, TypeVar

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from zope.interface import implementer

from mailhub.config.bounds import store_settings
from mailhub.config.settings import Config
from mailhub.errors import ConfigurationError, TemporaryError
from mailhub.interfaces import Environment, IAccounts, INetwork, IQueue, IResolver
from mailhub.store.sqlite.database import Database
from mailhub.threads import InlineThreads

T = TypeVar("T")


@implementer(INetwork, IResolver)
class Nowhere:
    """Commands work on this machine's data alone."""

    async def connect(self, host: str, port: int, factory: Any, timeout: float) -> Any:
        """Never."""
        raise TemporaryError("commands do not connect")

    async def mail_exchangers(self, domain: str) -> Any:
        """Never."""
        raise TemporaryError("commands do not ask DNS")

    async def addresses(self, host: str) -> Any:
        """Never."""
        raise TemporaryError("commands do not ask DNS")


@attrs.frozen(eq=False)
class Offline:
    """Accounts and queue, and a way to wait for them."""

    database: Database
    accounts: IAccounts
    queue: IQueue

    @staticmethod
    def wait(work: Awaitable[T]) -> T:
        """The result of a call. It is there at once: without threads nothing has to wait."""
        return wait(work)


def wait(work: Awaitable[T]) -> T:
    """The result of something awaitable that needs no reactor; raises what it raises."""

    async def result() -> T:
        return await work

    results: list[T | Failure] = []
    Deferred.fromCoroutine(result()).addBoth(results.append)
    if not results:
        raise RuntimeError("a command had to wait for the reactor")
    (found,) = results
    if isinstance(found, Failure):
        found.raiseException()
        raise RuntimeError("unreachable")
    return found


def environment(config: Config) -> Environment:
    """The world of a command: no network, no threads, a clock that stands still."""
    clock: Any = Clock()
    clock.advance(time.time())
    nowhere = Nowhere()
    return Environment(clock, InlineThreads(), nowhere, nowhere, SystemRandom(), config.data)


@contextmanager
def _as_owner(folder: Path) -> Iterator[None]:
    """Root works as the owner of the data, whose server must be able to open what is made here."""
    owner = folder.stat()
    if os.geteuid() != 0 or owner.st_uid == 0:
        yield
        return
    group = os.getegid()
    os.setegid(owner.st_gid)
    os.seteuid(owner.st_uid)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(group)


@contextmanager
def opened(config: Config) -> Iterator[Offline]:
    """The database of a configuration, made when it is not there yet. Raises ConfigurationError."""
    try:
        config.data.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigurationError(f"data folder {config.data}: cannot be made: {error.strerror}") from None
    with _as_owner(config.data):
        database = Database(environment(config), store_settings(config.limits), owner=False)
        wait(database.start())
        try:
            yield Offline(database, database.accounts, database.queue)
        finally:
            wait(database.stop())
