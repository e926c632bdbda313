"""Listening ports from Twisted's endpoint strings."""

from __future__ import annotations

import socket
from collections.abc import Iterable
from typing import Any

from twisted.internet.endpoints import serverFromString
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import (
    IListeningPort,
    IOpenSSLServerConnectionCreator,
    IProtocolFactory,
    IReactorTime,
)
from twisted.protocols.tls import TLSMemoryBIOFactory, TLSMemoryBIOProtocol
from twisted.python.failure import Failure

from mailhub.errors import ConfigurationError
from mailhub.net.gate import Door, ProxyGate

# Connections that wait to be accepted. Twisted's 50 turn peers away for seconds when many come at once.
_BACKLOG = 511

_TLS_ENDPOINTS = ("ssl", "tls")
_TCP_ENDPOINTS = ("tcp", "tcp4", "tcp6")


class ImplicitTls(TLSMemoryBIOFactory):
    """TLS from the first octet (RFC 8314 3). Without Twisted's aggregation of small writes: the driver's are few."""

    protocol = TLSMemoryBIOProtocol

    def __init__(self, tls: IOpenSSLServerConnectionCreator, factory: IProtocolFactory, clock: IReactorTime) -> None:
        super().__init__(tls, False, factory, clock)


async def listen(
    service: str,
    description: str,
    factory: IProtocolFactory,
    reactor: Any,
    tls: IOpenSSLServerConnectionCreator | None = None,
    door: Door | None = None,
) -> IListeningPort:
    """Listen on an endpoint string such as `tcp:25`, `tcp:1025:interface=127.0.0.1`, `unix:/run/x` or `systemd:...`.

    With `tls` the port speaks TLS from the first octet. `door` says from whom a PROXY header comes before that.
    Raises ConfigurationError that names service and string.
    """
    where = f'[listen] {service} = "{description}"'
    if description.partition(":")[0] in _TLS_ENDPOINTS:
        raise ConfigurationError(f"{where}: say tcp; whether TLS is spoken follows from the service")
    if tls is not None:
        factory = ImplicitTls(tls, factory, reactor)
    if door is not None:
        factory = ProxyGate(factory, door)
    try:
        ports = _Ports(reactor) if description.startswith("tcp6:") else reactor
        endpoint = serverFromString(ports, _with_backlog(description))  # type: ignore[no-untyped-call]
        port: IListeningPort = await endpoint.listen(factory)
    except CannotListenError as error:
        raise ConfigurationError(f"{where}: {_reason(error.socketError)}") from None
    except OSError as error:
        raise ConfigurationError(f"{where}: {_reason(error)}") from None
    except (ValueError, TypeError, LookupError) as error:
        raise ConfigurationError(f"{where} is not an endpoint: {error}") from None
    return port


def both_families(endpoints: Iterable[str]) -> list[str]:
    """The endpoints, with one for IPv6 beside each that stands for all addresses of this machine, if it has IPv6:
    "tcp:25" becomes "tcp:25" and "tcp6:25"."""
    found: dict[str, None] = {}
    for endpoint in endpoints:
        found[endpoint] = None
        if endpoint.startswith("tcp:") and "interface=" not in endpoint and has_ipv6():
            found["tcp6" + endpoint.removeprefix("tcp")] = None
    return list(found)


def has_ipv6() -> bool:
    """Whether this machine knows IPv6 at all."""
    return obstacle("tcp6:0") == ""


class _Ports:
    """The reactor as an IPv6 endpoint sees it: its ports are for IPv6 alone, whatever the machine's default is, so that
    they can stand beside those of IPv4."""

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor

    def listenTCP(self, port: int, factory: IProtocolFactory, backlog: int, interface: str) -> IListeningPort:
        """See `IReactorTCP`."""
        with _bound(socket.AF_INET6, interface, port) as listener:
            listener.listen(backlog)
            listener.setblocking(False)
            # The reactor has a descriptor of its own for it.
            adopted: IListeningPort = self._reactor.adoptStreamPort(listener.fileno(), socket.AF_INET6, factory)
            return adopted


class _Trial:
    """A reactor whose ports are closed as soon as they are open."""

    def listenTCP(self, port: int, factory: IProtocolFactory, backlog: int, interface: str) -> None:
        """Raises OSError where the port cannot be had."""
        _bound(socket.AF_INET6 if ":" in interface else socket.AF_INET, interface, port).close()


def _bound(family: int, interface: str, port: int) -> socket.socket:
    """Raises OSError."""
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listener.bind((interface, port))
    except BaseException:
        listener.close()
        raise
    return listener


def obstacle(description: str) -> str | None:
    """What keeps an endpoint's port from being opened now, "" where nothing does; None where it was not tried: only TCP
    is. The string has been checked (`mailhub.config.rules.endpoint`)."""
    if description.partition(":")[0] not in _TCP_ENDPOINTS:
        return None
    failures: list[Failure] = []
    endpoint = serverFromString(_Trial(), description)  # type: ignore[no-untyped-call]
    endpoint.listen(None).addErrback(failures.append)
    return _reason(failures[0].value) if failures else ""


def _reason(error: BaseException | None) -> str:
    return getattr(error, "strerror", "") or str(error)


def _with_backlog(description: str) -> str:
    if description.startswith(("tcp:", "tcp6:", "unix:")) and ":backlog=" not in description:
        return f"{description}:backlog={_BACKLOG}"
    return description
