"""How much our own users may send in a day: what a stolen password is used for at once, and people never do.

Counted are messages, recipients, and recipients of other domains that the account writes to for the first time, in the
last 24 hours by whole hours. What has been counted is in memory, for one process serves, and is kept with each message,
so that a restart forgives nothing. An account without bounds is not counted.
"""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from hashlib import blake2b
from typing import Any

import attrs
from twisted.internet.defer import Deferred

from mailhub.errors import MailError, TemporaryError
from mailhub.interfaces import Environment, ILocalNames, IState, IStates
from mailhub.keys import DAY, limit
from mailhub.log import Logger
from mailhub.message.address import Address

_log = Logger(namespace="mailhub.delivery")

RULE = "sending-limits"
_PART = "sending limits"
_KNOWN_PART = "correspondents"
_HOUR = 3600
_HOURS = 24
_FRESH_SECONDS = 1.0  # for how long it is not asked again which bounds a command may have given an account
_KNOWN_SECONDS = 400 * DAY  # for how long somebody is no stranger
_ACCOUNTS = 10_000  # in memory
_CHUNK = 1000
_WHAT = ("messages", "recipients", "new recipients")


@attrs.frozen
class Bounds:
    """What an account may send in 24 hours; 0 is for any number."""

    messages: int = limit("account_messages_per_day", 0, 0, 1_000_000)
    recipients: int = limit("account_recipients_per_day", 0, 0, 10_000_000)
    new_recipients: int = limit("account_new_recipients_per_day", 0, 0, 10_000_000)

    @property
    def all(self) -> Sequence[int]:
        """In the order of `_WHAT`."""
        return (self.messages, self.recipients, self.new_recipients)


