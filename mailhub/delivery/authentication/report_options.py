"""What can be set about reports of DMARC: the table [dmarc]."""

from __future__ import annotations

from typing import Literal, Protocol

import attrs

from mailhub.delivery.reporting import Mailing, ReportOptions
from mailhub.keys import Key
from mailhub.message.address import Address

FailureReporting = Literal["off", "headers"]


def _addresses(_instance: object, _field: object, texts: tuple[str, ...]) -> None:
    for text in texts:
        try:
            Address.parse(text)
        except ValueError as error:
            raise ValueError(f'"{text}" is not a mail address: {error}') from None


@attrs.frozen
class DmarcOptions(ReportOptions):
    """[dmarc]: reports, both ways. `failure_reports`: whether a domain that wants to know is told of each message that
    fails. `addresses`: where reports of others are read that come by mail, beside those that our records name. What
    they say is kept for `keep_days`."""

    failure_reports: FailureReporting = "off"
    addresses: tuple[str, ...] = attrs.field(default=(), validator=_addresses)
    keep_days: int = attrs.field(default=100, validator=Key("dmarc", "keep_days", 100, 1, 3650).validate)


class DmarcSettings(Protocol):
    """The configuration, as much of it as is about reports."""

    @property
    def dmarc(self) -> DmarcOptions:
        """[dmarc]."""


class DmarcReporter(Mailing, Protocol):
    """Who reports: a hub, by what its configuration says now."""

    @property
    def hostname(self) -> str:
        """Our name."""

    @property
    def domains(self) -> frozenset[str]:
        """Local domains now, A-labels."""

    @property
    def settings(self) -> DmarcSettings:
        """The configuration."""
