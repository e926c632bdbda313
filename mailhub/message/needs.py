"""What a message asks of those who carry it, noted in one pass over its octets as they come in.

Relaying goes by this, not by what a client declared (RFC 6152 3, RFC 6531 3.4): most mail declared BODY=8BITMIME is
pure ASCII, and much that is 8-bit is not declared at all.
"""

from __future__ import annotations

import codecs

import attrs

from mailhub.message.header import fields_end
from mailhub.message.long_lines import LINE_LIMIT

# Octets of a header that a message may have on its way in to be edited, and told apart from the body here; what is
# beyond counts as body.
HEADER_LIMIT = 262144

HEADER_8BIT = 1
HEADER_UTF8 = 2
BODY_8BIT = 4
LONG_LINE = 8
NUL = 16
BINARY = 32

_LONGEST = LINE_LIMIT + 2  # octets with the line end


@attrs.frozen
class Offer:
    """What a hop has: 8BITMIME (RFC 6152), SMTPUTF8 (RFC 6531), BINARYMIME with CHUNKING (RFC 3030)."""

    eight_bit: bool = False
    smtputf8: bool = False
    binary: bool = False

    def at_most(self, other: Offer) -> Offer:
        """What both have."""
        return Offer(self.eight_bit and other.eight_bit, self.smtputf8 and other.smtputf8, self.binary and other.binary)


@attrs.frozen
class Needs:
    """A message's needs; `bits` is all of it, for a column of a database. None (0) means that every server takes it.

    The header's and the body's octets over 127 are told apart, as the former may need SMTPUTF8. Headers of parts count
    as body: servers look at the first one, and those who write raw UTF-8 into a file's name do not use SMTPUTF8.
    """

    bits: int = 0

    @property
    def smtputf8(self) -> bool:
        """The header holds UTF-8, which only a server with SMTPUTF8 may be given (RFC 6532 4)."""
        return bool(self.bits & HEADER_UTF8)

    @property
    def eight_bit(self) -> bool:
        """There are octets over 127, which only a server with 8BITMIME may be given (RFC 6152 3).

        A header in another charset is one of no standard. It is sent to who takes 8-bit bodies, as servers do, because
        SMTPUTF8 would promise what is not so.
        """
        return bool(self.bits & (HEADER_8BIT | HEADER_UTF8 | BODY_8BIT))

    @property
    def binary(self) -> bool:
        """A line has more than 998 octets, there is a NUL, or it came as BODY=BINARYMIME, where CR and LF need not be
        line ends: only BINARYMIME carries that as it is (RFC 3030 3)."""
        return bool(self.bits & (LONG_LINE | NUL | BINARY))

    @property
    def declared_binary(self) -> bool:
        """Its client has said BODY=BINARYMIME: a CR or LF that stands alone belongs to the content. Undeclared ones are
        mistakes, and what holds them is a text."""
        return bool(self.bits & BINARY)

    def met_by(self, offer: Offer) -> bool:
        """Whether the hop takes all that is 8-bit, or declared as binary, as it is."""
        return (
            (offer.eight_bit or not self.eight_bit)
            and (offer.smtputf8 or not self.smtputf8)
            and (offer.binary or not self.declared_binary)
        )


class NeedsScanner:
    """A message in pieces -> its needs, the same however it is cut.

    The header ends where `mailhub.message.header` says. Up to HEADER_LIMIT octets are held until its end has come.
    """

    __slots__ = ("_bits", "_column", "_held", "_last")

    def __init__(self, *, header: bool = True) -> None:
        """Without `header` all is body."""
        self._bits = 0
        self._held: bytes | bytearray | None = b"" if header else None  # None once the end of the header has come
        self._column = 0  # octets of the line that has not ended yet
        self._last = b""  # the last octet

    def feed(self, octets: bytes) -> None:
        """The next piece."""
        if not octets:
            return
        if self._held is None:
            if not octets.isascii():
                self._bits |= BODY_8BIT
        elif self._held:
            self._hold(octets)
        else:
            self._held = octets  # small messages come whole: where the header ends is not asked before there is more
        if octets.find(0) >= 0:
            self._bits |= NUL
        self._measure(octets)
        self._last = octets[-1:]

    def finish(self) -> Needs:
        """What the whole message needs."""
        if self._held is not None:
            self._settle(self._held)
        return Needs(self._bits)

    def _hold(self, octets: bytes) -> None:
        held = self._held
        looked_at = 0
        if isinstance(held, bytearray):
            looked_at = max(len(held) - 2, 0)
        else:
            held = self._held = bytearray(held or b"")
        held += octets
        if held.find(b"\n\r\n", looked_at) >= 0 or held.find(b"\n\n", looked_at) >= 0 or len(held) >= HEADER_LIMIT:
            self._settle(held)

    def _settle(self, held: bytes | bytearray) -> None:
        """Tell the header from what follows it, if that makes a difference."""
        self._held = None
        if held.isascii():
            return
        end = fields_end(held, 0, min(len(held), HEADER_LIMIT))
        if not held[:end].isascii():
            self._bits |= HEADER_UTF8 if _is_utf8(held[:end]) else HEADER_8BIT
        if not held[end:].isascii():
            self._bits |= BODY_8BIT

    def _measure(self, octets: bytes) -> None:
        """Look for a line that is too long, hopping from one line end to the last one that a line's length allows."""
        find = octets.rfind
        size = len(octets)
        start = -self._column  # where the line begins that is looked at
        while (limit := start + _LONGEST) <= size:
            found = find(b"\n", start if start > 0 else 0, limit)
            # Two more than LINE_LIMIT octets with the line feed, but no CR before it.
            if found == limit - 1 and self._before(octets, found) != b"\r":
                found = find(b"\n", start if start > 0 else 0, found)
            if found < 0:
                self._bits |= LONG_LINE
                return
            start = found + 1
        last = find(b"\n", start if start > 0 else 0)
        self._column = size - (start if last < 0 else last + 1)
        if self._column == _LONGEST - 1 and octets[-1:] != b"\r":
            self._bits |= LONG_LINE

    def _before(self, octets: bytes, position: int) -> bytes:
        return octets[position - 1 : position] if position else self._last


def needs_of(octets: bytes) -> Needs:
    """The needs of a message that is in memory."""
    scanner = NeedsScanner()
    scanner.feed(octets)
    return scanner.finish()


def _is_utf8(octets: bytes | bytearray) -> bool:
    try:
        # A character that HEADER_LIMIT cuts is no mistake.
        codecs.utf_8_decode(octets, "strict", len(octets) < HEADER_LIMIT)
    except UnicodeDecodeError:
        return False
    return True
