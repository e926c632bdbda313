"""The PROXY header, read by itself, and connections that begin with one."""

from __future__ import annotations

from ipaddress import ip_address
from struct import pack
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IAddress
from twisted.python.failure import Failure

from mailhub.net.driver import RefusedConnection
from mailhub.net.gate import HEADER_SECONDS, HeaderReader, ProxyGate
from mailhub.net.link import DriverLimits
from mailhub.net.networks import Networks
from mailhub.net.proxy import End, Header, ProxyError, read_header
from tests.net.line_session import Peer, Rig

SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
V1 = b"PROXY TCP4 198.51.100.7 192.0.2.25 4711 25\r\n"
CLIENT, CALLED = End("198.51.100.7", 4711), End("192.0.2.25", 25)
CLIENT6, CALLED6 = End("2001:db8::7", 4711), End("2001:db8::25", 993)
PROXY = IPv4Address("TCP", "192.0.2.99", 50000)
STRANGER = IPv4Address("TCP", "203.0.113.1", 50000)


def version_2(command: int, family: int, rest: bytes, length: int | None = None) -> bytes:
    return SIGNATURE + pack("!BBH", command, family, len(rest) if length is None else length) + rest


def addresses(source: End, destination: End) -> bytes:
    packed = b"".join([ip_address(end.host).packed for end in (source, destination)])
    return packed + pack("!HH", source.port, destination.port)


V2 = version_2(0x21, 0x11, addresses(CLIENT, CALLED))
TLVS = b"\x02\x00\x09mx.domain" + b"\x04\x00\x00" + b"\x20\x00\x05\x01\x00\x00\x00\x00"

WHOLE = [
    (V1, CLIENT, CALLED),
    (b"PROXY TCP6 2001:db8::7 2001:DB8:0::25 4711 993\r\n", CLIENT6, CALLED6),
    (b"PROXY UNKNOWN\r\n", None, None),
    (b"PROXY UNKNOWN ffff::1 ffff::2 1 2 and what not\r\n", None, None),
    (b"PROXY UNKNOWN " + b"x" * 91 + b"\r\n", None, None),
    (V2, CLIENT, CALLED),
    (version_2(0x21, 0x21, addresses(CLIENT6, CALLED6)), CLIENT6, CALLED6),
    (version_2(0x21, 0x11, addresses(CLIENT, CALLED) + TLVS), CLIENT, CALLED),
    (version_2(0x20, 0x00, b""), None, None),
    (version_2(0x20, 0x11, addresses(CLIENT, CALLED)), None, None),
    (version_2(0x20, 0xFF, b"\1\2\3"), None, None),
    (version_2(0x21, 0x00, b"anything"), None, None),
    (version_2(0x21, 0x31, b"/run/a".ljust(108, b"\0") * 2), None, None),
    (version_2(0x21, 0x11, (addresses(CLIENT, CALLED) + b"\x04\x07\xf1").ljust(2048, b"\0")), CLIENT, CALLED),
]


@pytest.mark.parametrize(("octets", "source", "destination"), WHOLE)
def test_a_header(octets: bytes, source: End | None, destination: End | None) -> None:
    assert read_header(octets + b"EHLO a\r\n") == Header(len(octets), source, destination)
    for size in range(len(octets)):
        assert read_header(octets[:size]) is None


