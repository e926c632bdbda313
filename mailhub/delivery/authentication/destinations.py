"""Who gets reports of DMARC: the addresses that a record names, where those who receive there have said that they want
them (RFC 9990 4)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import attrs

from mailhub.checks.dmarc.record import DmarcRecord, ReportTo, is_dmarc, parse_dmarc
from mailhub.checks.dmarc.walk import walk
from mailhub.delivery.reporting import mail_address
from mailhub.errors import PermanentError
from mailhub.interfaces import IResolver
from mailhub.message.address import Address

URIS_LIMIT = 5  # of a record that reports go to
_NAME_LIMIT = 253  # characters of a name in DNS

Kind = Literal["aggregate", "failure"]


@attrs.frozen
class Destination:
    """An address, and how many octets at most it takes; None for any number."""

    address: Address
    size_limit: int | None


def wanted(record: DmarcRecord, kind: Kind) -> Sequence[ReportTo]:
    """Where the record wants them, the first few."""
    return (record.aggregate if kind == "aggregate" else record.failure)[:URIS_LIMIT]


async def destinations(domain: str, to: ReportTo, kind: Kind, resolver: IResolver) -> Sequence[Destination]:
    """Where reports on a domain with a record may really go; nowhere, unless those there agree. Raises
    TemporaryError."""
    try:
        first = Destination(mail_address(to.uri), to.size_limit)
    except ValueError:
        return []
    host = first.address.ascii_domain
    if host.startswith("["):
        return []
    if host == domain or await _organizational(host, resolver) == await _organizational(domain, resolver):
        return [first]
    name = f"{domain}._report._dmarc.{host}"
    if len(name) > _NAME_LIMIT:
        return []
    try:
        texts = await resolver.texts(name)
    except PermanentError:
        return []
    agreed = [parse_dmarc(text) for text in texts if is_dmarc(text)]
    if not agreed:
        return []
    instead = next((found for found in (wanted(each, kind) for each in agreed) if found), ())
    if not instead:
        return [first]
    return _of_host(instead, host)


def _of_host(uris: Sequence[ReportTo], host: str) -> Sequence[Destination]:
    """Those who agree may want them elsewhere, but on the same host: else nobody gets any."""
    found = []
    for each in uris:
        try:
            address = mail_address(each.uri)
        except ValueError:
            return []
        if address.ascii_domain != host:
            return []
        found.append(Destination(address, each.size_limit))
    return found


async def _organizational(domain: str, resolver: IResolver) -> str:
    """Raises TemporaryError."""
    return (await walk(domain, resolver)).organizational
