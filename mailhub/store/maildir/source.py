"""Maildirs as the source of a mirror."""

from __future__ import annotations

import errno
import os
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar
from zlib import crc32

from zope.interface import implementer

from mailhub.errors import StorageFull, StoreUnavailable
from mailhub.interfaces import Account, Environment, IBlobReader, IBody, IBodyWriter
from mailhub.log import Logger
from mailhub.message.flags import Flags
from mailhub.message.record import ALL_RIGHTS, Rights
from mailhub.store.maildir.line_ends import BLOCK, Counted
from mailhub.store.maildir.maildir import Maildir
from mailhub.store.maildir.manner import Manner
from mailhub.store.maildir.places import Places
from mailhub.store.maildir.reading import reader
from mailhub.store.mirror.body import MirrorBodyWriter
from mailhub.store.mirror.own_thread import OwnThread
from mailhub.store.mirror.source import ISource, Key, Listed, Read
from mailhub.store.space import is_full

log = Logger(namespace="mailhub.store")

T = TypeVar("T")

LANES = 8  # threads; the calls of one user are made by one of them, in their order
FRESH_SECONDS = 1.0  # for which what an account table says is good
MAILDIRS = 1000  # users whose Maildirs are kept in mind, and
MESSAGES = 500_000  # of them together
_SAID = 1000  # different lines of the log


