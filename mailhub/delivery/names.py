"""The domains and aliases that are ours: those of the configuration, and those kept in the database.

They are asked in memory. What the database has changes under the hands of a running server (`mailhub alias`, `mailhub
domain`): it is read again when the last reading is older than a tenth of a second, and before anything is refused.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from twisted.internet.interfaces import IReactorTime
from zope.interface import implementer

from mailhub.errors import MailError
from mailhub.interfaces import ILocalNames, INames, KeptNames
from mailhub.log import Logger
from mailhub.message.aliases import AliasTable

_log = Logger(namespace="mailhub.delivery.names")

FRESH_SECONDS = 0.1


@implementer(ILocalNames)
class LocalNames:
    """`domains` (A-labels) and `aliases` as they are now. Ask these attributes each time, keep no copy.

    `generation` counts how often they have changed.
    """

    domains: frozenset[str]
    aliases: AliasTable

    def __init__(
        self,
        domains: frozenset[str],
        aliases: AliasTable,
        table: INames | None = None,
        clock: IReactorTime | None = None,
        *,
        elsewhere: Collection[str] | None = (),
    ) -> None:
        """`domains` and `aliases` are the configuration's. Without `table` there are no others. `elsewhere` are the
        domains whose users others than mailhub know, None for all."""
        self._file = (domains, aliases)
        self._elsewhere = elsewhere
        self._table = table
        self._clock = clock
        self._kept = KeptNames()
        self._read_at: float | None = None
        self.generation = 0
        self._merge()

    def replace(self, domains: frozenset[str], aliases: AliasTable, elsewhere: Collection[str] | None = ()) -> None:
        """The configuration has been read again."""
        self._file = (domains, aliases)
        self._elsewhere = elsewhere
        self._merge()

    def known_elsewhere(self, domain: str) -> bool:
        """Whether others than mailhub may know more users of this domain (an A-label)."""
        return self._elsewhere is None or domain in self._elsewhere

    async def refresh(self) -> None:
        """Before names are asked. Reads seldom; when the database does not answer, what is known stays in use."""
        if self._table is None or self._clock is None:
            return
        if self._read_at is not None and 0 <= self._clock.seconds() - self._read_at < FRESH_SECONDS:
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
        domains, aliases = self._file
        self.domains = domains | self._kept.domains
        self.aliases = aliases.before(AliasTable.parse(_of_domains(self._kept.aliases, self.domains), self.domains))
        self.generation += 1


def _of_domains(aliases: Mapping[str, tuple[str, ...]], domains: frozenset[str]) -> dict[str, tuple[str, ...]]:
    """Without those of domains that were ours when they were added, and are not now."""
    return {name: targets for name, targets in aliases.items() if "@" not in name or name.rpartition("@")[2] in domains}
