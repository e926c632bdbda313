"""Members of lists whose mail comes back: what is counted of it (see `mailhub.delivery.list_returns`).

Only what comes to an address that we have made for a member counts (`mailhub.delivery.list_paths`), by the day on which
the copy was sent: however many reports there are of one day, of however many posts, they count once. A copy of which
nothing has come back within a week came through, and what was counted before it counts no more.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from hashlib import sha256

import attrs
from twisted.internet.defer import DeferredLock

from mailhub.interfaces import IState, IStates
from mailhub.log import Logger
from mailhub.message.address import Address
from mailhub.message.bounces import Bounce
from mailhub.message.lists import MEMBERS_LIMIT

_log = Logger(namespace="mailhub.delivery.lists")

DAY = 86_400
_THROUGH_DAYS = 7  # after which a copy has come through: servers try for five days
_KEPT_DAYS = 180  # for which what has come back is remembered
_POSTED_LIMIT = 200  # days
_FAILED, _UNCLEAR = 2, 1  # halves of a day
_BATCH = 1000  # names that are forgotten by one call


@attrs.frozen
class Suspension:
    """A member who gets no copies: since a moment (seconds since the epoch), because mail came back that was sent on so
    many days, with a reason in the words of a server elsewhere. `told`: the owners know."""

    member: str
    since: int
    days: int
    reason: str = ""
    told: bool = False


@attrs.define(eq=False)
class Bounces:
    """What is remembered of members of lists (by `Address.key`) whose mail came back."""

    _state: IState
    _counting: DeferredLock = attrs.field(factory=DeferredLock, init=False)

    @classmethod
    def of(cls, states: IStates) -> Bounces:
        """Those that a database keeps."""
        return cls(states.of("list-bounces"))

    async def posted(self, name: str, day: int) -> None:
        """A list is being sent to its members on a day. Raises StoreUnavailable."""
        kept = f"posted {_digest(name)}"
        days = json.loads(await self._state.get(kept) or b"[]")
        if day not in days:
            await self._state.put({kept: json.dumps([*days, day][-_POSTED_LIMIT:]).encode()}, _KEPT_DAYS * DAY)

    async def came_back(
        self, name: str, member: Address, day: int, bounce: Bounce, limit: int, now: int
    ) -> Suspension | None:
        """What was sent to a member on a day has come back `now` (seconds since the epoch). The suspension of who is
        suspended, be it by this: `limit` days are enough, 0 for never. Repeated, it adds nothing. Raises
        StoreUnavailable."""
        await self._counting.acquire()
        try:
            pair = _pair(name, member.key)
            if (found := await self._state.get(f"suspended {pair}")) is not None:
                return _suspension(found)
            counted = json.loads(await self._state.get(f"counted {pair}") or b'{"days": {}}')
            days = {int(each): weight for each, weight in counted["days"].items()}
            days[day] = max(days.get(day, 0), _FAILED if bounce.kind == "failed" else _UNCLEAR)
            posted = json.loads(await self._state.get(f"posted {_digest(name)}") or b"[]")
            days = since_last_success(days, posted, now // DAY)
            if not 0 < limit * _FAILED <= sum(days.values()):
                newest = dict(sorted(days.items())[-_POSTED_LIMIT:])
                kept = json.dumps({"member": str(member), "days": newest}).encode()
                await self._state.put({f"counted {pair}": kept}, _KEPT_DAYS * DAY)
                return None
            suspension = Suspension(str(member), now, len(days), bounce.reason)
            await self._state.put({f"suspended {pair}": json.dumps(attrs.asdict(suspension)).encode()})
            _log.event("suspended", {"list": name, "member": member, "days": len(days), "reason": bounce.reason})
            return suspension
        finally:
            self._counting.release()

    async def told(self, name: str, suspension: Suspension) -> None:
        """The owners know of it. Raises StoreUnavailable."""
        pair = _pair(name, Address.parse(suspension.member).key)
        if await self._state.get(f"suspended {pair}") is not None:  # else the member was resumed meanwhile
            known = attrs.evolve(suspension, told=True)
            await self._state.put({f"suspended {pair}": json.dumps(attrs.asdict(known)).encode()})
        await self._state.remove([f"counted {pair}"])

    async def suspended(self, name: str) -> Mapping[str, Suspension]:
        """Who gets no copies, by `Address.key`. Raises StoreUnavailable."""
        found = await self._state.items(f"suspended {_digest(name)} ", MEMBERS_LIMIT)
        suspensions = [_suspension(each) for each in found.values()]
        return {Address.parse(each.member).key: each for each in suspensions}

    async def forget(self, name: str, members: Collection[Address]) -> None:
        """They begin anew, whatever has come back. Raises StoreUnavailable."""
        pairs = [_pair(name, each.key) for each in members]
        await self._remove([f"{what} {pair}" for what in ("suspended", "counted") for pair in pairs])

    async def forget_list(self, name: str) -> None:
        """There is no such list any more. Raises StoreUnavailable."""
        for what in ("suspended", "counted"):
            await self._remove(list(await self._state.items(f"{what} {_digest(name)} ", 2 * MEMBERS_LIMIT)))
        await self._state.remove([f"posted {_digest(name)}"])

    async def _remove(self, names: Sequence[str]) -> None:
        for start in range(0, len(names), _BATCH):
            await self._state.remove(names[start : start + _BATCH])


def since_last_success(days: Mapping[int, int], posted: Sequence[int], today: int) -> dict[int, int]:
    """The days of which something has come back, less those before the last one of which nothing has that was sent then
    (`posted`), although there was time enough."""
    through = [day for day in posted if day not in days and day <= today - _THROUGH_DAYS]
    last = max(through, default=-1)
    return {day: weight for day, weight in days.items() if day > last}


def _suspension(kept: bytes) -> Suspension:
    return Suspension(**json.loads(kept))


def _pair(name: str, member: str) -> str:
    return f"{_digest(name)} {_digest(member)}"


def _digest(key: str) -> str:
    return sha256(key.encode()).hexdigest()[:32]
