"""What leaves by an alias or a redirect to another server gets a reverse-path of ours (SRS), and reports come back by
it.

The message in the queue keeps its own reverse-path, so that failures that we find ourselves are told to the sender,
with all that the sender asked for. What the next hop is told is worked out for each attempt from the message alone, so
that it is the same each time: a server that has taken the message, and whose answer was lost, knows it again.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import attrs
from zope.interface import implementer

from mailhub.delivery import srs
from mailhub.delivery.routing import OwnRouter, renamed
from mailhub.delivery.schedule import Schedule
from mailhub.errors import NoSuchUser, NotPermitted
from mailhub.interfaces import Environment, IHub, ILocalNames, IRouter, ISettings, IState, ITransactionView, Route
from mailhub.keys import Key
from mailhub.log import Logger
from mailhub.message.address import Address
from mailhub.message.envelope import Mail

_log = Logger(namespace="mailhub.delivery.forwarding")

ROUTER = "srs"
KEY_OCTETS = 32
KEY_DAYS = 90  # a key makes codes for so long
_LOOK_SECONDS = 3600.0  # other processes may have made a key
_LOOK_AGAIN_SECONDS = 10.0
_PREFIX = "key "


def _domain(text: str) -> None:
    if text and str(Address.parse(f"x@{text}")) != f"x@{text}":
        raise ValueError(f'"{text}" is not a domain name in lower case')


SRS: Key[bool] = Key("forwarding", "srs", True, hint=bool)
SRS_DOMAIN: Key[str] = Key("forwarding", "srs_domain", "", hint=str, check=_domain)
SRS_DAYS = Key("forwarding", "srs_days", 21, 1, 365)
# What a message that has waited here may still wait at the next server, which is a day more than is usual there.
WAIT_THERE_DAYS = 6


def days_of(settings: ISettings) -> int:
    """For how many days return addresses count: `srs_days`, and never less than a message may be on its way to the one
    who reports that it has failed."""
    here = -(-settings.of(Schedule).longest_expiry // srs.DAY)
    return max(settings.value(SRS_DAYS), here + WAIT_THERE_DAYS)


@attrs.define(eq=False)
class SrsKeys:
    """Keys that codes are made with, kept in the database for as long as an address that was made with them counts.
    The first makes codes, and is replaced after 90 days."""

    _state: IState
    _environment: Environment
    _keys: Sequence[tuple[int, bytes]] = ()  # when each was made, in seconds since the epoch
    _read_at: float = 0.0

    async def get(self, days: int, *, again: bool = False) -> Sequence[bytes]:
        """The newest one first; addresses count for `days`. `again`: one may have been made meanwhile. Raises
        StoreUnavailable."""
        return [key for _, key in await self._read(days, again=again)]

    async def at(self, days: int, moment: int) -> bytes:
        """What codes were made with at `moment` (seconds since the epoch): the newest key of then, or the oldest there
        is. Raises StoreUnavailable."""
        keys = await self._read(days)
        return next((key for made, key in keys if made <= moment), keys[-1][1])

    async def _read(self, days: int, *, again: bool = False) -> Sequence[tuple[int, bytes]]:
        age = self._environment.clock.seconds() - self._read_at
        if self._keys and 0 <= age < (_LOOK_AGAIN_SECONDS if again else _LOOK_SECONDS):
            return self._keys
        kept = await self._state.items(_PREFIX)
        names = sorted(kept, reverse=True)
        keys = [(int(name.removeprefix(_PREFIX)), kept[name]) for name in names]
        now = self._environment.now()
        if not keys or now - keys[0][0] > KEY_DAYS * srs.DAY:
            if names:
                await self._state.put({name: kept[name] for name in names[:1]}, (days + 1) * srs.DAY)
            new = self._environment.random.randbytes(KEY_OCTETS)
            await self._state.put({f"{_PREFIX}{now:012}": new})
            keys = [(now, new), *keys]
        self._keys = tuple(keys)
        self._read_at = self._environment.clock.seconds()
        return self._keys

    @classmethod
    def of(cls, hub: IHub) -> SrsKeys:
        """Those of a hub, which are the same for all its parts."""
        return hub.shared("srs keys", lambda: cls(hub.database.state.of("srs"), hub.environment))


@attrs.frozen(kw_only=True, eq=False)
class Forwarding:
    """`agents` are those that speak SMTP to other servers, none where nothing is rewritten. `domain`: "" for one of our
    local domains."""

    agents: Collection[str]
    hostname: str
    names: ILocalNames
    keys: SrsKeys
    domain: str
    days: int

    def domain_for(self, mail: Mail, route: Route) -> str:
        """The domain of ours from which a message goes on by this route, "" where its reverse-path stays."""
        sender = mail.reverse_path
        if not route.via or sender is None or route.agent not in self.agents:
            return ""
        if sender.ascii_domain in self.names.domains or sender.ascii_domain == self.hostname:
            return ""
        return self.domain or min(self.names.domains, default="")

    async def rewritten(self, mail: Mail, route: Route, moment: int) -> Mail:
        """What MAIL is to say where a message of `moment` (seconds since the epoch) goes on by this route: the same at
        every attempt. Raises StoreUnavailable."""
        sender, domain = mail.reverse_path, self.domain_for(mail, route)
        if sender is None or not domain:
            return mail
        path = srs.forward(sender, domain, await self.keys.at(self.days, moment), moment)
        if path is None:
            _log.info("reverse-path is sent on as it is, for it is too long: from=<{sender}>", sender=sender)
            return mail
        return attrs.evolve(mail, reverse_path=path)


@implementer(IRouter)
@attrs.frozen(kw_only=True, eq=False)
class SrsRouter(OwnRouter):
    """The way back: a report for an address that we made goes to whom it was made of."""

    names: ILocalNames
    keys: SrsKeys
    environment: Environment
    days: int

    def passes(self, recipient: Address) -> bool:
        """Addresses that we have not made."""
        return recipient.ascii_domain not in self.names.domains or not srs.is_srs(recipient)

    async def route(self, recipient: Address, transaction: ITransactionView) -> Sequence[Route] | None:
        """To the sender of before. Raises NoSuchUser for an address that is not ours, or too old, and NotPermitted for
        what is no report: those have no sender (RFC 5321 4.5.5)."""
        if self.passes(recipient):
            return None
        now = self.environment.now()
        try:
            try:
                found = srs.reverse(recipient, await self.keys.get(self.days), now, self.days)
            except srs.NotOurs:
                found = srs.reverse(recipient, await self.keys.get(self.days, again=True), now, self.days)
        except srs.NotOurs:
            raise NoSuchUser("This return address is not one of ours") from None
        except srs.Expired:
            raise NoSuchUser("This return address has expired") from None
        if transaction.mail.reverse_path is not None:
            raise NotPermitted("This return address takes reports alone, from the null sender")
        return renamed(recipient, [found])
