"""Connections of foreign protocols: counted, bounded, and ended with the server."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest
from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred
from twisted.internet.protocol import Protocol, ServerFactory
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransportWithDisconnection
from twisted.logger import capturedLogs

from mailhub.errors import ConfigurationError
from mailhub.net.crowd import Room
from mailhub.net.driver import DriverFactory
from mailhub.net.link import DriverLimits


class Echo(Protocol):
    def dataReceived(self, data: bytes) -> None:
        if data == b"crash":
            raise RuntimeError(data)
        assert self.transport is not None
        self.transport.write(data)


class Echoes(ServerFactory):
    """Counts the ports that it serves."""

    protocol = Echo
    noisy = False
    starts = stops = 0

    def startFactory(self) -> None:
        self.starts += 1

    def stopFactory(self) -> None:
        self.stops += 1


class Rig:
    def __init__(self, limits: DriverLimits | None = None) -> None:
        self.clock = Clock()
        self.guests = Echoes()
        self.room = Room()
        self.factory = self.made(self.guests, limits)

    def made(self, guests: ServerFactory | None, limits: DriverLimits | None = None) -> DriverFactory:
        nothing: Any = None
        return DriverFactory(
            nothing,
            self.clock,
            Random(1),
            "echo",
            limits=limits or DriverLimits(connections=1),
            refusal=b"too many\n",
            room=self.room,
            guests=guests,
        )

    def connect(self) -> Any:
        protocol: Any = self.factory.buildProtocol(IPv4Address("TCP", "192.0.2.1", 1))
        transport: Any = StringTransportWithDisconnection()  # type: ignore[no-untyped-call]
        transport.protocol = protocol
        transport.abortConnection = transport.loseConnection
        protocol.makeConnection(transport)
        return transport

    def said(self, transport: Any, octets: bytes) -> bytes:
        transport.clear()
        transport.protocol.dataReceived(octets)
        heard: bytes = transport.value()
        return heard


def test_it_is_served_and_counted_and_one_too_many_is_told() -> None:
    rig = Rig()
    first = rig.connect()
    assert rig.said(first, b"hello") == b"hello"
    assert rig.room.taken == 1
    second = rig.connect()
    assert (second.value(), second.connected) == (b"too many\n", False)
    first.loseConnection()
    assert rig.room.taken == 0
    assert rig.said(rig.connect(), b"again") == b"again"


def test_silence_ends_it_and_every_octet_in_or_out_counts() -> None:
    rig = Rig(DriverLimits(idle_seconds=10))
    transport = rig.connect()
    for _ in range(3):
        rig.clock.advance(9)
        assert rig.said(transport, b"x") == b"x"
    rig.clock.advance(9)
    transport.protocol.writeSequence([b"by", b"te"])
    rig.clock.advance(9)
    assert transport.connected
    rig.clock.advance(1)
    assert not transport.connected
    assert rig.clock.getDelayedCalls() == []


def test_a_crash_ends_one_connection_with_a_line_that_names_it() -> None:
    rig = Rig(DriverLimits())
    one, other = rig.connect(), rig.connect()
    with capturedLogs() as events:
        rig.said(one, b"crash")
    assert [event["service"] for event in events] == ["echo"]
    assert [event["method"] for event in events] == ["dataReceived"]
    assert (one.connected, other.connected) == (False, True)


class Stillborn(Protocol):
    def connectionMade(self) -> None:
        raise RuntimeError("made")


class Faulty(ServerFactory):
    """Raises where it is asked for a protocol, or makes what is none."""

    noisy = False

    def __init__(self, protocol: Any) -> None:
        self._made = protocol

    def buildProtocol(self, addr: object) -> Any:
        if self._made is None:
            raise RuntimeError("built")
        return self._made


@pytest.mark.parametrize("protocol", [Stillborn(), None, 7])
def test_one_that_fails_before_it_serves_is_closed_at_once_with_a_line_that_names_it(protocol: Any) -> None:
    rig = Rig()
    rig.factory = rig.made(Faulty(protocol), DriverLimits())
    with capturedLogs() as events:
        transport = rig.connect()
    assert {event["service"] for event in events} == {"echo"}
    assert not transport.connected
    assert rig.room.taken == 0
    assert rig.clock.getDelayedCalls() == []


class NeverReady(Echoes):
    def startFactory(self) -> None:
        raise ValueError("not today")


class NeverGone(Echoes):
    def stopFactory(self) -> None:
        raise ValueError("not yet")


def test_a_factory_that_cannot_start_keeps_the_server_from_starting_but_not_from_reading_its_configuration() -> None:
    rig = Rig(DriverLimits())
    with pytest.raises(ConfigurationError, match=r"^\[listen\] echo: its factory cannot start: ValueError: not today$"):
        rig.made(NeverReady()).doStart()
    rig.factory.doStart()
    with capturedLogs() as events:
        rig.factory.adopt(rig.made(NeverReady(), DriverLimits()))
        assert rig.guests.stops == 1
        rig.factory.adopt(rig.made(NeverGone(), DriverLimits()))
        rig.factory.doStop()
    assert [str(event["log_failure"].value) for event in events] == ["not today", "not yet"]


@pytest.mark.parametrize("stubborn", [False, True])
def test_the_server_stops(stubborn: bool) -> None:
    rig = Rig()
    transport = rig.connect()
    if stubborn:
        transport.loseConnection = lambda: None
    stopped: list[object] = []
    Deferred.fromCoroutine(rig.factory.stop(5)).addCallback(stopped.append)
    assert bool(stopped) is not stubborn
    rig.clock.advance(5)
    assert stopped == [None]
    assert not transport.connected
    assert not rig.connect().connected


def test_a_factory_that_wants_none_is_obeyed() -> None:
    rig = Rig()
    rig.guests.buildProtocol = lambda addr: None  # type: ignore[method-assign]
    assert not rig.connect().connected
    assert rig.room.taken == 0


def test_another_factory_takes_over_new_connections_and_each_hears_of_its_ports() -> None:
    rig = Rig(DriverLimits())
    rig.factory.doStart()
    rig.factory.doStart()
    old = rig.connect()
    after = Echoes()
    rig.factory.adopt(rig.made(after, DriverLimits()))
    assert (rig.guests.starts, rig.guests.stops, after.starts, after.stops) == (1, 1, 1, 0)
    assert rig.said(old, b"still") == b"still"
    assert rig.connect().protocol.wrappedProtocol.factory is after
    rig.factory.doStop()
    rig.factory.doStop()
    assert after.stops == 1
