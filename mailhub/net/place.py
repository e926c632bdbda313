"""Where a program listens that an operator has named, such as a filter."""

from __future__ import annotations

import re
from collections.abc import Sequence
from ipaddress import ip_address

import attrs

from mailhub.interfaces import Environment

_ADDRESSES = 3  # of a host that are tried
_INET = re.compile(r"inet6?:(?:\[([0-9A-Fa-f:.]+)\]|([^\s:\[\]]+)):([0-9]{1,5})")


@attrs.frozen
class Place:
    """Where a filter listens: an IP address or the name of a host, or `unix:/path`."""

    host: str
    port: int = 0

    @classmethod
    def parse(cls, text: str) -> Place:
        """`inet:HOST:PORT` (an IPv6 address in brackets) or `unix:/path`. Raises ValueError."""
        if text.startswith("unix:/") and len(text) > len("unix:/") and "\0" not in text:
            return cls(text)
        match = _INET.fullmatch(text)
        if match is None or not 1 <= int(match[3]) <= 65535:
            raise ValueError(f'"{text}" must be inet:HOST:PORT or unix:/path')
        return cls(match[1] or match[2], int(match[3]))

    async def addresses(self, environment: Environment) -> Sequence[str]:
        """Where to connect to. Raises TemporaryError."""
        if self.host.startswith("unix:"):
            return (self.host,)
        if self.host == "localhost":
            return ("127.0.0.1", "::1")
        try:
            return (str(ip_address(self.host)),)
        except ValueError:
            return tuple((await environment.resolver.addresses(self.host))[:_ADDRESSES])
