"""The twin of the database: the model that the SQLite store is compared with, and a store for tests.

Nothing is shared with the SQLite code but values, names and the way to watch; what it does should be plain to see.
Every call takes effect at once and is gone with the process.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import attrs
from zope.interface import implementer

from mailhub.errors import MessageGone
from mailhub.interfaces import Environment, IBlobReader, IDatabase, INames, KeptNames, Latest
from mailhub.interfaces.accounts import NO_NAMES, NO_TARGETS
from mailhub.message.address import Address
from mailhub.store.limits import StoreLimits
from mailhub.store.memory.queue import MemoryQueue
from mailhub.store.memory.state import MemoryStates
from mailhub.store.memory.store import MemoryAccounts, MemoryEngine, MemoryStore


@implementer(INames)
class MemoryNames:
    """The table of domains and aliases."""

    def __init__(self) -> None:
        self._now = KeptNames()
        self._members: dict[str, dict[str, str]] = {}

    async def kept(self, newer_than: int = -1) -> KeptNames | None:
        """All, or None when nothing has changed since that version."""
        return self._now if self._now.version > newer_than else None

    async def add_domain(self, domain: str) -> bool:
        """Whether it is new."""
        return self._become(domains=self._now.domains | {domain})

    async def add_domain_alias(self, domain: str, same_as: str) -> bool:
        """Whether it is new."""
        return self._become(same_as={**self._now.same_as, domain: same_as})

    async def remove_domain(self, domain: str) -> bool:
        """Whether it was there."""
        same_as = {name: other for name, other in self._now.same_as.items() if name != domain}
        return self._become(domains=self._now.domains - {domain}, same_as=same_as)

    async def add_alias(self, name: str, targets: Sequence[str]) -> Sequence[str]:
        """The targets that are new."""
        had = self._now.aliases.get(name, ())
        new = tuple(target for target in dict.fromkeys(targets) if target not in had)
        self._become(aliases={**self._now.aliases, name: had + new})
        return new

    async def add_all(
        self,
        aliases: Mapping[str, Sequence[str]],
        domains: Sequence[str] = (),
        same_as: Mapping[str, str] = NO_NAMES,
        remove: Mapping[str, Sequence[str]] = NO_TARGETS,
    ) -> int:
        """See `INames`."""
        for name, targets in remove.items():
            await self.remove_alias(name, targets)
        new = sum([await self.add_domain(domain) for domain in domains])
        new += sum([await self.add_domain_alias(domain, other) for domain, other in same_as.items()])
        return new + sum([len(await self.add_alias(name, targets)) for name, targets in aliases.items()])

    async def remove_alias(self, name: str, targets: Sequence[str] = ()) -> Sequence[str]:
        """The targets that were there."""
        had = self._now.aliases.get(name, ())
        gone = [target for target in targets or had if target in had]
        left = tuple(target for target in had if target not in gone)
        self._become(aliases={**self._now.aliases, name: left})
        return gone

    async def put_list(self, address: str, settings: str) -> bool:
        """Whether it is new."""
        return self._become(lists={**self._now.lists, address: settings})

    async def remove_list(self, address: str) -> bool:
        """Whether it was there."""
        self._members.pop(address, None)
        return self._become(lists={name: text for name, text in self._now.lists.items() if name != address})

    async def list_members(self, address: str) -> Sequence[str]:
        """See `INames`."""
        return [member for _, member in sorted(self._members.get(address, {}).items())]

    async def has_member(self, address: str, member: str) -> bool:
        """See `INames`."""
        return member in self._members.get(address, {})

    async def join_list(self, address: str, members: Sequence[str]) -> Sequence[str]:
        """Those that are new."""
        had = self._members.setdefault(address, {})
        new = {key: member for member in members if (key := Address.parse(member).key) not in had}
        had.update(new)
        return list(new.values())

    async def leave_list(self, address: str, members: Sequence[str]) -> Sequence[str]:
        """Those that were there."""
        had = self._members.get(address, {})
        return [member for member in members if had.pop(Address.parse(member).key, None) is not None]

    def _become(self, **changes: Any) -> bool:
        new = attrs.evolve(self._now, **changes)
        new = attrs.evolve(new, aliases={name: targets for name, targets in new.aliases.items() if targets})
        if new == self._now:
            return False
        self._now = attrs.evolve(new, version=self._now.version + 1)
        return True


@implementer(IDatabase)
class MemoryDatabase:
    """A database that is gone with the process: for tests and simulations."""

    def __init__(self, environment: Environment, settings: StoreLimits | None = None) -> None:
        engine = MemoryEngine(environment, settings or StoreLimits())
        self.store = MemoryStore(engine)
        self.accounts = MemoryAccounts(engine)
        self.names = MemoryNames()
        self.queue = MemoryQueue(engine, self.store)
        self.state = MemoryStates(environment.now)

    async def start(self) -> None:
        """Always open."""

    async def latest(self, seconds: int, limit: int) -> Sequence[Latest]:
        """Nothing outlives the process."""
        return ()

    async def open_latest(self, number: int) -> IBlobReader:
        """There is none."""
        raise MessageGone

    async def stop(self) -> None:
        """Nothing to close."""
