"""Whether a client's address has a name that leads back to it (RFC 8601 2.7.3)."""

from __future__ import annotations

from ipaddress import ip_address
from typing import Literal

from mailhub.checks.results import Result
from mailhub.errors import PermanentError, TemporaryError
from mailhub.interfaces import IResolver

NAMES_LIMIT = 5  # of an address that are looked up

Value = Literal["pass", "fail", "temperror", "permerror"]


async def iprev(address: str, resolver: IResolver) -> Result:
    """The result for an IP address. Never raises."""
    return Result("iprev", await _value(address, resolver), (("policy.iprev", address),))


async def _value(address: str, resolver: IResolver) -> Value:
    try:
        client = ip_address(address.partition("%")[0])
        names = (await resolver.pointers(str(client)))[:NAMES_LIMIT]
        for name in names:
            if client in map(ip_address, await resolver.addresses(name)):
                return "pass"
    except TemporaryError:
        return "temperror"
    except (PermanentError, ValueError):
        return "permerror"
    return "fail" if names else "permerror"
