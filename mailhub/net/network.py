"""Outgoing connections of the real world: Twisted endpoints behind `INetwork`."""

from __future__ import annotations

from ipaddress import ip_address
from typing import Any

from twisted.internet.defer import CancelledError
from twisted.internet.endpoints import TCP4ClientEndpoint, TCP6ClientEndpoint, UNIXClientEndpoint
from twisted.internet.interfaces import IProtocolFactory, IStreamClientEndpoint
from zope.interface import implementer

from mailhub.errors import TemporaryError
from mailhub.interfaces import INetwork

_UNIX = "unix:"


@implementer(INetwork)
class ReactorNetwork:
    """Connections made by a reactor."""

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor

    async def connect(self, host: str, port: int, factory: IProtocolFactory, timeout: float, source: str = "") -> Any:
        """See `INetwork`."""
        try:
            return await self._endpoint(host, port, timeout, source).connect(factory)
        except CancelledError:
            raise
        except Exception as error:
            # Twisted's failures of a connection and the operating system's have no common class below Exception.
            # The path of a local socket is nothing for senders, whom this may reach.
            where = "the local mail service" if host.startswith(_UNIX) else host
            raise TemporaryError(
                f"Cannot connect to {where}: {_reason(error)}", status="4.4.1", detail=type(error).__name__
            ) from error

    def _endpoint(self, host: str, port: int, timeout: float, source: str) -> IStreamClientEndpoint:
        if host.startswith(_UNIX):
            unix: Any = UNIXClientEndpoint
            endpoint: IStreamClientEndpoint = unix(self._reactor, host.removeprefix(_UNIX), timeout)
            return endpoint
        version = ip_address(host.partition("%")[0]).version
        kind = TCP6ClientEndpoint if version == 6 else TCP4ClientEndpoint
        return kind(self._reactor, host, port, timeout, (source, 0) if source else None)


def _reason(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
