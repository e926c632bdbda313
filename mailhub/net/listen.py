"""Listening ports from Twisted's endpoint strings."""

from __future__ import annotations

from typing import Any

from twisted.internet.endpoints import serverFromString
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IListeningPort, IProtocolFactory, IReactorTime
from twisted.protocols.tls import TLSMemoryBIOFactory, TLSMemoryBIOProtocol

from mailhub.errors import ConfigurationError
from mailhub.net.tls import ServerTls

# Connections that wait to be accepted. Twisted's 50 turn peers away for seconds when many come at once.
_BACKLOG = 511

_TLS_ENDPOINTS = ("ssl", "tls")


class ImplicitTls(TLSMemoryBIOFactory):
    """TLS from the first octet (RFC 8314 3). Without Twisted's aggregation of small writes: the driver's are few."""

    protocol = TLSMemoryBIOProtocol

    def __init__(self, tls: ServerTls, factory: IProtocolFactory, clock: IReactorTime) -> None:
        super().__init__(tls, False, factory, clock)


async def listen(
    service: str, description: str, factory: IProtocolFactory, reactor: Any, tls: ServerTls | None = None
) -> IListeningPort:
    """Listen on an endpoint string such as `tcp:25`, `tcp:1025:interface=127.0.0.1`, `unix:/run/x` or `systemd:...`.

    With `tls` the port speaks TLS from the first octet. Raises ConfigurationError that names service and string.
    """
    where = f'[listen] {service} = "{description}"'
    if description.partition(":")[0] in _TLS_ENDPOINTS:
        raise ConfigurationError(f"{where}: say tcp; whether TLS is spoken follows from the service")
    if tls is not None:
        factory = ImplicitTls(tls, factory, reactor)
    try:
        endpoint = serverFromString(reactor, _with_backlog(description))  # type: ignore[no-untyped-call]
        port: IListeningPort = await endpoint.listen(factory)
    except CannotListenError as error:
        reason = getattr(error.socketError, "strerror", "") or str(error.socketError)
        raise ConfigurationError(f"{where}: {reason}") from None
    except OSError as error:
        raise ConfigurationError(f"{where}: {error.strerror or error}") from None
    except (ValueError, TypeError, LookupError) as error:
        raise ConfigurationError(f"{where} is not an endpoint: {error}") from None
    return port


def _with_backlog(description: str) -> str:
    if description.startswith(("tcp:", "tcp6:", "unix:")) and ":backlog=" not in description:
        return f"{description}:backlog={_BACKLOG}"
    return description
