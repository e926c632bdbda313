"""What servers put on top of a message."""

from __future__ import annotations


def split_trace(octets: bytes) -> tuple[bytes, bytes]:
    """The fields of servers on top (trace, and what they have found out), and the message below them."""
    rest, top = octets, b""
    while rest.lower().startswith((b"return-path:", b"received:", b"authentication-results:")):
        end = rest.index(b"\r\n") + 2
        while rest[end : end + 1] in (b" ", b"\t"):
            end = rest.index(b"\r\n", end) + 2
        top, rest = top + rest[:end], rest[end:]
    return top, rest
