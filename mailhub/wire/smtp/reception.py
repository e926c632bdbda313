"""The message on its way in: after 354 (RFC 5321 4.1.1.4), or in counted chunks (BDAT, RFC 3030)."""

from __future__ import annotations

import sys
from typing import Protocol

from mailhub.wire.smtp.replies import Reply, reply
from mailhub.wire.stream import BareLines, DataDecoder, LineDecoder, Violation

TOO_SOON = reply(555, "5.5.4", "BY asks for less time than is promised here")  # RFC 2852 4
TOO_LARGE = reply(552, "5.3.4", "Message is too large")

_WIRE_SLACK = 1 << 16  # octets


# Up to Python 3.11, to name a member of an Enum is a call.
_REJECT = BareLines.REJECT


def most_waited_for(size_limit: int) -> int:
    """The octets on the wire that are waited for, so that the client hears why a message is refused, and not for ever;
    who announces or sends more is cut off. Dot stuffing and what is repaired come on top of the message."""
    return 2 * size_limit + _WIRE_SLACK


class Reception(Protocol):
    """Octets of a message that are coming in. `refusal`: what their end will be answered with, None while nothing is
    against it. Once `ended`, `rest` is what followed them.

    `complete`: the message ends with them. `wanted`: the most that `take` may be given. `endless`: the end is not
    waited for any longer.
    """

    refusal: Reply | None
    ended: bool
    rest: bytes

    @property
    def complete(self) -> bool: ...
    @property
    def wanted(self) -> int: ...
    @property
    def endless(self) -> bool: ...

    def take(self, octets: bytes) -> bytes:
        """What octets from the wire add to the message; nothing once it is refused."""


def _fault(violation: Violation | None, size: int, limit: int, *, rejecting: bool) -> Reply | None:
    if violation and rejecting:
        return reply(554, "5.6.0", f"Message has a {violation.value}; its lines must end with CRLF and have no NUL")
    return TOO_LARGE if size > limit else None


class Data:
    """One message of at most `size_limit` octets, after 354: dot stuffing off, line ends checked. `wire_size` in octets
    as they came in."""

    complete = True
    wanted = sys.maxsize

    def __init__(self, bare_lines: BareLines, size_limit: int) -> None:
        self._decoder = DataDecoder(bare_lines)
        self._limit = size_limit
        self._rejecting = bare_lines is _REJECT
        self._size = 0
        self.wire_size = 0
        self.refusal: Reply | None = None
        self.ended = False
        self.rest = b""

    def take(self, octets: bytes) -> bytes:
        """See `Reception`."""
        decoder = self._decoder
        chunk = decoder.feed(octets)
        self._size += len(chunk)
        self.wire_size += len(octets)
        if decoder.ended:
            self.ended, self.rest = True, decoder.rest
        if self.refusal is None:
            self.refusal = _fault(decoder.violation, self._size, self._limit, rejecting=self._rejecting)
        return b"" if self.refusal else chunk

    @property
    def endless(self) -> bool:
        """See `Reception`."""
        return not self.ended and self.wire_size > most_waited_for(self._limit)


class Chunks:
    """What the chunks of one message have in common. The message has at most `size_limit` octets; with `binary`
    (BODY=BINARYMIME) it is any octets, else its line ends are those of `Data`."""

    def __init__(self, bare_lines: BareLines, size_limit: int, *, binary: bool) -> None:
        self._decoder = None if binary else LineDecoder(bare_lines)
        self._limit = size_limit
        self._rejecting = bare_lines is _REJECT
        self._size = 0
        self.wire_size = 0

    def take(self, octets: bytes, *, final: bool) -> tuple[bytes, Reply | None]:
        """What octets add to the message, the last ones of it where `final`, and what is against it."""
        decoder = self._decoder
        self.wire_size += len(octets)
        chunk = octets if decoder is None else decoder.feed(octets, final=final)
        # What has been repaired away counts, too: nobody sends so much of it by mistake.
        self._size += len(octets)
        violation = None if decoder is None else decoder.violation
        return chunk, _fault(violation, self._size, self._limit, rejecting=self._rejecting)


class Chunk:
    """One chunk of `size` octets, after BDAT. Without `chunks` its octets are passed over: they are of no message.
    `last`: it ends the message."""

    endless = False
    rest = b""

    def __init__(self, size: int, *, last: bool, chunks: Chunks | None, refusal: Reply | None = None) -> None:
        self.size = size
        self.chunks = chunks
        self.complete = last
        self.wanted = size
        self.refusal = refusal
        self.ended = False

    def take(self, octets: bytes) -> bytes:
        """See `Reception`."""
        self.wanted -= len(octets)
        self.ended = not self.wanted
        if self.chunks is None:
            return b""
        chunk, fault = self.chunks.take(octets, final=self.ended and self.complete)
        self.refusal = self.refusal or fault
        return b"" if self.refusal else chunk
