"""The tables `[transport.x]` as the file has them, made into what the parts ask."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from mailhub.config import rules
from mailhub.config.reader import Place, read
from mailhub.config.routes import HOSTS, next_hop
from mailhub.delivery.dead_ends import LOOP, REFUSED
from mailhub.delivery.routing import REFUSE
from mailhub.delivery.transports.plain import ErrorOptions
from mailhub.delivery.transports.table import NO_MAIL_THERE, Transport, Transports
from mailhub.errors import MailError
from mailhub.interfaces import ALIAS, STORE, ILocalNames, NextHop
from mailhub.message.patterns import AddressPatterns

if TYPE_CHECKING:
    from mailhub.config.settings import ComponentTable, Config, RouteTable

ROUTER = "transports"
# Names that routes have already for what is no transport.
TAKEN = frozenset({STORE, ALIAS, LOOP, REFUSED, REFUSE, *HOSTS})


@attrs.frozen
class TransportKeys:
    """[transport.x]: whose mail it is for, and what takes it. The other keys are those of the agent."""

    recipients: tuple[str, ...] | None = attrs.field(default=None, validator=rules.patterns)
    senders: tuple[str, ...] | None = attrs.field(default=None, validator=rules.patterns)
    accounts: tuple[str, ...] | None = attrs.field(default=None, validator=rules.patterns)
    from_attempt: int = rules.bounded(1, 1, 10_000)
    agent: str = "smtp"
    host: str = ""


@attrs.frozen
class TransportTable:
    """One of them: `route` where its agent is a client of other servers, else `part` has the keys of the agent."""

    name: str
    keys: TransportKeys
    part: ComponentTable
    place: Place
    route: RouteTable | None = None

    def transport(self) -> Transport:
        """What routers ask. Raises ConfigurationError."""
        keys = self.keys
        return Transport(
            self.name,
            keys.host,
            _patterns(keys.recipients),
            _patterns(keys.senders),
            _patterns(keys.accounts),
            keys.from_attempt,
            self._refusal(),
        )

    def _refusal(self) -> MailError | None:
        if self.keys.agent == REFUSE:
            return NO_MAIL_THERE
        if self.part.type == "error":
            return read(ErrorOptions, self.part.options, self.part.place, self.part.keys_of_others).error
        return None

    def next_hop(self) -> NextHop:
        """What the agent is told. Raises ConfigurationError."""
        return NextHop(self.keys.agent, self.keys.host) if self.route is None else next_hop(self.place, self.route)


def _patterns(texts: tuple[str, ...] | None) -> AddressPatterns | None:
    return None if texts is None else AddressPatterns.parse(texts)


def transports(config: Config, names: ILocalNames) -> Transports:
    """All of them. Raises ConfigurationError."""
    backup = AddressPatterns.parse(config.backup_mx.domains)
    return Transports([each.transport() for each in config.transports], names, backup)
