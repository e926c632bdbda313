"""A port for one question: it works as Twisted's does, and says nothing."""

from __future__ import annotations

import select
import socket
from collections.abc import Iterator
from typing import Any

import pytest
from twisted.internet.error import CannotListenError
from twisted.internet.protocol import DatagramProtocol
from twisted.logger import capturedLogs

from mailhub.net.udp import QuietUdp


class Reactor:
    def __init__(self) -> None:
        self.readers: set[Any] = set()

    def addReader(self, reader: Any) -> None:
        self.readers.add(reader)

    def removeReader(self, reader: Any) -> None:
        self.readers.discard(reader)

    def turn(self) -> None:
        """Until there is something to read."""
        ready, _, _ = select.select(list(self.readers), [], [], 10)
        assert ready
        for reader in ready:
            reader.doRead()


class Question(DatagramProtocol):
    def __init__(self, server: tuple[str, int]) -> None:
        self.server = server
        self.heard: list[bytes] = []
        self.refused = False

    def startProtocol(self) -> None:
        transport: Any = self.transport
        transport.connect(*self.server)
        transport.write(b"question")

    def datagramReceived(self, datagram: bytes, addr: Any) -> None:
        self.heard.append(datagram)

    def connectionRefused(self) -> None:
        self.refused = True


@pytest.fixture
def server() -> Iterator[socket.socket]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as made:
        made.settimeout(10)
        made.bind(("127.0.0.1", 0))
        yield made


def test_a_question_and_its_answer_are_no_lines_in_the_log(server: socket.socket) -> None:
    reactor = Reactor()
    question = Question(server.getsockname())
    with capturedLogs() as logs:
        port = QuietUdp(reactor).listenUDP(0, question)
        octets, client = server.recvfrom(100)
        assert octets == b"question"
        # Somebody else's is not heard.
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
            stranger.sendto(b"stray", client)
        server.sendto(b"answer", client)
        while not question.heard:
            reactor.turn()
        port.stopListening()
        port.stopListening()
    assert question.heard == [b"answer"]
    assert (logs, reactor.readers, port.fileno()) == ([], set(), -1)


def test_a_closed_port_is_told(server: socket.socket) -> None:
    reactor = Reactor()
    address = server.getsockname()
    server.close()
    question = Question(address)
    port = QuietUdp(reactor).listenUDP(0, question)
    reactor.turn()
    assert question.refused
    port.stopListening()


def test_a_port_that_is_taken(server: socket.socket) -> None:
    with pytest.raises(CannotListenError):
        QuietUdp(Reactor()).listenUDP(server.getsockname()[1], Question(("127.0.0.1", 9)), "127.0.0.1")
