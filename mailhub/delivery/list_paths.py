"""Return addresses of lists that name a member (VERP): `team-bounces+ann=b.example=TAG@us.example`.

The tag has the day on which a copy was sent and a code that nobody else can make, as addresses of SRS have: nobody can
make up reports of a member, and who has seen such an address only those of its day.
"""

from __future__ import annotations

import hmac
from base64 import b32hexencode
from collections.abc import Sequence

import attrs
from twisted.internet.defer import DeferredLock

from mailhub.delivery import srs
from mailhub.delivery.forwarding import WAIT_THERE_DAYS
from mailhub.delivery.plan import Accepted
from mailhub.delivery.schedule import Schedule
from mailhub.delivery.targets import FinalTarget, final_target
from mailhub.errors import NoSuchUser
from mailhub.interfaces import STORE, Environment, IHub, ILocalNames, ISettings, IState, ReversePath
from mailhub.message.address import Address
from mailhub.message.lists import BOUNCES, MEMBERS_LIMIT

_KEY = "key"
_KEY_OCTETS = 32
_MARK = f"{BOUNCES}+"
_TAG = 8  # characters: the day and the code
_STAND_IN = 16  # characters, for a member whose address does not fit
_DAYS = 21  # for which an address counts at the least


@attrs.define(eq=False)
class ListKey:
    """What words and tags of lists are made with, kept in the database."""

    _state: IState
    _environment: Environment
    _made: bytes = b""
    _making: DeferredLock = attrs.field(factory=DeferredLock, init=False)

    async def get(self) -> bytes:
        """Raises StoreUnavailable."""
        if self._made:
            return self._made
        await self._making.acquire()
        try:
            found = await self._state.get(_KEY)
            if found is None:
                found = self._environment.random.randbytes(_KEY_OCTETS)
                await self._state.put({_KEY: found})
            self._made = found
            return found
        finally:
            self._making.release()

    async def word(self, what: str, characters: int) -> str:
        """The same when it is made again; nobody can make it who has not our key. Of 5 bits a character, in lower case.
        Raises StoreUnavailable."""
        return _word(await self.get(), what, characters)

    @classmethod
    def of(cls, hub: IHub) -> ListKey:
        """That of a hub, which is the same for all its parts."""
        return hub.shared("list key", lambda: cls(hub.database.state.of("lists"), hub.environment))


@attrs.frozen
class Returned:
    """What a return address says: the list, the member (None where `stand_in` has the place of its address), and the
    day on which the copy was sent, counted from the epoch."""

    name: Address
    member: Address | None
    stand_in: str
    day: int


@attrs.frozen(eq=False)
class MemberPaths:
    """Makes and reads these addresses; they count for `days`."""

    _key: ListKey
    _environment: Environment
    _days: int

    @classmethod
    def of(cls, hub: IHub) -> MemberPaths:
        """Those of a hub."""
        return cls(ListKey.of(hub), hub.environment, _days_of(hub.settings))

    async def each_its_own(self, name: Address, accepted: Sequence[Accepted]) -> list[Accepted]:
        """The members with a reverse-path of their own, but for mailboxes here, whose copies come to be with the
        commit. Who is reached by several of them has it by one. Raises StoreUnavailable."""
        key, now = await self._key.get(), self._environment.now()
        seen: set[FinalTarget] = set()
        found = []
        for each in accepted:
            own = _path(name, each.address, key, now)
            routes = []
            for route in each.routes:
                target = final_target(route)
                if target not in seen:
                    seen.add(target)
                    routes.append(
                        route if own is None or route.agent == STORE else attrs.evolve(route, reverse_path=own)
                    )
            if routes:
                found.append(attrs.evolve(each, routes=tuple(routes)))
        return found

    async def read(self, address: Address, *, late: bool = False) -> Returned:
        """`late`: one that has expired is read as well. Raises NoSuchUser for what we have not made, or too long ago,
        StoreUnavailable."""
        name = list_named_by(address)
        if name is None:
            raise NoSuchUser("This return address is not one of ours")
        named, _, tag = address.local[len(name.local) + len(_MARK) :].rpartition("=")
        day, code = tag[:2], tag[2:]
        right = srs.code(await self._key.get(), _signed(name, named, day))
        if len(tag) != _TAG or not hmac.compare_digest(right.encode(), code.upper().encode()):
            raise NoSuchUser("This return address is not one of ours")
        now = self._environment.now()
        age = srs.age(day, now)
        if age > self._days and not late:
            raise NoSuchUser("This return address has expired")
        local, is_address, domain = named.rpartition("=")
        member = Address(local, domain.lower()) if is_address else None
        return Returned(name, member, "" if is_address else named.lower(), now // srs.DAY - age)

    async def member(self, names: ILocalNames, returned: Returned) -> Address | None:
        """Who is meant, by the name that the list has for it, also by lists among its members; None for who is in it no
        more. Raises StoreUnavailable."""
        meant = returned.member
        if meant is not None and await names.is_member(returned.name.key, meant):
            return meant
        key = await self._key.get()
        pending, seen, looked_at = [returned.name.key], {returned.name.key}, 0
        while pending:
            for each in await names.members(pending.pop()):
                looked_at += 1
                if looked_at > MEMBERS_LIMIT:
                    return None
                if each.key == meant.key if meant is not None else _stand_in(key, each) == returned.stand_in:
                    return each
                if each.key in names.lists and each.key not in seen:
                    seen.add(each.key)
                    pending.append(each.key)
        return None


def list_named_by(address: Address) -> Address | None:
    """The list of such an address, be it one of ours or not; None for an address of another form."""
    at = address.local.lower().find(_MARK)
    return attrs.evolve(address, local=address.local[:at]) if at > 0 else None


def _path(name: Address, member: Address, key: bytes, now: int) -> ReversePath | None:
    """None where the name of the list leaves no room for it in what every server takes."""
    day = srs.day(now).lower()
    named = f"{member.local}={member.ascii_domain}"
    plain = named.isascii() and not str(Address(named, name.domain)).startswith('"')
    room = srs.LOCAL_LIMIT - len(f"{name.local}{_MARK}=".encode()) - _TAG
    if not plain or len(named) > room:
        named = _stand_in(key, member)
    if len(named) > room:
        return None
    code = srs.code(key, _signed(name, named, day)).lower()
    return ReversePath(Address(f"{name.local}{_MARK}{named}={day}{code}", name.domain), of_sender=True)


def _signed(name: Address, named: str, day: str) -> str:
    return f"verp {name.key} {named} {day}"


def _stand_in(key: bytes, member: Address) -> str:
    return _word(key, f"member {member.key}", _STAND_IN)


def _word(key: bytes, what: str, characters: int) -> str:
    return b32hexencode(hmac.digest(key, what.encode(), "sha256"))[:characters].decode().lower()


def _days_of(settings: ISettings) -> int:
    """Never less than a copy may be on its way to the one who reports that it has failed."""
    return max(_DAYS, -(-settings.of(Schedule).longest_expiry // srs.DAY) + WAIT_THERE_DAYS)
