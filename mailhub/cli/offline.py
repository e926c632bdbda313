"""The database as commands see it: opened beside a running server, or without one, and without a reactor."""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Awaitable, Iterator
from contextlib import contextmanager
from pathlib import Path
from random import SystemRandom
from typing import Any, Literal, TypeVar

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from zope.interface import implementer

from mailhub.cli.ours import require_ours
from mailhub.config.settings import Config
from mailhub.data_folder import DataFolder
from mailhub.errors import ConfigurationError, TemporaryError
from mailhub.interfaces import Environment, IAccounts, INetwork, IQueue, IResolver
from mailhub.store.limits import StoreLimits
from mailhub.store.sqlite import opening, schema
from mailhub.store.sqlite.blobs import BLOBS, Blobs
from mailhub.store.sqlite.damage import Progress
from mailhub.store.sqlite.database import Database
from mailhub.store.sqlite.repair import repair
from mailhub.threads import InlineThreads

T = TypeVar("T")


@implementer(INetwork, IResolver)
class Nowhere:
    """Commands work on this machine's data alone."""

    async def connect(self, host: str, port: int, factory: Any, timeout: float, source: str = "") -> Any:
        """Never."""
        raise TemporaryError("commands do not connect")

    async def mail_exchangers(self, domain: str) -> Any:
        """Never."""
        raise TemporaryError("commands do not ask DNS")

    async def addresses(self, host: str) -> Any:
        """Never."""
        raise TemporaryError("commands do not ask DNS")

    async def host(self, name: str) -> Any:
        """Never."""
        raise TemporaryError("commands do not ask DNS")

    async def texts(self, name: str) -> Any:
        """Never."""
        raise TemporaryError("commands do not ask DNS")

    async def pointers(self, address: str) -> Any:
        """Never."""
        raise TemporaryError("commands do not ask DNS")

    async def services(self, name: str) -> Any:
        """Never."""
        raise TemporaryError("commands do not ask DNS")

    async def tlsa(self, name: str) -> Any:
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
def as_caller() -> Iterator[None]:
    """Inside `opened`: with the rights of who runs the command, for files that are not the server's."""
    user, group = os.geteuid(), os.getegid()
    if user == os.getuid():
        yield
        return
    os.seteuid(os.getuid())
    os.setegid(os.getgid())
    try:
        yield
    finally:
        os.setegid(group)
        os.seteuid(user)


Opening = Literal["read", "write", "create"]


@contextmanager
def opened(config: Config, how: Opening = "write") -> Iterator[Offline]:
    """The database of a configuration. "read" changes nothing on the disk; only "create" makes a database, in a folder
    that never had one. Raises ConfigurationError."""
    require_ours(config)
    if how == "create":
        try:
            config.data.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigurationError(f"data folder {config.data}: cannot be made: {error.strerror}") from None
    opening.require(config.data, create=how == "create")
    with _as_owner(config.data):
        database = Database(
            environment(config),
            config.of(StoreLimits),
            owner=False,
            create=how == "create",
            read_only=how == "read",
        )
        wait(database.start())
        try:
            yield Offline(database, database.accounts, database.queue)
        finally:
            wait(database.stop())


def try_write(config: Config) -> str:
    """See `opening.try_write`; by the owner of the data folder, who is taken for the server's user."""
    require_ours(config)
    path = config.data / schema.FILE
    with _as_owner(config.data):
        opening.require_own_rights(config.data)
        try:
            # Whoever closes last folds the log back; a connection that only reads leaves it as it is.
            first = schema.connect_reader(path, 1, read_only=True)
            opening.require_tables(first, path)
            schema.require_known(first, path)
            second = schema.connect(path, busy_seconds=1)
            try:
                return opening.try_write(second, config.data)
            finally:
                second.close()
                first.close()
        except sqlite3.Error as error:
            raise opening.refusal(path, error) from error


@contextmanager
def owning(data: Path) -> Iterator[None]:
    """Be the folder's only server, as the owner of its files. Raises ConfigurationError when it is being served."""
    folder = DataFolder(data)
    with _as_owner(data):
        served = folder.was_served()
        folder.lock()
        try:
            yield
        finally:
            if not served:
                folder.forget()
            folder.unlock()


def repaired(data: Path, *, deep: bool, progress: Progress) -> Iterator[str]:
    """See `repair.repair`; the folder is ours. Raises ConfigurationError."""
    blobs = Blobs(data / BLOBS, InlineThreads(), SystemRandom(), inline_limit=0, durable=True)
    try:
        yield from repair(data, blobs, int(time.time()), deep=deep, progress=progress)
    except (sqlite3.Error, OSError) as error:
        raise ConfigurationError(f"{data}: cannot be repaired: {error}") from error
