"""The network in memory behaves like TCP as far as sessions can tell."""

from __future__ import annotations

from random import Random
from typing import Any

import attrs
import pytest
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IHalfCloseableProtocol, IHandshakeListener
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import Clock
from zope.interface import implementer

from mailhub.errors import TemporaryError
from mailhub.testing.wires import MemoryNetwork, Weather


@implementer(IHandshakeListener)
class Notes(Protocol):
    """Writes down what happens to it."""

    def __init__(self) -> None:
        self.got = b""
        self.pieces = 0
        self.events: list[str] = []

    def connectionMade(self) -> None:
        self.events.append("made")

    def dataReceived(self, data: bytes) -> None:
        self.got += data
        self.pieces += 1

    def handshakeCompleted(self) -> None:
        self.events.append("tls")

    def connectionLost(self, reason: Any = None) -> None:
        self.events.append(reason.type.__name__)


@implementer(IHalfCloseableProtocol)
class Patient(Notes):
    """Goes on writing after the far end has finished."""

    def readConnectionLost(self) -> None:
        self.events.append("eof")

    def writeConnectionLost(self) -> None:
        """Never called here."""


class Producer:
    """Counts its pauses."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    def pauseProducing(self) -> None:
        self.calls.append("pause")

    def resumeProducing(self) -> None:
        self.calls.append("resume")

    def stopProducing(self) -> None:
        self.calls.append("stop")


@attrs.define
class Link:
    """Two protocols joined on a clock."""

    clock: Clock
    network: MemoryNetwork
    near: Any
    far: Any


def joined(weather: Weather | None = None, *, far: type[Notes] = Notes, tls: bool = False, seed: int = 1) -> Link:
    clock = Clock()
    network = MemoryNetwork(clock, Random(seed), weather)
    made: list[Any] = []

    class Keep(Factory):
        noisy = False

        def __init__(self, kind: type[Notes]) -> None:
            self.kind = kind

        def buildProtocol(self, addr: Any) -> Any:
            made.append(self.kind())
            return made[-1]

    network.listen("10.0.0.1", 25, Keep(far), implicit_tls=tls)
    results: list[Any] = []
    dialled = Deferred.fromCoroutine(network.at("10.0.0.2").connect("10.0.0.1", 25, Keep(Notes), 5.0))
    dialled.addBoth(results.append)
    clock.pump([0.01] * 600)
    if not made:
        results[0].raiseException()
    return Link(clock, network, made[0], made[1])


def settle(link: Link) -> None:
    link.clock.pump([0.01] * 20)


@pytest.fixture
def link() -> Link:
    return joined()


def test_octets_arrive_in_order_after_the_latency(link: Link) -> None:
    link.near.transport.write(b"one ")
    link.near.transport.writeSequence([b"two ", b"three"])
    assert link.far.got == b""
    settle(link)
    assert link.far.got == b"one two three"
    assert link.far.transport.getPeer().host == "10.0.0.2"
    assert link.near.transport.getPeer().port == link.far.transport.getHost().port == 25


def test_closing_lets_what_was_written_arrive_first(link: Link) -> None:
    link.near.transport.write(b"last words")
    link.near.transport.loseConnection()
    link.near.transport.write(b"too late")
    settle(link)
    assert link.far.got == b"last words"
    assert link.near.events == link.far.events == ["made", "ConnectionDone"]


def test_a_far_end_that_can_go_on_writing_is_told_of_the_end_first() -> None:
    link = joined(far=Patient)
    link.near.transport.loseWriteConnection()
    settle(link)
    assert link.far.events == ["made", "eof"]
    link.far.transport.write(b"the answer")
    link.far.transport.loseConnection()
    settle(link)
    assert link.near.got == b"the answer"
    assert link.near.events[-1] == link.far.events[-1] == "ConnectionDone"


def test_an_abort_is_noticed_at_both_ends(link: Link) -> None:
    link.near.transport.write(b"x")
    link.near.transport.abortConnection()
    settle(link)
    assert (link.near.events[-1], link.far.events[-1]) == ("ConnectionAborted", "ConnectionLost")


def test_writing_to_nobody_ends_in_a_lost_connection() -> None:
    link = joined(far=Patient)
    link.near.transport.loseConnection()
    settle(link)
    assert link.far.events == ["made", "eof"]
    link.far.transport.write(b"hello?")
    settle(link)
    assert link.far.events[-1] == "ConnectionLost"


def test_a_reader_that_pauses_holds_the_writer_back(link: Link) -> None:
    producer = Producer()
    link.near.transport.registerProducer(producer, True)
    link.far.transport.pauseProducing()
    link.near.transport.write(b"x" * 70_000)
    settle(link)
    assert producer.calls == ["pause"]
    assert link.far.got == b""
    link.near.transport.loseConnection()
    link.far.transport.resumeProducing()
    settle(link)
    assert producer.calls == ["pause", "resume"]
    assert len(link.far.got) == 70_000
    assert link.far.events == ["made"], "a registered producer keeps the connection open"
    link.near.transport.unregisterProducer()
    settle(link)
    assert link.far.events[-1] == "ConnectionDone"


def test_a_lost_connection_stops_its_producer(link: Link) -> None:
    producer = Producer()
    link.far.transport.registerProducer(producer, True)
    link.near.transport.abortConnection()
    settle(link)
    assert producer.calls == ["stop"]
    link.far.transport.registerProducer(producer, True)
    assert producer.calls == ["stop", "stop"]


@pytest.mark.parametrize("first", ["near", "far"])
def test_a_handshake_needs_both_and_then_octets_flow(link: Link, first: str) -> None:
    ends = [link.near, link.far] if first == "near" else [link.far, link.near]
    ends[0].transport.startTLS(None)
    settle(link)
    assert "tls" not in ends[0].events
    ends[1].transport.startTLS(None)
    ends[1].transport.write(b"secret")
    settle(link)
    assert ends[0].events[-1] == ends[1].events[-1] == "tls"
    assert ends[0].got == b"secret"


def test_octets_written_during_a_handshake_wait_for_its_end_and_so_does_the_end_of_the_connection(link: Link) -> None:
    link.far.transport.startTLS(None)
    link.far.transport.write(b"hello")
    link.far.transport.loseConnection()
    settle(link)
    assert link.near.got == b""
    link.near.transport.startTLS(None)
    settle(link)
    assert link.near.got == b"hello"
    assert link.near.events[-1] == "ConnectionDone"


def test_tls_from_the_first_octet() -> None:
    link = joined(tls=True)
    link.near.transport.startTLS(None)
    settle(link)
    assert link.near.events[-1] == link.far.events[-1] == "tls"


def test_plain_octets_where_tls_was_agreed_end_the_connection(link: Link) -> None:
    link.far.transport.startTLS(None)
    link.near.transport.write(b"MAIL FROM:<>")
    settle(link)
    assert link.far.got == b""
    assert link.near.events[-1] == link.far.events[-1] == "ConnectionLost"


def test_a_broken_handshake() -> None:
    link = joined(Weather(tls_broken=1.0))
    link.near.transport.startTLS(None)
    link.far.transport.startTLS(None)
    settle(link)
    assert "tls" not in link.near.events + link.far.events
    assert link.near.events[-1] == link.far.events[-1] == "ConnectionLost"


@pytest.mark.parametrize(("weather", "reason"), [(Weather(refused=1.0), "refused"), (Weather(lost=1.0), "timed out")])
def test_bad_weather_for_new_connections(weather: Weather, reason: str) -> None:
    with pytest.raises(TemporaryError, match=reason):
        joined(weather)


def test_a_port_without_a_listener_refuses(link: Link) -> None:
    link.network.unlisten("10.0.0.1", 25)
    results: list[Any] = []
    network = link.network.at("10.0.0.2")
    Deferred.fromCoroutine(network.connect("10.0.0.1", 25, Factory(), 5.0)).addErrback(results.append)
    settle(link)
    assert results[0].check(TemporaryError)


def test_a_cut_comes_within_the_octets_the_caller_sends() -> None:
    sizes = set()
    for seed in range(10):
        link = joined(Weather(cut=1.0, cut_octets=50), seed=seed)
        link.far.transport.write(b"y" * 1000)
        for _ in range(60):
            link.near.transport.write(b"x")
        settle(link)
        assert link.near.got == b"y" * 1000
        assert 1 <= len(link.far.got) <= 50
        assert link.near.events[-1] == link.far.events[-1] == "ConnectionLost"
        sizes.add(len(link.far.got))
    assert len(sizes) > 3


def test_pieces_of_any_size_make_the_same_octets() -> None:
    link = joined(Weather(split=True))
    link.near.transport.write(bytes(range(256)) * 100)
    settle(link)
    assert link.far.got == bytes(range(256)) * 100
    assert link.far.pieces > 5