@pytest.mark.parametrize(
    ("octets", "reason"),
    [
        (b"EHLO a\r\n", "no PROXY header"),
        (b"proxy TCP4 ", "no PROXY header"),
        (b"\x16\x03\x01", "no PROXY header"),
        (b"\r\n\r\n\0\r\nQUIT\r\n", "no PROXY header"),
        (b"PROXY \r\n", "family is unknown"),
        (b"PROXY TCP5 1.2.3.4 1.2.3.4 1 2\r\n", "family is unknown"),
        (b"PROXY UDP4 1.2.3.4 1.2.3.4 1 2\r\n", "family is unknown"),
        (b"PROXY TCP4\r\n", "header is malformed"),
        (b"PROXY TCP4 1.2.3.4 1.2.3.4 1 2\n", "line ends without CRLF"),
        (b"PROXY TCP4 1.2.3.4 1.2.3.4 1 2\nEHLO a\r\n", "line ends without CRLF"),
        (b"PROXY UNKNOWN a\nb\r\n", "line ends without CRLF"),
        (b"PROXY TCP4 1.2.3.4 1.2.3.4 1\r\n", "header is malformed"),
        (b"PROXY TCP4  1.2.3.4 1.2.3.4 1 2\r\n", "header is malformed"),
        (b"PROXY TCP4 1.2.3.4 1.2.3.4 1 2 \r\n", "header is malformed"),
        (b"PROXY TCP4 1.2.3.4 ::1 1 2\r\n", "address is malformed"),
        (b"PROXY TCP4 1.2.3 1.2.3.4 1 2\r\n", "address is malformed"),
        (b"PROXY TCP4 01.2.3.4 1.2.3.4 1 2\r\n", "address is malformed"),
        (b"PROXY TCP6 1.2.3.4 1.2.3.4 1 2\r\n", "address is malformed"),
        (b"PROXY TCP4 1.2.3.4 1.2.3.4 -1 2\r\n", "port is malformed"),
        (b"PROXY TCP4 1.2.3.4 1.2.3.4 1 65536\r\n", "port is malformed"),
        (b"PROXY TCP4 1.2.3.4 1.2.3.4 1 " + b"1" * 60 + b"\r\n", "port is malformed"),
        (b"PROXY TCP4 \xff\r\n", "header is not ASCII"),
        (b"PROXY UNKNOWN " + b"x" * 92 + b"\r\n", "header is too long"),
        (b"PROXY " + b"x" * 200, "header is too long"),
        (version_2(0x11, 0x11, addresses(CLIENT, CALLED)), "version or command is unknown"),
        (version_2(0x22, 0x11, addresses(CLIENT, CALLED)), "version or command is unknown"),
        (version_2(0x21, 0x12, addresses(CLIENT, CALLED)), "family is unknown"),
        (version_2(0x21, 0x41, b"x" * 300), "family is unknown"),
        (version_2(0x21, 0x11, b"x" * 11), "addresses are cut"),
        (version_2(0x21, 0x21, addresses(CLIENT, CALLED)), "addresses are cut"),
        (version_2(0x21, 0x11, addresses(CLIENT, CALLED) + b"\x04\x00"), "TLV is cut"),
        (version_2(0x21, 0x11, addresses(CLIENT, CALLED) + b"\x04\x00\x09x"), "TLV is cut"),
        (version_2(0x21, 0x11, b"", 2049), "header is too long"),
        (version_2(0x20, 0x00, b"", 65535), "header is too long"),
    ],
)
def test_what_is_no_header(octets: bytes, reason: str) -> None:
    with pytest.raises(ProxyError, match=f"^{reason}$"):
        read_header(octets)


@given(
    st.binary(max_size=300)
    | st.binary(max_size=60).map(SIGNATURE.__add__)
    | st.binary(max_size=120).map(b"PROXY ".__add__)
)
def test_any_octets_give_a_header_an_error_or_nothing_yet(octets: bytes) -> None:
    try:
        header = read_header(octets)
    except ProxyError:
        return
    if header is None:
        assert len(octets) < 16 + 2048
    else:
        assert header.size <= len(octets)
        assert read_header(octets[: header.size]) == header


# --- The gate -------------------------------------------------------------------------------------------------------


class Transport(Peer):
    """Twisted's transport, as far as it hands on what comes to its protocol."""

    protocol: Any = None
    aborted = False

    def abortConnection(self) -> None:
        self.aborted = True


def gated(**limits: Any) -> tuple[Rig, ProxyGate]:
    rig = Rig(DriverLimits(proxies=Networks.parse("192.0.2.99", "2001:db8:ffff::/48"), **limits))
    return rig, ProxyGate(rig.factory, rig.factory)


def call(gate: ProxyGate, address: IAddress) -> Transport:
    transport = Transport(address)
    transport.protocol = gate.buildProtocol(address)
    transport.protocol.makeConnection(transport)
    return transport


@pytest.mark.parametrize("header", [V1, V2])
def test_the_clients_address_counts_and_octets_behind_the_header_are_the_clients(header: bytes) -> None:
    rig, gate = gated()
    proxied = call(gate, PROXY)
    assert proxied.taken() == b""
    proxied.protocol.dataReceived(header + b"a\n")
    assert proxied.taken() == b"hello\na!\n"
    proxied.protocol.dataReceived(b"b\n")
    assert proxied.taken() == b"b!\n"
    link: Any = rig.sessions[1].link
    assert (link.peer, link.local) == ("198.51.100.7", "192.0.2.25")
    assert proxied.getPeer() == IPv4Address("TCP", "198.51.100.7", 4711)  # type: ignore[no-untyped-call]
    proxied.protocol.connectionLost(Failure(ConnectionDone()))  # type: ignore[no-untyped-call]
    assert rig.sessions[1].trace == ["disconnected"]
    assert rig.factory.room.taken == 1


