"""The agents "discard", which takes mail and drops it, and "error", which refuses it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import attrs
from zope.interface import implementer

from mailhub.errors import MailError, PermanentError, TemporaryError
from mailhub.interfaces import Delivery, IDeliveryAgent
from mailhub.message.envelope import Outcome, outcome_of

_STATUS = re.compile(r"[45]\.[0-9]{1,3}\.[0-9]{1,3}")  # RFC 3463 2, but no success


@implementer(IDeliveryAgent)
class DiscardAgent:
    """Mail is gone, and nobody is told but the log."""

    async def deliver(self, delivery: Delivery) -> Mapping[int, Outcome]:
        """See `IDeliveryAgent`."""
        return {row.id: Outcome.delivered("discarded") for row in delivery.recipients}

    async def stop(self) -> None:
        """Nothing is kept."""


def _status(_: object, field: attrs.Attribute[Any], value: str) -> None:
    if not _STATUS.fullmatch(value):
        raise ValueError(f'"{value}" is no status such as "5.7.1" or "4.3.2" (RFC 3463)')


def _line(_: object, field: attrs.Attribute[Any], value: str) -> None:
    if not value or not value.isprintable() or len(value) > 400:
        raise ValueError("must be one line of at most 400 characters")


@attrs.frozen
class ErrorOptions:
    """The enhanced status code (RFC 3463), whose class says for good (5) or for now (4), and the text of the reply."""

    status: str = attrs.field(default="5.7.1", validator=_status)
    text: str | None = attrs.field(default=None, validator=attrs.validators.optional(_line))

    @property
    def error(self) -> MailError:
        """What the recipient is refused with."""
        if self.status.startswith("4"):
            return TemporaryError(self.text or "This server sends no mail there now", status=self.status)
        return PermanentError(self.text or "This server sends no mail there", status=self.status)


@implementer(IDeliveryAgent)
@attrs.frozen
class ErrorAgent:
    """Refuses every recipient; where it is the first way, the client is told at RCPT already."""

    options: ErrorOptions

    async def deliver(self, delivery: Delivery) -> Mapping[int, Outcome]:
        """See `IDeliveryAgent`."""
        outcome = outcome_of(self.options.error)
        return {row.id: outcome for row in delivery.recipients}

    async def stop(self) -> None:
        """Nothing is kept."""
