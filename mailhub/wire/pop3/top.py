"""The first lines of a message, cut from its octets as they are read (RFC 1939 7 TOP)."""

from __future__ import annotations


class Topmost:
    """Lets pass the header with the empty line that ends it, and `lines` lines of the body."""

    __slots__ = ("_header", "_left", "done")

    def __init__(self, lines: int, header_size: int) -> None:
        """`header_size` in octets: where the body begins, as the store knows it."""
        self._header = header_size
        self._left = lines
        self.done = False

    def feed(self, octets: bytes) -> bytes:
        """Give back what of these octets belongs to the answer. Once `done`, nothing more does."""
        if self.done:
            return b""
        start = min(self._header, len(octets))
        self._header -= start
        if self._header:
            return octets
        lines = octets.count(b"\n", start)
        if lines < self._left:
            self._left -= lines
            return octets
        self.done = True
        for _ in range(self._left):
            start = octets.index(b"\n", start) + 1
        return octets[:start]