def test_a_header_octet_by_octet() -> None:
    rig, gate = gated()
    proxied = call(gate, IPv6Address("TCP", "2001:db8:ffff::1", 1))
    for octet in version_2(0x21, 0x21, addresses(CLIENT6, CALLED6)) + b"a\n":
        proxied.protocol.dataReceived(bytes([octet]))
    assert proxied.taken() == b"hello\na!\n"
    assert rig.sessions[1].link.peer == "2001:db8::7"


@pytest.mark.parametrize("header", [b"PROXY UNKNOWN\r\n", version_2(0x20, 0, b"")])
def test_a_connection_of_the_proxys_own(header: bytes) -> None:
    rig, gate = gated()
    call(gate, PROXY).protocol.dataReceived(header)
    assert rig.sessions[1].link.peer == "192.0.2.99"


@pytest.mark.parametrize("address", [STRANGER, UNIXAddress(b"/run/x"), IPv6Address("TCP", "2001:db8::1", 1)])
def test_from_strangers_it_is_no_header(address: IAddress) -> None:
    rig, gate = gated()
    stranger = call(gate, address)
    assert stranger.taken() == b"hello\n"
    stranger.protocol.dataReceived(V1)
    assert rig.sessions[1].seen == [V1.rstrip(b"\n")]


@pytest.mark.parametrize(
    "octets", [b"EHLO a\r\n", b"PROXY TCP9 \r\n", SIGNATURE + b"\xff\xff\xff\xff", b"PROXY " + b"x" * 200]
)
def test_a_proxy_without_a_header_is_cut_off_and_nothing_is_said(octets: bytes) -> None:
    rig, gate = gated()
    proxied = call(gate, PROXY)
    proxied.protocol.dataReceived(octets)
    proxied.protocol.dataReceived(V1)
    assert proxied.aborted
    assert proxied.taken() == b""
    assert (len(rig.sessions), rig.factory.room.taken) == (1, 1)


def test_a_proxy_that_says_nothing_is_cut_off() -> None:
    rig, gate = gated()
    proxied = call(gate, PROXY)
    proxied.protocol.dataReceived(V1[:-1])
    rig.clock.advance(HEADER_SECONDS)
    assert proxied.aborted
    assert rig.factory.room.taken == 1


def test_a_header_that_is_cut_ends_with_its_connection() -> None:
    rig, gate = gated()
    before = len(rig.clock.getDelayedCalls())
    proxied = call(gate, PROXY)
    proxied.protocol.dataReceived(V2[:-1])
    proxied.protocol.connectionLost(Failure(ConnectionDone()))  # type: ignore[no-untyped-call]
    assert (len(rig.sessions), rig.factory.room.taken, len(rig.clock.getDelayedCalls())) == (1, 1, before)


def test_clients_are_bounded_by_their_own_address_and_not_by_the_proxys() -> None:
    _, gate = gated(connections_per_address=2)
    replies = []
    for host in ("198.51.100.1", "198.51.100.1", "198.51.100.1", "198.51.100.2"):
        proxied = call(gate, PROXY)
        proxied.protocol.dataReceived(f"PROXY TCP4 {host} 192.0.2.25 1 25\r\n".encode())
        replies.append(proxied.taken())
    assert replies == [b"hello\n", b"hello\n", b"too many\n", b"hello\n"]


def test_waiting_connections_are_counted_and_cut_when_the_server_stops() -> None:
    rig, gate = gated()
    rig.factory.room.capacity = 2
    first, second = call(gate, PROXY), call(gate, PROXY)
    assert isinstance(first.protocol, HeaderReader)
    assert (first.aborted, second.aborted) == (False, True)
    rig.factory.room.capacity = 3
    third = call(gate, PROXY)
    Deferred.fromCoroutine(rig.factory.stop(1))
    assert first.aborted
    assert third.aborted
    assert rig.factory.room.taken <= 1
    late = call(gate, PROXY)
    late.protocol.dataReceived(V1)
    assert isinstance(late.protocol, RefusedConnection)


def test_the_networks_can_be_changed_while_the_port_is_open() -> None:
    rig, gate = gated()
    other = Rig(DriverLimits(proxies=Networks.parse("203.0.113.0/24")))
    rig.factory.adopt(other.factory)
    assert call(gate, PROXY).taken() == b"hello\n"
    proxied = call(gate, STRANGER)
    assert proxied.taken() == b""
    proxied.protocol.dataReceived(V1)
    assert proxied.taken() == b"hello\n"
