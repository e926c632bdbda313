"""IP networks that the operator names, and addresses that strangers name."""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

import attrs

from mailhub.keys import Key


@attrs.frozen
class Networks:
    """Some networks; an address is in it when it is in one of them. What is no IP address (a local socket) never is."""

    parts: tuple[IPv4Network | IPv6Network, ...] = ()

    @classmethod
    def parse(cls, *texts: str) -> Networks:
        """From texts such as `192.0.2.0/24`, `2001:db8::/32` or one address. Raises ValueError."""
        return cls(tuple(_unmapped(ip_network(text)) for text in texts))

    @classmethod
    def of(cls, texts: Iterable[str]) -> Networks:
        """The same from a list."""
        return cls.parse(*texts)

    def __contains__(self, peer: object) -> bool:
        if not self.parts or not isinstance(peer, str):
            return False
        try:
            address = ip_address(peer.partition("%")[0])
        except ValueError:
            return False
        if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
            address = address.ipv4_mapped
        return any(address in part for part in self.parts)


def _check(texts: tuple[str, ...]) -> None:
    for text in texts:
        try:
            Networks.parse(text)
        except ValueError as error:
            raise ValueError(f'"{text}" is not a network such as "192.0.2.0/24" or "::1": {error}') from None


# Networks from which a password is taken without TLS.
CLEARTEXT_LOGIN: Key[tuple[str, ...]] = Key("trust", "cleartext_login", (), hint=tuple[str, ...], check=_check)
# Networks of whom nothing is expected that strangers have to show.
TRUSTED: Key[Iterable[str]] = Key("trust", "networks", (), hint=tuple[str, ...], check=_check)

# Networks from which a connection begins with a header of the PROXY protocol.
PROXY_PROTOCOL: Key[tuple[str, ...]] = Key("trust", "proxy_protocol", (), hint=tuple[str, ...], check=_check)

# Networks of SMTP clients that may say for whom they speak (XCLIENT, XFORWARD).
XCLIENT: Key[tuple[str, ...]] = Key("trust", "xclient", (), hint=tuple[str, ...], check=_check)


def _unmapped(network: IPv4Network | IPv6Network) -> IPv4Network | IPv6Network:
    """`::ffff:192.0.2.0/120` as `192.0.2.0/24`: the peers in it are known by their IPv4 addresses."""
    inside = network.network_address.ipv4_mapped if isinstance(network, IPv6Network) else None
    return network if inside is None or network.prefixlen < 96 else IPv4Network((inside, network.prefixlen - 96))


def may_be_sent_to(address: str) -> bool:
    """Whether a stranger's DNS may send us to an address: not to this very machine, and not to many at once."""
    found = ip_address(address.partition("%")[0])
    found = getattr(found, "ipv4_mapped", None) or found
    broadcast = found.version == 4 and found.is_reserved
    return not (found.is_loopback or found.is_unspecified or found.is_multicast or broadcast)
