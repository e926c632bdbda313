"""IP networks that the operator names."""

from __future__ import annotations

from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

import attrs


@attrs.frozen
class Networks:
    """Some networks; an address is in it when it is in one of them. What is no IP address (a local socket) never is."""

    parts: tuple[IPv4Network | IPv6Network, ...] = ()

    @classmethod
    def parse(cls, *texts: str) -> Networks:
        """From texts such as `192.0.2.0/24`, `2001:db8::/32` or one address. Raises ValueError."""
        return cls(tuple(ip_network(text) for text in texts))

    def __contains__(self, peer: str) -> bool:
        if not self.parts:
            return False
        try:
            address = ip_address(peer.partition("%")[0])
        except ValueError:
            return False
        if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
            address = address.ipv4_mapped
        return any(address in part for part in self.parts)
