"""A web server on the network in memory, with TLS that is real."""

from __future__ import annotations

from typing import Any

import attrs
from OpenSSL import SSL
from twisted.internet.interfaces import IOpenSSLServerConnectionCreator, IReactorTime
from twisted.internet.protocol import Factory, Protocol
from twisted.protocols.tls import TLSMemoryBIOFactory
from zope.interface import implementer

from mailhub.testing.wires import MemoryNetwork
from tests.net.certificate_chains import Issued, serving


def page(text: bytes, status: str = "200 OK", media_type: str = "text/plain") -> bytes:
    """A whole answer."""
    head = f"HTTP/1.1 {status}\r\nContent-Type: {media_type}\r\nContent-Length: {len(text)}\r\n\r\n"
    return head.encode() + text


@implementer(IOpenSSLServerConnectionCreator)
@attrs.frozen
class _Tls:
    issued: Issued

    def serverConnectionForTLS(self, protocol: object) -> SSL.Connection:
        return serving(self.issued)


class Website(Factory):
    """Gives `answer` to whoever asks, nothing where that is None; `asked` are the requests."""

    noisy = False

    def __init__(self, issued: Issued, answer: bytes | None = b"") -> None:
        self.answer = answer
        self.asked: list[bytes] = []
        self.issued = issued
        self.closed = 0

    def listen(self, network: MemoryNetwork, address: str, clock: IReactorTime, port: int = 443) -> None:
        network.listen(address, port, TLSMemoryBIOFactory(_Tls(self.issued), False, self, clock))

    def buildProtocol(self, addr: Any) -> Protocol:
        return _Visit(self)


class _Visit(Protocol):
    def __init__(self, site: Website) -> None:
        self._site = site

    def dataReceived(self, data: bytes) -> None:
        self._site.asked.append(data)
        transport: Any = self.transport
        if self._site.answer is not None:
            transport.write(self._site.answer)
            transport.loseConnection()

    def connectionLost(self, reason: Any = None) -> None:
        self._site.closed += 1
