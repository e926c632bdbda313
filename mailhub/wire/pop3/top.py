"""The first lines of a message, cut from its octets as they are read (RFC 1939 7 TOP)."""

from __future__ import annotations

import re

# The end of a line, and an empty line after it.
_SEPARATOR = re.compile(rb"\n\r?\n")


class Topmost:
    """Lets pass the header, the empty line that ends it and `lines` lines of the body."""

    __slots__ = ("_left", "_seen", "done")

    def __init__(self, lines: int) -> None:
        self._left = lines
        # The last octets of the header so far; None in the body. A message may start with the empty line.
        self._seen: bytes | None = b"\n"
        self.done = False

    def feed(self, octets: bytes) -> bytes:
        """Give back what of these octets belongs to the answer. Once `done`, nothing more does."""
        if self.done:
            return b""
        body = 0 if self._seen is None else self._end_of_header(octets)
        if body < 0:
            return octets
        return octets[: self._end_of_lines(octets, body)]

    def _end_of_header(self, octets: bytes) -> int:
        seen = self._seen or b""
        joined = seen + octets
        match = _SEPARATOR.search(joined)
        if match is None:
            self._seen = joined[-2:]
            return -1
        self._seen = None
        return match.end() - len(seen)

    def _end_of_lines(self, octets: bytes, start: int) -> int:
        lines = octets.count(b"\n", start)
        if lines < self._left:
            self._left -= lines
            return len(octets)
        self.done = True
        for _ in range(self._left):
            start = octets.index(b"\n", start) + 1
        return start
