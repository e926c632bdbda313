"""The header of the PROXY protocol, versions 1 and 2: whose connection it is that a proxy brings.

It is that of HAProxy's `proxy-protocol.txt`. Whoever is trusted to send one must send one: to guess would let the
proxy's clients write their own.
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address
from struct import Struct

import attrs

_V1 = b"PROXY "
_V1_LIMIT = 107  # octets, CRLF included (2.1)
_V2 = b"\r\n\r\n\0\r\nQUIT\n"
_V2_START = Struct("!12sBBH")
# Far more than addresses and the usual TLVs take; 65535 could be said.
_V2_LIMIT = 2048  # octets after the start
_LOCAL, _PROXY = 0x20, 0x21
# Family and transport: UNSPEC, TCP over IPv4 and IPv6, a Unix stream (2.2).
_UNKNOWN, _TCP4, _TCP6, _UNIX = 0x00, 0x11, 0x21, 0x31
_ADDRESSES = {_UNKNOWN: Struct("!"), _TCP4: Struct("!4s4sHH"), _TCP6: Struct("!16s16sHH"), _UNIX: Struct("!108s108s")}
_TLV = Struct("!BH")


class ProxyError(ValueError):
    """Octets that are no header, and cannot become one."""


@attrs.frozen
class End:
    """One end of a TCP connection."""

    host: str
    port: int


@attrs.frozen
class Header:
    """A header of `size` octets. `source` is the client, `destination` what it called; None where the connection is the
    proxy's own (LOCAL: it looks whether we are there), or where it does not say (UNKNOWN)."""

    size: int
    source: End | None = None
    destination: End | None = None


def read_header(octets: bytes) -> Header | None:
    """The header that these octets begin with; None while it is not whole. Raises ProxyError, at once where they can
    begin none."""
    if octets[: len(_V2)] == _V2[: len(octets)]:
        return _version_2(octets)
    if octets[: len(_V1)] == _V1[: len(octets)]:
        return _version_1(octets)
    raise ProxyError("no PROXY header")


def _version_1(octets: bytes) -> Header | None:
    end = octets.find(b"\r\n", 0, _V1_LIMIT)
    if b"\n" in octets[: end if end >= 0 else _V1_LIMIT]:
        raise ProxyError("line ends without CRLF")
    if end < 0:
        if len(octets) >= _V1_LIMIT:
            raise ProxyError("header is too long")
        return None
    size = end + 2
    try:
        words = octets[:end].decode("ascii").split(" ")
    except UnicodeDecodeError:
        raise ProxyError("header is not ASCII") from None
    if words[1] == "UNKNOWN":
        return Header(size)
    kind = {"TCP4": IPv4Address, "TCP6": IPv6Address}.get(words[1])
    if kind is None:
        raise ProxyError("family is unknown")
    if len(words) != 6:
        raise ProxyError("header is malformed")
    try:
        source, destination = str(kind(words[2])), str(kind(words[3]))
    except ValueError:
        raise ProxyError("address is malformed") from None
    return Header(size, End(source, _port(words[4])), End(destination, _port(words[5])))


def _port(text: str) -> int:
    if not (text.isdigit() and len(text) <= 5 and int(text) < 65536):
        raise ProxyError("port is malformed")
    return int(text)


def _version_2(octets: bytes) -> Header | None:
    if len(octets) < _V2_START.size:
        return None
    _, command, family, length = _V2_START.unpack_from(octets)
    if command not in (_LOCAL, _PROXY):
        raise ProxyError("version or command is unknown")
    if length > _V2_LIMIT:
        raise ProxyError("header is too long")
    size = _V2_START.size + length
    if len(octets) < size:
        return None
    if command == _LOCAL:
        return Header(size)  # whatever stands in it
    addresses = _ADDRESSES.get(family)
    if addresses is None:
        raise ProxyError("family is unknown")
    if length < addresses.size:
        raise ProxyError("addresses are cut")
    if family != _UNKNOWN:  # of which nobody knows what stands in it
        _check_tlvs(octets[_V2_START.size + addresses.size : size])
    if family in (_UNKNOWN, _UNIX):
        return Header(size)
    source, destination, from_port, to_port = addresses.unpack_from(octets, _V2_START.size)
    kind = IPv4Address if family == _TCP4 else IPv6Address
    return Header(size, End(str(kind(source)), from_port), End(str(kind(destination)), to_port))


def _check_tlvs(octets: bytes) -> None:
    """What a proxy may add (2.2.1 to 2.2.7). None of it is used; that it adds up shows that it is one."""
    position = 0
    while position < len(octets):
        if len(octets) - position < _TLV.size:
            raise ProxyError("TLV is cut")
        position += _TLV.size + _TLV.unpack_from(octets, position)[1]
    if position > len(octets):
        raise ProxyError("TLV is cut")
