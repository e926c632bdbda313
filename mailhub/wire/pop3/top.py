"""The first lines of a message, cut from its octets as they are read (RFC 1939 7 TOP)."""

from __future__ import annotations

import re
from itertools import islice

_LINE_END = re.compile(rb"\n|\r(?!\n|\Z)")  # what a CR at the end is, the next octet tells


class Topmost:
    """Lets pass the header with the empty line that ends it, and `lines` lines of the body. A bare CR or LF ends one,
    for CRLF is sent in its place."""

    __slots__ = ("_after_cr", "_header", "_left", "done")

    def __init__(self, lines: int, header_size: int) -> None:
        """`header_size` in octets: where the body begins, as the store knows it."""
        self._header = header_size
        self._left = lines
        self._after_cr = False  # the last octet was a CR of the body
        self.done = False

    def feed(self, octets: bytes) -> bytes:
        """Give back what of these octets belongs to the answer. Once `done`, nothing more does."""
        if self.done or not octets:
            return b""
        start = min(self._header, len(octets))
        self._header -= start
        if self._header:
            return octets
        if self._after_cr and not octets.startswith(b"\n"):
            self._left -= 1
        end = start
        for match in islice(_LINE_END.finditer(octets, end), min(self._left, len(octets))):
            self._left -= 1
            end = match.end()
        self.done = not self._left
        self._after_cr = octets.endswith(b"\r", start)
        return octets[:end] if self.done else octets
