"""TLS between two objects in memory."""

from __future__ import annotations

import contextlib
from typing import Any

from OpenSSL import SSL
from twisted.internet._newtls import startTLS
from twisted.internet.error import ConnectionDone
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from mailhub.net.tls import ClientTls
from tests.net.line_session import Peer


def move(source: SSL.Connection, target: SSL.Connection) -> int:
    """Carry octets over; returns how many."""
    moved = 0
    while True:
        try:
            octets = source.bio_read(65536)
        except SSL.WantReadError:
            return moved
        target.bio_write(octets)
        moved += len(octets)


def handshake(client: SSL.Connection, server: SSL.Connection) -> int:
    """Until both are satisfied; returns the octets the server sent. Raises SSL.Error."""
    client.set_connect_state()
    server.set_accept_state()
    sent = 0
    for _ in range(6):
        for connection in (client, server):
            with contextlib.suppress(SSL.WantReadError):
                connection.do_handshake()
            if connection is client:
                move(client, server)
            else:
                sent += move(server, client)
    # TLS 1.3 tickets come after the handshake.
    with contextlib.suppress(SSL.WantReadError):
        client.recv(1)
    return sent


class StartTlsPeer(Peer):
    """A transport that can start TLS, with Twisted's own code for it."""

    TLS = False
    _tlsClientDefault = False
    producer: Any
    streamingProducer = True

    def __init__(self, protocol: Any) -> None:
        super().__init__()
        self.protocol = protocol
        protocol.makeConnection(self)

    def startTLS(self, creator: object) -> None:
        startTLS(self, creator, True, _Below)  # type: ignore[no-untyped-call]

    def write(self, data: bytes) -> None:
        if self.TLS:
            self.protocol.write(data)
        else:
            super().write(data)

    def loseConnection(self) -> None:
        if self.TLS:
            self.protocol.loseConnection()
        else:
            super().loseConnection()  # type: ignore[no-untyped-call]

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        if self.TLS:
            self.protocol.registerProducer(producer, streaming)
        else:
            super().registerProducer(producer, streaming)  # type: ignore[no-untyped-call]

    def unregisterProducer(self) -> None:
        if self.TLS:
            self.protocol.unregisterProducer()
        else:
            super().unregisterProducer()  # type: ignore[no-untyped-call]


class _Below:
    """The transport's methods as the TLS layer itself must call them."""

    write = Peer.write
    loseConnection = Peer.loseConnection
    registerProducer = Peer.registerProducer
    unregisterProducer = Peer.unregisterProducer


class TlsClient:
    """A TLS client for a protocol that is not connected yet (implicit TLS), or for a transport that has started TLS."""

    def __init__(self, server: Any, clock: Clock | None = None) -> None:
        self._clock = clock
        self._tls = ClientTls().opportunistic("mx.example").clientConnectionForTLS(None)
        self._tls.set_connect_state()
        self.closed = False
        if isinstance(server, StartTlsPeer):
            self._peer: Peer = server
            self._protocol = server.protocol
        else:
            self._peer = Peer()
            self._protocol = server
            server.makeConnection(self._peer)

    def talk(self, data: bytes) -> bytes:
        """Send octets (after the handshake) and give back what the server says."""
        said = b""
        for _ in range(12):
            try:
                self._tls.do_handshake()
            except SSL.WantReadError:
                pass
            else:
                if data:
                    self._tls.send(data)
                    data = b""
                said += self._heard()
            self._exchange()
        return said

    def raw(self, data: bytes) -> None:
        """Send octets that are not TLS."""
        self._protocol.dataReceived(data)
        self._end()

    def _exchange(self) -> None:
        with contextlib.suppress(SSL.WantReadError):
            self._protocol.dataReceived(self._tls.bio_read(65536))
        if self._clock is not None:
            self._clock.advance(0)
        octets = self._peer.taken()
        if octets:
            self._tls.bio_write(octets)
        self._peer.drain()
        self._end()

    def _heard(self) -> bytes:
        said = b""
        while True:
            try:
                said += self._tls.recv(65536)
            except SSL.WantReadError:
                return said
            except SSL.ZeroReturnError:
                self._tls.shutdown()
                return said

    def _end(self) -> None:
        if self._peer.disconnecting and not self.closed:
            self.closed = True
            self._protocol.connectionLost(Failure(ConnectionDone()))  # type: ignore[no-untyped-call]
