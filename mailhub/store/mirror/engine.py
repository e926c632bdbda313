"""What the facets of a mirror share: source, ledger, the folders in memory, and who watches them."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, cast
from weakref import WeakValueDictionary

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from mailhub.errors import MailError, NoSuchMailbox, OverQuota
from mailhub.interfaces import Environment
from mailhub.message.digest import columns
from mailhub.message.record import Change, Digest, DigestName
from mailhub.store.changes import Watchers
from mailhub.store.index import DigestCache
from mailhub.store.limits import StoreLimits
from mailhub.store.mirror import rows
from mailhub.store.mirror.folder import SCANNED, MirrorFolder, Scanned, scan_all
from mailhub.store.mirror.held import Kept
from mailhub.store.mirror.ledger import FOLDER, Ledger
from mailhub.store.mirror.rows import FolderRow
from mailhub.store.mirror.source import ISource

_COLUMNS: tuple[DigestName, ...] = ("size", "header_size", "envelope", "bodystructure", "fields", "sent")


class MirrorEngine:
    """One mirror. `name` is that of the store, and of its ledger in the data folder."""

    def __init__(self, source: ISource, environment: Environment, limits: StoreLimits, name: str) -> None:
        self.source = source
        self.environment = environment
        self.clock = environment.clock
        self.threads = environment.threads
        self.limits = limits
        self.ledger = Ledger(_file(environment, name), environment.threads, name, environment.now)
        self.watchers = Watchers(environment.clock)
        self.digests = DigestCache(limits.digest_cache_bytes)
        self.kept = Kept()
        self.undecided: dict[int, bool] = {}  # folders with deliveries of which it is not known what became of them
        self.stopped = True
        self._met: dict[str, tuple[Sequence[str], Sequence[FolderRow]]] = {}
        self._folders: WeakValueDictionary[int, MirrorFolder] = WeakValueDictionary()
        self._recent: OrderedDict[int, MirrorFolder] = OrderedDict()
        self._loading: dict[int, list[Deferred[MirrorFolder]]] = {}

    async def start(self) -> None:
        """Open ledger and source. Raises ConfigurationError."""
        await self.ledger.start()
        self.stopped = False
        await self.ledger.run(partial(rows.forget_deliveries, now=self.environment.now()))
        await self.source.start()

    async def stop(self) -> None:
        """Close them."""
        self.stopped = True
        for folder in list(self._folders.values()):
            folder.stop()
        await self.source.stop()
        await self.ledger.stop()

    def swap(self, source: ISource) -> None:
        """Ask another source from now on, which has the same messages by the same keys. The one before is not
        stopped."""
        self.source = source
        self._met.clear()
        for folder in list(self._folders.values()):
            folder.source_swapped()

    # --- folders -----------------------------------------------------------------------------------------------------

    async def folders(self, user: str) -> Sequence[FolderRow]:
        """A user's folders, in name order. Where the source cannot tell now, those that it had."""
        try:
            names = tuple(await self.source.folders(user))
        except MailError:
            known = await self.ledger.run(partial(rows.known_folders, user=user))
            if not known:
                raise
            return known
        met = self._met.get(user)
        if met is None or met[0] != names:
            found, gone = await self.ledger.run(partial(rows.meet, user=user, names=names, now=self.environment.now()))
            self._met[user] = met = names, found
            for number in gone:
                self.drop(number)
        return met[1]

    async def knows(self, user: str) -> bool:
        """Whether the user's folders were ever seen."""
        return user in self._met or bool(await self.ledger.run(partial(rows.known_folders, user=user)))

    def folders_changed(self, user: str) -> None:
        """Whoever asks next has the source asked, and the ledger."""
        self._met.pop(user, None)

    async def folder(self, user: str, name: str) -> MirrorFolder:
        """Raises NoSuchMailbox."""
        for row in await self.folders(user):
            if row.name == name:
                return await self._folder(user, row.number)
        raise NoSuchMailbox

    async def _folder(self, user: str, number: int) -> MirrorFolder:
        folder = self._folders.get(number)
        if folder is None:
            waiter: Deferred[MirrorFolder] = Deferred()
            if number in self._loading:
                self._loading[number].append(waiter)
            else:
                self._loading[number] = [waiter]
                Deferred.fromCoroutine(self._load(user, number))
            folder = await waiter
        self._recent[number] = folder
        self._recent.move_to_end(number)
        self._evict()
        return folder

    async def _load(self, user: str, number: int) -> None:
        outcome: MirrorFolder | Failure
        try:
            loaded = await self.ledger.run(partial(rows.load, number=number))
            if loaded is None:
                raise NoSuchMailbox
            outcome = self._folders[number] = MirrorFolder(self, user, loaded)
        except Exception:
            outcome = Failure()  # type: ignore[no-untyped-call]
        for waiter in self._loading.pop(number):
            waiter.callback(outcome)

    def _evict(self) -> None:
        """Folders that somebody has open stay known by `_folders`: there is never a second object for one."""
        weight = sum(folder.index.weight() for folder in self._recent.values())
        while weight > self.limits.index_rows and len(self._recent) > 1:
            _, oldest = self._recent.popitem(last=False)
            weight -= oldest.index.weight()

    def drop(self, number: int) -> None:
        """A folder is no more."""
        self._recent.pop(number, None)
        self.undecided.pop(number, None)
        if (folder := self._folders.pop(number, None)) is not None:
            folder.go()

    def renamed(self, names: Mapping[str, str], user: str) -> None:
        """Folders that are open have other names."""
        for folder in list(self._folders.values()):
            if folder.user == user:
                folder.name = names.get(folder.name, folder.name)
        self.folders_changed(user)

    def changed(self, user: str, name: str) -> None:
        """Something is new there. Who watches is told; who opens it later has it looked at in any case."""
        for folder in list(self._folders.values()):
            if (folder.user, folder.name) == (user, name) and not self.stopped:
                folder.look()

    # --- messages ----------------------------------------------------------------------------------------------------

    def announce(self, number: int, change: Change) -> None:
        """Tell all who watch."""
        self.digests.apply(number, change)
        self.watchers.announce(number, change)

    def keep_digests(self, number: int, digests: Mapping[int, Digest]) -> None:
        """Who is told of new messages asks for these next."""
        if digests and self.watchers.watched(number):
            self.digests.put(number, cast(Any, columns(digests, _COLUMNS)))

    async def scan(self, bodies: Sequence[bytes]) -> list[Scanned]:
        """Off the reactor thread when it takes long."""
        if sum(map(len, bodies)) + 1024 * len(bodies) <= SCANNED:
            return scan_all(bodies)
        return await self.threads.run(scan_all, bodies)

    # --- room --------------------------------------------------------------------------------------------------------

    async def check_room(self, user: str, size: int) -> None:
        """Raises OverQuota."""
        limit = await self.source.quota(user)
        if limit and (await self.used(user))[0] + size > limit:
            # Others may have removed something since the folders were last looked at.
            await self._look_at_all(user)
            if (await self.used(user))[0] + size > limit:
                raise OverQuota

    async def _look_at_all(self, user: str) -> None:
        for row in await self.folders(user):
            folder = await self._folder(user, row.number)
            with suppress(NoSuchMailbox):
                await folder.refresh()

    async def used(self, user: str) -> tuple[int, int]:
        """Octets and messages. Folders that nobody has ever opened are looked at before."""
        for row in await self.folders(user):
            folder = await self._folder(user, row.number)
            if not folder.looked:
                await folder.refresh()
        return await self.ledger.run(partial(rows.used, user=user))


def _file(environment: Environment, name: str) -> Path | None:
    """None where nothing is kept: a simulation without a data folder."""
    if environment.threads.inline and not environment.data.is_dir():
        return None
    return environment.data / FOLDER / f"{file_name(name)}.sqlite"


def file_name(name: str) -> str:
    """A store's name as a file may be called."""
    plain = "".join(
        char if char.isascii() and (char.isalnum() or char in "-_.") else f"%{ord(char):02x}" for char in name
    )
    return f"%2e{plain[1:]}" if plain.startswith(".") else plain
