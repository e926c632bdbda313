"""Ways of mail by recipient, sender, account and number of the attempt: `[transport.x]`."""

from __future__ import annotations

from collections.abc import Sequence

import attrs
from zope.interface import implementer

from mailhub.delivery.routing import NO_PATTERNS
from mailhub.errors import MailError, NotPermitted
from mailhub.interfaces import (
    STORE,
    ILocalNames,
    IRouter,
    ITransactionView,
    ITransports,
    QueuedMessage,
    QueuedRecipient,
    Route,
)
from mailhub.message.address import Address
from mailhub.message.patterns import AddressPatterns


@attrs.frozen
class Transport:
    """A `[transport.x]`: whose mail it is for, and where that goes: to the agent of its name. A list that is None
    leaves nobody out. `refusal`: what a recipient is refused with, of one that takes nothing."""

    name: str
    target: str = ""
    recipients: AddressPatterns | None = None
    senders: AddressPatterns | None = None
    accounts: AddressPatterns | None = None
    from_attempt: int = 1
    refusal: MailError | None = attrs.field(default=None, eq=False)


@implementer(ITransports)
class Transports:
    """All of them, in order: the first that is for a recipient counts."""

    def __init__(
        self, transports: Sequence[Transport], names: ILocalNames, backup: AddressPatterns = NO_PATTERNS
    ) -> None:
        """To our own domains (`names`), and those that we are a `backup` exchanger for, mail goes by those alone that
        name the recipient or the domain."""
        self._transports = tuple(transports)
        self._names = names
        self._backup = backup

    def find(self, recipient: Address, sender: Address | None, account: str, attempt: int) -> Transport | None:
        """The one for an attempt, of which 1 is the first. `account` is the login, "" for none."""
        if not self._transports:
            return None
        local = recipient.ascii_domain in self._names.domains or self._backup.names(recipient)
        for each in self._transports:
            if (
                attempt >= each.from_attempt
                and _for_recipient(each.recipients, recipient, local=local)
                and (each.senders is None or each.senders.match(sender))
                and (each.accounts is None or _for_account(each.accounts, account))
            ):
                return each
        return None

    def first(self, recipient: Address, transaction: ITransactionView) -> Route | None:
        """See `ITransports`."""
        found = self.find(recipient, transaction.mail.reverse_path, transaction.origin.user, 1)
        if found is None:
            return None
        if found.refusal is not None:
            raise found.refusal
        return Route(found.name, recipient, found.target)

    def later(self, message: QueuedMessage, row: QueuedRecipient, attempt: int) -> Route | None:
        """See `ITransports`."""
        route = row.route
        if route.agent == STORE:
            return None
        found = self.find(route.recipient, message.mail.reverse_path, message.submitter, attempt)
        if found is None or found.from_attempt == 1 or found.name == route.agent:
            return None
        return attrs.evolve(route, agent=found.name, target=found.target)


def _for_recipient(patterns: AddressPatterns | None, recipient: Address, *, local: bool) -> bool:
    if patterns is None:
        return not local
    return patterns.names(recipient) if local else patterns.match(recipient)


def _for_account(patterns: AddressPatterns, account: str) -> bool:
    if not account:
        return False
    try:
        return patterns.match(Address.parse(account))
    except ValueError:  # a login that is no address
        return patterns.any


@implementer(IRouter)
class TransportRouter:
    """Transports that are for the first attempt."""

    def __init__(self, transports: ITransports) -> None:
        self._transports = transports

    async def route(self, recipient: Address, transaction: ITransactionView) -> Sequence[Route] | None:
        """The way of the first transport that is for this mail. Raises what it refuses with."""
        found = self._transports.first(recipient, transaction)
        return None if found is None else (found,)


NO_MAIL_THERE = NotPermitted("This server sends no mail to that domain")