@implementer(ISource)
class MaildirSource:
    """`find` asks the account table: who is in it has a Maildir, which is made when it is missing, and so has everybody
    whose Maildir is there."""

    rights: Rights = ALL_RIGHTS
    keeps_flags = True
    makes_folders = True
    keeps_subscriptions = True

    def __init__(
        self,
        name: str,
        places: Places,
        manner: Callable[[Callable[[str, str], object]], Manner],
        environment: Environment,
        find: Callable[[str], Awaitable[Account | None]],
        *,
        poll_seconds: float,
        folder_limit: int,
    ) -> None:
        self.name = name
        self.poll_seconds = poll_seconds
        self._places = places
        self._manner = manner(self._say)
        self._environment = environment
        self._find = find
        self._folder_limit = folder_limit
        self._lanes = [OwnThread(environment.threads, f"maildir {name} {number}") for number in range(LANES)]
        self._maildirs: OrderedDict[str, Maildir] = OrderedDict()
        self._accounts: dict[str, tuple[float, Account]] = {}
        self._said: set[tuple[str, str]] = set()

    async def start(self) -> None:
        """Nothing is opened."""

    async def stop(self) -> None:
        """Finish what is under way."""
        for lane in self._lanes:
            lane.close()

    def fault(self, method: str, why: str) -> None:
        """What the mirror has found out."""
        self._tell(method, why)

    def _say(self, path: str, why: str) -> None:
        """From a lane."""
        self._environment.threads.call_in_reactor(self._tell, path, why)

    def _tell(self, what: str, why: str) -> None:
        if (what, why) not in self._said:
            if len(self._said) >= _SAID:
                self._said.clear()
            self._said.add((what, why))
            log.warn(
                "maildir: store={store} path={path:text} reason={reason:text}", store=self.name, path=what, reason=why
            )

    # --- calling -----------------------------------------------------------------------------------------------------

    def _maildir(self, user: str) -> Maildir:
        found = self._maildirs.get(user)
        if found is None:
            found = self._maildirs[user] = Maildir(self._places.of(user), self._manner, self._folder_limit)
            if len(self._maildirs) > MAILDIRS or sum(each.weight() for each in self._maildirs.values()) > MESSAGES:
                self._maildirs.popitem(last=False)
        self._maildirs.move_to_end(user)
        return found

    async def _call(self, user: str, function: Callable[..., T], *arguments: object) -> T:
        """In the user's lane. Raises MailError."""
        try:
            return await self._lanes[crc32(user.encode()) % LANES].run(function, *arguments)
        except OSError as error:
            why = f"{error.strerror or error} (user {user})"
            self._tell(str(error.filename or self._places.of(user)), why)
            kind = StorageFull if is_full(error) else StoreUnavailable
            raise kind(detail=f"{self.name}: {error}") from error

    async def _account(self, user: str) -> Account | None:
        """One that is there stays known for a moment; a new one is known at once."""
        now = self._environment.monotonic()
        at, account = self._accounts.get(user, (0.0, None))
        if account is None or not 0 <= now - at < FRESH_SECONDS:
            self._accounts.pop(user, None)
            account = await self._find(user)
            if len(self._accounts) >= MAILDIRS:
                self._accounts.clear()
            if account is not None:
                self._accounts[user] = now, account
        return account

    # --- who and what there is ---------------------------------------------------------------------------------------

    async def exists(self, user: str) -> bool:
        """Whoever has an account, or a Maildir. Raises StoreUnavailable where none can be seen now."""
        if await self._account(user) is not None:
            return True

        def look() -> bool:
            try:
                os.stat(self._places.of(user) / "cur")
            except OSError as error:
                if error.errno not in (errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG):
                    raise
                os.stat(self._places.fixed)
                return False
            return True

        return await self._call(user, look)

    async def make_user(self, user: str) -> None:
        """With the usual folders, unless the Maildir is there."""
        await self._call(user, self._maildir(user).make, self._places.fixed)

    async def folders(self, user: str) -> Sequence[str]:
        """Those whose names can be shown."""
        return await self._call(user, self._maildir(user).folders)

    async def messages(self, user: str, folder: str) -> Sequence[Listed]:
        """The very object of before where no file has come, gone or been renamed."""
        maildir = self._maildir(user)
        return await self._call(user, lambda: maildir.folder(folder).listing())

    async def quota(self, user: str) -> int:
        """The account's, or what other programs have written into the Maildir."""
        account = await self._account(user)
        if account is not None and account.quota:
            return account.quota
        return await self._call(user, self._maildir(user).quota.limit)

    # --- reading -----------------------------------------------------------------------------------------------------

    async def read(self, user: str, folder: str, keys: Sequence[Key], octets: int) -> Read:
        """With one call into the user's lane."""
        maildir = self._maildir(user)
        return await self._call(user, lambda: maildir.folder(folder).read(keys, octets))

    async def open(self, user: str, folder: str, key: Key) -> IBlobReader:
        """Small ones in memory, of others the file, or a copy with CRLF that has no name."""
        maildir = self._maildir(user)

        def opened() -> IBlobReader:
            descriptor, size, exact = maildir.folder(folder).open(str(key))
            return reader(descriptor, size, self._environment.threads, exact=exact)

        return await self._call(user, opened)

    # --- changing ----------------------------------------------------------------------------------------------------

    def new_body(self, size: int = 0) -> IBodyWriter:
        """In memory, large ones in a file."""
        data = self._environment.data
        return MirrorBodyWriter(self._environment.threads, data if data.is_dir() else None)

    async def add(self, user: str, folder: str, body: IBody, flags: Flags, date: int) -> Key | None:
        """Written to tmp, and named in new or cur when it is on disk."""
        maildir, limit = self._maildir(user), await self._limit(user)

        def added() -> str:
            counted = Counted(_blocks(body))
            key = maildir.folder(folder).add(_blocks(body), counted, flags, date)
            self._note(maildir, counted.lf_size, 1, limit)
            return key

        return await self._call(user, added)

    async def _limit(self, user: str) -> int:
        account = await self._account(user)
        return account.quota if account is not None else 0

    def _note(self, maildir: Maildir, octets: int, messages: int, limit: int) -> None:
        """In a lane. What cannot be counted keeps no mail out."""
        try:
            maildir.quota.note(octets, messages, limit, maildir.paths)
        except OSError as error:
            self._say(str(maildir.path), f"maildirsize cannot be written: {error}")

    async def change(self, user: str, folder: str, flags: Mapping[Key, Flags]) -> Mapping[Key, Exception]:
        """By renaming."""
        maildir = self._maildir(user)
        return await self._call(user, lambda: maildir.folder(folder).change(flags))

    async def remove(self, user: str, folder: str, keys: Sequence[Key]) -> Mapping[Key, Exception]:
        """By unlinking."""
        maildir, limit = self._maildir(user), await self._limit(user)

        def removed() -> Mapping[Key, Exception]:
            errors, octets, messages = maildir.folder(folder).remove(keys)
            if messages:
                self._note(maildir, -octets, -messages, limit)
            return errors

        return await self._call(user, removed)

    async def create(self, user: str, folder: str) -> None:
        """A directory with three in it."""
        await self._call(user, self._maildir(user).create, folder)

    async def delete(self, user: str, folder: str) -> None:
        """It is out of the way at once."""
        maildir, limit = self._maildir(user), await self._limit(user)

        def deleted() -> None:
            maildir.delete(folder)
            try:
                maildir.quota.count(limit, maildir.paths)
            except OSError as error:
                self._say(str(maildir.path), f"maildirsize cannot be written: {error}")

        await self._call(user, deleted)

    async def rename(self, user: str, names: Mapping[str, str]) -> None:
        """Directory by directory."""
        await self._call(user, self._maildir(user).rename, names)

    async def subscriptions(self, user: str) -> Sequence[str]:
        """Of the Maildir's own list."""
        return await self._call(user, self._maildir(user).subscribed)

    async def subscribe(self, user: str, name: str, subscribed: bool, limit: int) -> None:
        """On the Maildir's own list."""
        maildir = self._maildir(user)
        await self._call(user, lambda: maildir.subscribe(name, subscribed=subscribed, limit=limit))


def _blocks(body: Any) -> Iterator[bytes]:
    """A body's octets, of a large one some at a time."""
    if not hasattr(body, "slice"):
        yield body.octets()
        return
    for start in range(0, body.size, BLOCK):
        yield body.slice(start, BLOCK)