@attrs.define
class Usage:
    """What was sent, by the number of the hour since the epoch; and what is on its way."""

    hours: dict[int, list[int]] = attrs.field(factory=dict)
    pending: list[int] = attrs.field(factory=lambda: [0, 0, 0])

    @classmethod
    def parse(cls, octets: bytes | None) -> Usage:
        """Of what `octets` has made."""
        return cls({int(hour): counts for hour, counts in json.loads(octets or b"{}").items()})

    def octets(self) -> bytes:
        """What has been sent."""
        return json.dumps(self.hours, separators=(",", ":")).encode()

    def add(self, counts: Sequence[int], now: int) -> None:
        """It has been sent."""
        self._forget(now)
        hour = self.hours.setdefault(now // _HOUR, [0, 0, 0])
        hour[:] = [one + more for one, more in zip(hour, counts, strict=True)]

    def used(self, what: int, now: int) -> int:
        """With what is on its way."""
        self._forget(now)
        return sum(counts[what] for counts in self.hours.values()) + self.pending[what]

    def free_at(self, what: int, most: int, now: int) -> int:
        """When one more will be less than too many."""
        surplus = self.used(what, now) + 1 - most
        for hour in sorted(self.hours):
            surplus -= self.hours[hour][what]
            if surplus <= 0:
                return (hour + _HOURS) * _HOUR
        return (now // _HOUR + _HOURS) * _HOUR

    def _forget(self, now: int) -> None:
        """What is older; of a clock that has been set back everything counts as of now."""
        present = now // _HOUR
        for hour in [hour for hour in self.hours if not present - _HOURS < hour <= present]:
            counts = self.hours.pop(hour)
            if hour > present:
                here = self.hours.setdefault(present, [0, 0, 0])
                here[:] = [one + more for one, more in zip(here, counts, strict=True)]


@attrs.define(eq=False)
class _Account:
    usage: Usage
    own: Bounds | None  # None for the default ones
    read_at: float


@attrs.frozen(eq=False)
class SendingLimits:
    """The accounts of a hub. `defaults` are for those without bounds of their own."""

    defaults: Bounds
    states: IStates
    environment: Environment
    names: ILocalNames
    _accounts: OrderedDict[str, _Account] = attrs.field(factory=OrderedDict)

    @classmethod
    def of(cls, hub: Any) -> SendingLimits:
        """Those of an `IHub`. What is on its way outlasts a reload."""
        accounts = hub.shared("what accounts have sent", lambda: OrderedDict[str, _Account]())
        return cls(hub.settings.of(Bounds), hub.database.state, hub.environment, hub.names, accounts)

    async def begin(self, user: str, *, rehearsal: bool = False) -> Allowance | None:
        """For one more message of this account; None where it has no bounds. Raises TemporaryError."""
        account = await self._account(user)
        bounds = account.own or self.defaults
        if not any(bounds.all):
            return None
        allowance = Allowance(self, user, account.usage, bounds, rehearsal)
        allowance.take(0)
        return allowance

    async def _account(self, user: str) -> _Account:
        now, state = self.environment.monotonic(), self.states.of(_PART)
        account = self._accounts.get(user)
        if account is not None and now - account.read_at < _FRESH_SECONDS:
            return account
        own = await own_bounds(self.states, user)
        if account is None:
            read = Usage.parse(await state.get(_name("u:", user)))
            account = self._accounts.setdefault(user, _Account(read, own, now))
        account.own, account.read_at = own, now
        self._accounts.move_to_end(user)
        if len(self._accounts) > _ACCOUNTS:
            oldest = next(iter(self._accounts))
            if not any(self._accounts[oldest].usage.pending):
                del self._accounts[oldest]
        return account

    async def is_new(self, user: str, address: Address) -> bool:
        """Whether this account has not written to that address, which is none of ours. Raises TemporaryError."""
        if address.ascii_domain in self.names.domains:
            return False
        return await self.states.of(_KNOWN_PART).get(_name("", user, address.key)) is None

    async def keep(self, user: str, usage: Usage, new: Sequence[Address]) -> None:
        """What has been sent. The message is on its way already: what cannot be kept is logged."""
        try:
            await self.states.of(_PART).put({_name("u:", user): usage.octets()}, 2 * DAY)
            for start in range(0, len(new), _CHUNK):
                known = {_name("", user, address.key): b"" for address in new[start : start + _CHUNK]}
                await self.states.of(_KNOWN_PART).put(known, _KNOWN_SECONDS)
        except MailError as error:
            _log.event("sending is not counted", {"user": user, "reason": error.text})


@attrs.define(eq=False)
class Allowance:
    """What one message takes of its account's bounds, from MAIL to its end."""

    _limits: SendingLimits
    _user: str
    _usage: Usage
    _bounds: Bounds
    _rehearsal: bool
    _taken: list[int] = attrs.field(factory=lambda: [0, 0, 0])
    _new: dict[str, Address] = attrs.field(factory=dict)

    async def recipient(self, address: Address) -> None:
        """One more. Raises TemporaryError."""
        new = False
        if self._bounds.new_recipients and address.key not in self._new:
            new = await self._limits.is_new(self._user, address)
        if new:
            self._check(2)
        self.take(1)
        if new:
            self.take(2)
            self._new[address.key] = address

    def take(self, what: int) -> None:
        """One of `_WHAT`, until the end of the message. Raises TemporaryError."""
        self._check(what)
        if not self._rehearsal:
            self._taken[what] += 1
            self._usage.pending[what] += 1

    def _check(self, what: int) -> None:
        usage, most, now = self._usage, self._bounds.all[what], self._limits.environment.now()
        if not most or usage.used(what, now) < most:
            return
        until = datetime.fromtimestamp(usage.free_at(what, most, now), UTC)
        text = f"Your limit of {most} {_WHAT[what]} in 24 hours is reached until {until:%Y-%m-%d %H:%M} UTC ({RULE})"
        raise TemporaryError(text, status="4.7.1", rule=RULE)

    def end(self, *, sent: bool) -> None:
        """The message is over."""
        usage, taken = self._usage, self._taken
        usage.pending[:] = [one - less for one, less in zip(usage.pending, taken, strict=True)]
        if sent and any(taken):
            usage.add(taken, self._limits.environment.now())
            Deferred.fromCoroutine(self._limits.keep(self._user, usage, tuple(self._new.values())))
        self._taken = [0, 0, 0]


# --- What commands look at and change --------------------------------------------------------------------------------


async def own_bounds(states: IStates, user: str) -> Bounds | None:
    """Those that an account has been given, None for the default ones. Raises TemporaryError."""
    given = await states.of(_PART).get(_name("l:", user))
    return None if given is None else Bounds(**json.loads(given))


async def give_bounds(states: IStates, user: str, bounds: Bounds | None) -> None:
    """Counts within a second where the account is sending just now. None gives it the default ones again."""
    state: IState = states.of(_PART)
    name = _name("l:", user)
    if bounds is None:
        await state.remove([name])
    else:
        await state.put({name: json.dumps(attrs.asdict(bounds)).encode()})


async def sent_lately(states: IStates, user: str, now: int) -> Mapping[str, int]:
    """What an account has sent in the last 24 hours, as far as it is counted."""
    usage = Usage.parse(await states.of(_PART).get(_name("u:", user)))
    return {what: usage.used(number, now) for number, what in enumerate(_WHAT)}


async def forget(states: IStates, user: str) -> None:
    """The account is removed; another one of its name is another one."""
    await states.of(_PART).remove([_name("l:", user), _name("u:", user)])


def _name(prefix: str, *parts: str) -> str:
    """Of an entry: as long for short addresses as for long ones."""
    return prefix + blake2b("\0".join(parts).encode("utf-8", "surrogatepass"), digest_size=20).hexdigest()
