"""Before a service: connections from a trusted proxy begin with whose they are (`mailhub.net.proxy`).

The header comes before TLS and before our greeting. Once it is read, the service's own protocol takes its place on the
transport, which names the client's address from then on: whoever counts, refuses or notes an address gets that one. For
everybody else this is not there, and what looks like a header is what the protocol makes of it.
"""

from __future__ import annotations

from typing import Any, Protocol

import attrs
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.interfaces import (
    IAddress,
    IDelayedCall,
    ILoggingContext,
    IProtocol,
    IProtocolFactory,
    IReactorTime,
)
from twisted.python.failure import Failure
from zope.interface import implementer

from mailhub.log import Logger
from mailhub.net.connection import address_text
from mailhub.net.crowd import Room
from mailhub.net.link import DriverLimits
from mailhub.net.proxy import End, Header, ProxyError, read_header

log = Logger(namespace="mailhub.net")

# How long a proxy may take for its header, which it has before it calls.
HEADER_SECONDS = 10.0


class Door(Protocol):
    """The service behind the gate, as `mailhub.net.driver.DriverFactory` is one. `waiting` are connections whose header
    has not come; who stops the service cuts them."""

    service: str
    clock: IReactorTime
    limits: DriverLimits
    room: Room
    waiting: set[Any]


@implementer(IProtocolFactory, ILoggingContext)
@attrs.frozen(eq=False)
class ProxyGate:
    """What listens: `_inner` makes the connections of a service, with TLS from the first octet where that is so."""

    _inner: IProtocolFactory
    _door: Door

    def buildProtocol(self, addr: IAddress) -> IProtocol | None:
        """See `IProtocolFactory`."""
        if address_text(addr) not in self._door.limits.proxies:
            return self._inner.buildProtocol(addr)
        return HeaderReader(self._inner, self._door, addr)

    def doStart(self) -> None:
        """See `IProtocolFactory`."""
        self._inner.doStart()

    def doStop(self) -> None:
        """See `IProtocolFactory`."""
        self._inner.doStop()

    def logPrefix(self) -> str:
        """See `ILoggingContext`."""
        return self._door.service


@implementer(IProtocol)
@attrs.define(eq=False, repr=False)
class HeaderReader:
    """One connection whose header has not come."""

    _inner: IProtocolFactory
    _door: Door
    _address: IAddress
    _octets: bytes = b""
    _timer: IDelayedCall | None = None
    transport: Any = None

    def makeConnection(self, transport: Any) -> None:
        """See `IProtocol`."""
        self.transport = transport
        door = self._door
        if door.room.full:
            self._refuse("too many connections")
            return
        door.waiting.add(self)
        door.room.taken += 1
        self._timer = door.clock.callLater(HEADER_SECONDS, self._refuse, "none came in time")

    def connectionMade(self) -> None:
        """Part of IProtocol; makeConnection() has done it."""

    def dataReceived(self, data: bytes) -> None:
        """See `IProtocol`."""
        if self not in self._door.waiting:
            return
        self._octets += data
        try:
            header = read_header(self._octets)
        except ProxyError as error:
            self._refuse(str(error))
            return
        if header is not None:
            self._admit(header)

    def connectionLost(self, reason: Failure) -> None:
        """See `IProtocol`."""
        self._forget()

    def abort(self) -> None:
        """Cut the connection."""
        self._forget()
        self.transport.abortConnection()

    def _refuse(self, reason: str) -> None:
        peer = address_text(self._address)
        log.info(
            "PROXY header refused: service={service} peer=[{peer}] reason={reason!r}",
            service=self._door.service,
            peer=peer,
            reason=reason,
        )
        self.abort()

    def _forget(self) -> None:
        timer, self._timer = self._timer, None
        if timer is not None and timer.active():
            timer.cancel()
        if self in self._door.waiting:
            self._door.waiting.discard(self)
            self._door.room.taken -= 1

    def _admit(self, header: Header) -> None:
        """The service's own protocol takes over."""
        self._forget()
        transport, rest = self.transport, self._octets[header.size :]
        address = self._address
        if header.source is not None and header.destination is not None:
            address, called = _address(header.source), _address(header.destination)
            transport.getPeer, transport.getHost = lambda: address, lambda: called
        protocol = self._inner.buildProtocol(address)
        if protocol is None:
            transport.abortConnection()
            return
        transport.protocol = protocol
        protocol.makeConnection(transport)
        if rest:
            protocol.dataReceived(rest)


def _address(end: End) -> IAddress:
    return (IPv6Address if ":" in end.host else IPv4Address)("TCP", end.host, end.port)
