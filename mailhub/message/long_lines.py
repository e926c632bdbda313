"""Lines that are too long for SMTP (RFC 5322 2.1.1: 998 octets and CRLF), broken where it does the least harm."""

from __future__ import annotations

LINE_LIMIT = 998  # octets without the line end (RFC 5322 2.1.1)
_BROKEN = 990  # octets of a line after which it is broken at the latest


class LineWrapper:
    """A message in pieces -> the same with no line of more than LINE_LIMIT octets.

    A line is broken before white space, which unfolds again in a header and is white space still in text and HTML.
    Where there is none, a space is put in, so that what follows is no field, no delimiter and no dot; base64 has a use
    for neither. `torn` tells that this has happened. What is held back is at most a line.
    """

    __slots__ = ("_held", "_limit", "torn", "wrapped")

    def __init__(self) -> None:
        self._held = b""
        self._limit = LINE_LIMIT  # of the line that is being read
        self.wrapped = False
        self.torn = False

    def feed(self, octets: bytes) -> bytes:
        """The octets that are certain with these."""
        octets = self._held + octets
        pieces = []
        start = position = 0  # of what is to be given out, and of the line that is looked at
        while len(octets) - position > self._limit + 2:
            line_end = octets.rfind(b"\n", position, position + self._limit + 2)
            if line_end >= 0:  # that of this line, or of a later one
                position = line_end + 1
                self._limit = LINE_LIMIT
                continue
            cut = self._place(octets, position)
            pieces += [octets[start:cut], b"\r\n"]
            if octets[cut : cut + 1] not in (b" ", b"\t"):
                pieces.append(b" ")
                self._limit = LINE_LIMIT - 1
                self.torn = True
            else:
                self._limit = LINE_LIMIT
            self.wrapped = True
            start = position = cut
        line_end = octets.rfind(b"\n", position)
        if line_end >= 0:
            position = line_end + 1
            self._limit = LINE_LIMIT
        self._held = octets[position:]
        return b"".join([*pieces, octets[start:position]]) if pieces else octets[:position]

    def finish(self) -> bytes:
        """The rest."""
        rest, self._held = self._held, b""
        if len(rest) > self._limit and not rest.endswith(b"\n"):
            cut = self._place(rest, 0)
            space = b"" if rest[cut : cut + 1] in (b" ", b"\t") else b" "
            self.wrapped = True
            self.torn = self.torn or bool(space)
            return rest[:cut] + b"\r\n" + space + rest[cut:]
        return rest

    def _place(self, octets: bytes, start: int) -> int:
        end = start + _BROKEN
        place = max(octets.rfind(b" ", start, end), octets.rfind(b"\t", start, end))
        if place > start and octets[start:place].strip():
            return place
        while end > start + _BROKEN - 4 and octets[end] & 0xC0 == 0x80:  # within a character of UTF-8
            end -= 1
        return end
