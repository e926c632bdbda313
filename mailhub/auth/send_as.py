"""Addresses that an account may send as, though they are not its own: grants of the configuration and of the database.

Each is of an account, or of an alias or a list, whose members all have it then.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Awaitable, Callable, Mapping, Sequence

import attrs
from twisted.internet.interfaces import IReactorTime

from mailhub.errors import NotYetKnown, PermanentError
from mailhub.interfaces import STORE, ILocalNames, IState, IStates, Route
from mailhub.message.address import Address
from mailhub.message.patterns import AddressPatterns

FindRoutes = Callable[[Address], Awaitable[Sequence[Route]]]

PART = "send-as"  # of the database's state
GRANTS = 10_000  # of the database, that are looked at
FRESH_SECONDS = 1.0


class KeptGrants:
    """Those of the database: pairs of who has the grant (`Address.key`) and a pattern of `AddressPatterns`."""

    def __init__(self, state: IState) -> None:
        self._state = state

    async def all(self) -> Sequence[tuple[str, str]]:
        """In the order of their text. Raises StoreUnavailable."""
        found = await self._state.items(limit=GRANTS)
        pairs = [json.loads(value) for value in found.values()]
        return sorted((grantee, pattern) for grantee, pattern in pairs)

    async def add(self, grantee: str, pattern: str) -> bool:
        """Whether it is new. Raises StoreUnavailable."""
        name = _name(grantee, pattern)
        known = await self._state.get(name) is not None
        await self._state.put({name: json.dumps([grantee, pattern]).encode()})
        return not known

    async def remove(self, grantee: str, pattern: str = "") -> int:
        """One, or all of them; returns how many there were. Raises StoreUnavailable."""
        found = [each for each in await self.all() if each[0] == grantee and pattern in ("", each[1])]
        await self._state.remove([_name(*each) for each in found])
        return len(found)


def _name(grantee: str, pattern: str) -> str:
    """Two addresses may be longer than a name can be."""
    return hashlib.sha256(f"{grantee}\n{pattern}".encode()).hexdigest()


@attrs.define(eq=False)
class SendAs:
    """All grants. Those of the database count after a second; they are asked for only where an address does not belong
    to the login anyway."""

    _table: Mapping[str, AddressPatterns]
    _kept: KeptGrants
    _clock: IReactorTime
    _names: ILocalNames | None = None
    _read_at: float | None = None
    _pairs: Sequence[tuple[str, AddressPatterns]] = ()

    @classmethod
    def of(cls, table: Mapping[str, Sequence[str]], states: IStates, clock: IReactorTime, names: ILocalNames) -> SendAs:
        """Those of the table [send_as], and of a database. `names` has the lists."""
        granted = {grantee: AddressPatterns.parse(others) for grantee, others in table.items()}
        return cls(granted, KeptGrants(states.of(PART)), clock, names)

    async def allows(self, user: str, address: Address, routes: FindRoutes) -> bool:
        """Whether the account may use the address. `routes` tells who the members of an alias are. Raises
        StoreUnavailable, TemporaryError."""
        await self._refresh()
        for grantee, patterns in [*self._table.items(), *self._pairs]:
            if patterns.match(address) and (grantee == user or await self._leads_to(user, grantee, routes)):
                return True
        return False

    async def _leads_to(self, user: str, grantee: str, routes: FindRoutes) -> bool:
        if self._names is not None and grantee in self._names.lists:
            return "@" in user and await self._names.is_member(grantee, Address.parse(user))
        return await _leads_to(user, grantee, routes)

    async def _refresh(self) -> None:
        now = self._clock.seconds()
        if self._read_at is None or not 0 <= now - self._read_at < FRESH_SECONDS:
            pairs = await self._kept.all()
            self._pairs = [(grantee, AddressPatterns.parse([pattern])) for grantee, pattern in pairs]
            self._read_at = now


async def _leads_to(user: str, grantee: str, routes: FindRoutes) -> bool:
    try:
        found = await routes(Address.parse(grantee))
    except (PermanentError, NotYetKnown):
        return False
    return any(route.agent == STORE and route.target == user for route in found)
