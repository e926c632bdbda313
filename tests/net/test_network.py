"""Outgoing connections over a reactor's endpoints."""

from __future__ import annotations

from typing import Any, cast

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionRefusedError
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.testing import MemoryReactorClock
from twisted.python.failure import Failure

from mailhub.errors import TemporaryError
from mailhub.net.network import ReactorNetwork

_reactor: Any = MemoryReactorClock


def connecting(reactor: Any, host: str, port: int) -> list[Any]:
    results: list[Any] = []
    network = ReactorNetwork(reactor)
    connection = network.connect(host, port, Factory.forProtocol(Protocol), 7.0)
    Deferred.fromCoroutine(connection).addBoth(results.append)
    return results


@pytest.mark.parametrize("host", ["192.0.2.1", "2001:db8::1", "fe80::1%eth0"])
def test_both_families_and_scopes_are_taken(host: str) -> None:
    reactor = _reactor()
    connecting(reactor, host, 25)
    ((connected, port, _, timeout, source),) = reactor.tcpClients
    assert (connected, port, timeout, source) == (host, 25, 7.0, None)


@pytest.mark.parametrize(("host", "source"), [("192.0.2.1", "192.0.2.9"), ("2001:db8::1", "2001:db8::9")])
def test_a_connection_comes_from_the_address_that_it_is_told(host: str, source: str) -> None:
    reactor = _reactor()
    connection = ReactorNetwork(reactor).connect(host, 25, Factory.forProtocol(Protocol), 7.0, source)
    Deferred.fromCoroutine(connection)
    assert reactor.tcpClients[0][4] == (source, 0)


def test_a_local_socket() -> None:
    reactor = _reactor()
    connecting(reactor, "unix:/run/lmtp", 0)
    assert reactor.unixClients[0][0] == "/run/lmtp"


def test_a_connection_is_its_protocol() -> None:
    reactor = _reactor()
    results = connecting(reactor, "192.0.2.1", 25)
    wrapped = reactor.tcpClients[0][2].buildProtocol(None)
    wrapped.makeConnection(object())
    assert isinstance(results[0], Protocol)


def test_failures_are_temporary() -> None:
    reactor = _reactor()
    results = connecting(reactor, "192.0.2.1", 25)
    failure, refused = cast(Any, Failure), cast(Any, ConnectionRefusedError)
    reactor.tcpClients[0][2].clientConnectionFailed(None, failure(refused()))
    assert results[0].check(TemporaryError)
    assert results[0].value.status == "4.4.1"
    assert "192.0.2.1" in results[0].value.text
    assert connecting(reactor, "not an address", 25)[0].check(TemporaryError)
