"""Which hosts take mail for a domain, in which order (RFC 5321 5.1, RFC 7505)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from ipaddress import ip_address
from itertools import zip_longest
from random import Random

from mailhub.errors import PermanentError
from mailhub.interfaces import IResolver, MailExchanger

SMTP_PORT = 25


async def exchangers(domain: str, hostname: str, resolver: IResolver, random: Random) -> list[MailExchanger]:
    """Hosts to try for a domain (A-labels) or an address literal, at least one; those of equal preference shuffled.

    A domain without MX is its own exchanger: what DNSSEC says of its address says the same of that absence.

    Raises PermanentError: the domain does not exist (5.1.2), takes no mail (5.1.10), or we are its best exchanger
    without knowing the domain (5.4.6). Raises TemporaryError.
    """
    if domain.startswith("["):
        return [MailExchanger(0, domain[1:-1].removeprefix("IPv6:"))]
    found = await resolver.mail_exchangers(domain)
    if not found:
        found = [MailExchanger(0, domain, secure=True)]  # the implicit MX
    if any(each.host == "" for each in found):
        raise PermanentError("Domain takes no mail", status="5.1.10")
    # An address is no host name (RFC 5321 5.1, RFC 1035 3.3.9), and what stands there for one is a mistake: but where
    # there is nothing else, it is clear what is meant.
    found = [each for each in found if not is_address(each.host)] or found
    below = _below_ourselves(found, hostname)
    if not below:
        raise PermanentError("We are the best mail exchanger of this domain but do not serve it", status="5.4.6")
    ordered = sorted(below, key=lambda each: (each.preference, random.random()))
    first: dict[str, MailExchanger] = {}
    for each in ordered:
        first.setdefault(each.host, each)
    return list(first.values())


def _below_ourselves(found: Sequence[MailExchanger], hostname: str) -> list[MailExchanger]:
    """Only what is better than we are, lest two exchangers send mail back and forth (RFC 5321 5.1)."""
    own = [each.preference for each in found if each.host.lower() == hostname.lower()]
    return [each for each in found if not own or each.preference < min(own)]


# The same few hosts come again with every message.
_KNOWN = 1024


@lru_cache(_KNOWN)
def family(address: str) -> int:
    """4 or 6; 0 for what is no IP address."""
    try:
        return ip_address(address.partition("%")[0]).version
    except ValueError:
        return 0


def interleaved(addresses: Sequence[str]) -> list[str]:
    """The same in turn of each family, in the order that each has, so that one that leads nowhere does not cost all the
    tries."""
    if len(addresses) == 1:
        return list(addresses)
    kinds: dict[int, list[str]] = {}
    for each in addresses:
        kinds.setdefault(family(each), []).append(each)
    return [each for turn in zip_longest(*kinds.values()) for each in turn if each is not None]


def is_address(host: str) -> bool:
    """Whether a host is named by its IP address."""
    return family(host) != 0


@lru_cache(_KNOWN)
def parse_target(target: str, default_port: int) -> tuple[str, int]:
    """`host`, `host:port`, `[IPv6 address]:port` or `unix:/path` -> host and port. Raises ValueError."""
    if target.startswith("unix:"):
        return target, 0
    if is_address(target):
        return target, default_port
    host, colon, port = target.rpartition(":")
    if target.endswith("]") or not colon:
        host, port = target, str(default_port)
    host = host.removeprefix("[").removesuffix("]")
    if not host or not port.isascii() or not port.isdigit() or not 0 < int(port) < 65536:
        raise ValueError(f"{target!r} is not host[:port]")
    return host, int(port)
