"""The domains and aliases that are ours: those of the configuration, and those kept in the database.

They are asked in memory. What the database has changes under the hands of a running server (`mailhub alias`, `mailhub
domain`): it is read again when the last reading is older than a tenth of a second, and before anything is refused.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import attrs
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from zope.interface import implementer

from mailhub.errors import MailError
from mailhub.interfaces import ILocalNames, INames, KeptNames
from mailhub.log import Logger
from mailhub.message.address import Address, without_detail
from mailhub.message.aliases import AliasTable, is_pattern
from mailhub.message.lists import MailingList, list_of

_log = Logger(namespace="mailhub.delivery.names")

FRESH_SECONDS = 0.1
_AT_ONCE = 500  # members that are read before others have their turn


@attrs.frozen
class NamesInFile:
    """What the configuration says of names. `lists` are by `Address.key`.

    `elsewhere` are the domains whose users others than mailhub know, None for
    all. `same_as`: domains whose every name is one of another domain. What separates a detail from a user is any of
    `detail_separator`'s characters."""

    domains: frozenset[str] = frozenset()
    aliases: AliasTable = attrs.field(factory=AliasTable)
    elsewhere: Collection[str] | None = ()
    same_as: Mapping[str, str] = attrs.field(factory=dict)
    detail_separator: str = "+"
    lists: Mapping[str, MailingList] = attrs.field(factory=dict)


@implementer(ILocalNames)
class LocalNames:
    """`domains` (A-labels) and `aliases` as they are now. Ask these attributes each time, keep no copy.

    `generation` counts how often they have changed.
    """

    domains: frozenset[str]
    aliases: AliasTable
    same_as: Mapping[str, str]
    lists: Mapping[str, MailingList]

    def __init__(self, file: NamesInFile, table: INames | None = None, clock: IReactorTime | None = None) -> None:
        """`file` is the configuration's. Without `table` there are no others."""
        self._file = file
        self._table = table
        self._clock = clock
        self._kept = KeptNames()
        self._read_at: float | None = None
        self.generation = 0
        self._of_file = _members_of(file)
        self._merge()

    def replace(self, file: NamesInFile) -> None:
        """The configuration has been read again."""
        self._file = file
        self._of_file = _members_of(file)
        self._merge()

    def known_elsewhere(self, domain: str) -> bool:
        """Whether others than mailhub may know more users of this domain (an A-label)."""
        return self._file.elsewhere is None or domain in self._file.elsewhere

    def without_detail(self, address: Address) -> tuple[tuple[Address, str], ...]:
        """See `ILocalNames`."""
        return without_detail(address, self._file.detail_separator)

    def same(self, address: Address) -> Address | None:
        """See `ILocalNames`."""
        domain = self.same_as.get(address.ascii_domain)
        return None if domain is None else attrs.evolve(address, domain=domain)

    async def members(self, address: str) -> Sequence[Address]:
        """See `ILocalNames`."""
        settings = self.lists.get(address)
        texts = list(settings.members) if settings else []
        if self._table is not None:
            texts += await self._table.list_members(address)
        found = []
        for start in range(0, len(texts), _AT_ONCE):
            if start and self._clock is not None:
                await deferLater(self._clock, 0)
            found += [Address.parse(text) for text in texts[start : start + _AT_ONCE]]
        return found

    async def is_member(self, address: str, member: Address) -> bool:
        """See `ILocalNames`."""
        if member.key in self._of_file.get(address, ()):
            return True
        return self._table is not None and await self._table.has_member(address, member.key)

    @property
    def is_fresh(self) -> bool:
        """Whether `refresh` has nothing to do."""
        if self._table is None or self._clock is None:
            return True
        return self._read_at is not None and 0 <= self._clock.seconds() - self._read_at < FRESH_SECONDS

    async def refresh(self) -> None:
        """Before names are asked. Reads seldom; when the database does not answer, what is known stays in use."""
        if self.is_fresh:
            return
        try:
            await self.look_again()
        except MailError as error:
            _log.warn("domains and aliases of the database cannot be read: {error:text}", error=str(error))

    async def look_again(self) -> None:
        """Read what the database has now, if it has changed. Raises StoreUnavailable."""
        if self._table is None:
            return
        if self._clock is not None:
            # Before the answer is there: who asks meanwhile goes on with what is known.
            self._read_at = self._clock.seconds()
        kept = await self._table.kept(self._kept.version)
        if kept is not None and kept.version > self._kept.version:
            self._kept = kept
            self._merge()

    def _merge(self) -> None:
        file, kept = self._file, self._kept
        own = file.domains | kept.domains
        same_as = {**kept.same_as, **file.same_as}
        self.same_as = {name: other for name, other in same_as.items() if other in own and name not in own}
        self.domains = own | frozenset(self.same_as)
        self.aliases = file.aliases.before(AliasTable.parse(_of_domains(kept.aliases, self.domains), self.domains))
        lists = {name: list_of(text) for name, text in kept.lists.items()} | dict(file.lists)
        self.lists = {name: found for name, found in lists.items() if name.rpartition("@")[2] in own}
        self.generation += 1


def _members_of(file: NamesInFile) -> Mapping[str, frozenset[str]]:
    """The keys of the members of each list of the file: looked for at every post."""
    return {
        name: frozenset([Address.parse(text).key for text in settings.members]) for name, settings in file.lists.items()
    }


def _of_domains(aliases: Mapping[str, tuple[str, ...]], domains: frozenset[str]) -> dict[str, tuple[str, ...]]:
    """Without those of domains that were ours when they were added, and are not now."""
    return {
        name: targets
        for name, targets in aliases.items()
        if is_pattern(name) or "@" not in name or name.rpartition("@")[2] in domains
    }
