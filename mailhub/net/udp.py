"""UDP sockets for questions, one each. Twisted's own ports write four lines into the log for every one of them."""

from __future__ import annotations

import os
import socket
from typing import Any

from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IReactorFDSet, IReactorUDP, IReadDescriptor
from twisted.internet.protocol import DatagramProtocol
from twisted.python.failure import Failure
from zope.interface import implementer

from mailhub.log import Logger

log = Logger(namespace="mailhub.net")

# Datagrams taken in one turn of the reactor.
_TURN = 16


@implementer(IReadDescriptor)
class QuietPort:
    """One socket and the protocol that uses it; of a port it has what a client needs."""

    def __init__(self, reactor: IReactorFDSet, protocol: DatagramProtocol, max_octets: int, family: int) -> None:
        self._reactor = reactor
        self._protocol = protocol
        self._max_octets = max_octets
        self._socket = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)

    def listen(self, port: int, interface: str) -> None:
        """Bind and begin. Raises OSError."""
        try:
            self._socket.bind((interface, port))
        except OSError:
            self._socket.close()
            raise
        self._reactor.addReader(self)
        self._protocol.makeConnection(self)  # type: ignore[arg-type]

    def connect(self, host: str, port: int) -> None:
        """Send to and hear from this address only. Raises OSError."""
        self._socket.connect((host, port))

    def write(self, datagram: bytes) -> None:
        """Send. Raises OSError."""
        self._socket.send(datagram)

    def stopListening(self) -> None:
        """Close; doing it twice does nothing."""
        if self._socket.fileno() >= 0:
            self._reactor.removeReader(self)
            self._socket.close()
            self._protocol.doStop()  # type: ignore[no-untyped-call]

    def fileno(self) -> int:
        """The socket's descriptor; -1 once it is closed."""
        return self._socket.fileno()

    def logPrefix(self) -> str:
        """What the reactor's lines about failures begin with."""
        return "DNS question"

    def doRead(self) -> None:
        """Hand over what has come."""
        for _ in range(_TURN):
            if self._socket.fileno() < 0:
                return
            try:
                datagram, address = self._socket.recvfrom(self._max_octets)
            except (BlockingIOError, InterruptedError):
                return
            except ConnectionRefusedError:
                self._protocol.connectionRefused()  # type: ignore[no-untyped-call]
                return
            except OSError as error:
                log.warn("datagram not read: {reason:text}", reason=error.strerror or os.strerror(error.errno or 0))
                return
            self._protocol.datagramReceived(datagram, address)

    def connectionLost(self, reason: Failure) -> None:
        """The reactor gives up on the socket."""
        self.stopListening()


@implementer(IReactorUDP)
class QuietUdp:
    """`IReactorUDP.listenUDP` on a reactor's readers."""

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor

    def listenUDP(self, port: int, protocol: DatagramProtocol, interface: str = "", maxPacketSize: int = 8192) -> Any:
        """See `IReactorUDP`. Raises CannotListenError."""
        protocol.noisy = False
        try:
            made = QuietPort(
                self._reactor, protocol, maxPacketSize, socket.AF_INET6 if ":" in interface else socket.AF_INET
            )
            made.listen(port, interface)
        except OSError as error:
            raise CannotListenError(interface, port, error) from None  # type: ignore[no-untyped-call]
        return made
