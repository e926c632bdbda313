"""Octet streams: lines with a limit, counted octets, and SMTP's transparent message data (RFC 5321 4.5.2).

Nothing here holds more than its limit of a line, and nothing looks at an octet twice, however the octets are split.
"""

from __future__ import annotations

import re
from enum import Enum

from mailhub.message.line_ends import LineEnds

# Octets thrown away of one over-long line after which every machine gives the connection up.
ENDLESS = 1 << 20

_HEAD_OCTETS = 64


class LineTooLong(Exception):
    """A line over the limit was thrown away. `head` is its first 64 octets (a tag may be read from it)."""

    def __init__(self, head: bytes) -> None:
        self.head = head
        super().__init__("line too long")


class LineBuffer:
    """Octets received and not yet used, given out as lines or as counted octets.

    A line ends with LF; one CR before it belongs to the ending. A bare LF is accepted because the field's
    hand-typed and scripted clients send it, and because it cannot smuggle anything here: the octets of message
    content are never read as commands (content ends at CRLF.CRLF, or is counted). A bare CR stays in the line,
    where the grammar refuses it.

    `limit` is the longest line in octets, its ending included (at least 64); it may be changed between lines. A
    longer line is thrown away while it streams in, and reported once, by `LineTooLong`, when its end has come.
    """

    __slots__ = ("_discarded", "_head", "_octets", "_scanned", "_start", "limit")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        # One read as it came while nothing is left of the one before, which is nearly always; else octets that grow.
        self._octets: bytes | bytearray = b""
        self._start = 0  # of what is not used yet
        self._scanned = 0  # up to here there is no LF
        self._discarded = 0
        self._head = b""

    def __len__(self) -> int:
        """Octets held."""
        return len(self._octets) - self._start

    @property
    def discarded(self) -> int:
        """Octets thrown away of the over-long line that is streaming in; 0 when there is none."""
        return self._discarded

    def feed(self, data: bytes) -> None:
        """Add octets from the peer."""
        octets, start = self._octets, self._start
        if start >= len(octets):
            self._octets = data
            self._start = self._scanned = 0
            return
        if isinstance(octets, bytes):
            octets = self._octets = bytearray(octets[start:])
        else:
            del octets[:start]
        octets += data
        self._start = 0
        self._scanned -= start

    @property
    def first(self) -> int | None:
        """The next octet, which stays where it is; None when there is none."""
        return self._octets[self._start] if self._start < len(self._octets) and not self._discarded else None

    @property
    def head(self) -> bytes:
        """How the over-long line begins that is streaming in; b"" when there is none."""
        return self._head

    @property
    def begun(self) -> int | None:
        """The first octet of the line that is coming in, also where it is thrown away; None when nothing is here."""
        return self._head[0] if self._discarded else self.first

    def next_line(self) -> bytes | None:
        """Take the next line without its ending; None when it is not complete. Raises LineTooLong."""
        octets, start = self._octets, self._start
        end = octets.find(b"\n", self._scanned)
        if end < 0:
            if start:
                self._octets = octets = octets[start:]  # the rest of a large read is not to be held for a few octets
                self._start = 0
            self._scanned = len(octets)
            if self._discarded or len(octets) >= self.limit:
                self._discard(len(octets))
            return None
        if self._discarded or end + 1 - start > self.limit:
            self._discard(end + 1)
            head, self._head, self._discarded = self._head, b"", 0
            raise LineTooLong(head)
        self._start = self._scanned = end + 1
        line = bytes(octets[start:end])
        if end + 1 == len(octets):
            self._octets, self._start, self._scanned = b"", 0, 0
        return line[:-1] if line.endswith(b"\r") else line

    def take(self, count: int) -> bytes:
        """Take at most `count` octets, as many as are here."""
        start = self._start
        taken = bytes(self._octets[start : start + count])
        self._use(start + len(taken))
        return taken

    def take_all(self) -> bytes:
        """Take everything that is here."""
        return self.take(len(self._octets))

    def drop(self) -> None:
        """Forget everything, a half-discarded line too (plaintext buffered at STARTTLS)."""
        self._octets = b""
        self._start = self._scanned = self._discarded = 0
        self._head = b""

    def _use(self, end: int) -> None:
        if end == len(self._octets):
            self._octets, end = b"", 0
        self._start = self._scanned = end

    def _discard(self, end: int) -> None:
        start = self._start
        if not self._discarded:
            self._head = bytes(self._octets[start : min(end, start + _HEAD_OCTETS)])
        self._discarded += end - start
        self._use(end)


class BareLines(Enum):
    """What is done with message data that has a bare CR, a bare LF or a NUL (RFC 5321 2.3.8 forbids the first two)."""

    REJECT = "reject"
    NORMALISE = "normalise"


class Violation(Enum):
    """The first offence found in message data; the value is the text for the reply."""

    BARE_CR = "bare CR"
    BARE_LF = "bare LF"
    NUL = "NUL"


# Up to Python 3.11, to name a member of an Enum is a call.
_REJECT = BareLines.REJECT

_BARE = re.compile(rb"\r(?!\n)|(?<!\r)\n|\0")
# What begins with a literal is found in half the time that bytes.find() takes.
_DOT = re.compile(rb"\r\n\.")
_OFFENCES = {b"\r": Violation.BARE_CR, b"\n": Violation.BARE_LF, b"\0": Violation.NUL}
_BEFORE = b"\r\n"  # the end of the command line before the data, whose very first octet may be a dot
_END = b"\r\n.\r\n"
_END_PREFIXES = (b"\r\n.\r", b"\r\n.", b"\r\n", b"\r")


def normalise_line_endings(octets: bytes) -> bytes:
    """Bare CR and bare LF become CRLF, NUL is dropped. The caller never splits a CRLF between two calls."""
    return octets.replace(b"\r\n", b"\n").replace(b"\r", b"\n").replace(b"\n", b"\r\n").replace(b"\0", b"")


class _Lines:
    """Message data that is judged by its line ends."""

    __slots__ = ("_endings", "_policy", "violation")

    def __init__(self, policy: BareLines) -> None:
        self._policy = policy
        self._endings = LineEnds()
        self.violation: Violation | None = None

    def _judged(self, piece: bytes) -> tuple[bytes, bool]:
        """What may be given out of a piece, and whether that is to be repaired."""
        rejecting = self._policy is _REJECT
        if rejecting and self.violation:
            return b"", False
        if self._endings.clean(piece):
            return piece, False
        offence = _BARE.search(piece)
        if offence is not None:
            self.violation = self.violation or _OFFENCES[offence[0]]
            piece = piece[: offence.start()] if rejecting else piece
        return piece, not rejecting


class LineDecoder(_Lines):
    """Counted octets (BDAT, RFC 3030) -> the message: its line ends are judged as those after 354 are, and its dots
    are dots. `violation` is the first offence."""

    __slots__ = ("_held",)

    def __init__(self, policy: BareLines) -> None:
        super().__init__(policy)
        self._held = b""

    def feed(self, data: bytes, *, final: bool = False) -> bytes:
        """Give back what these octets add to the message; a CR waits for what follows it, unless they are the last."""
        data = self._held + data
        self._held = b"\r" if data.endswith(b"\r") and not final else b""
        piece, repair = self._judged(data[:-1] if self._held else data)
        return normalise_line_endings(piece) if repair else piece


class DataDecoder(_Lines):
    """The octets after 354 -> the message (RFC 5321 4.5.2): the dot stuffing removed, the end found.

    Only CRLF.CRLF on the wire ends the data (an empty message is .CRLF at once); no bare CR or LF takes part in it, in
    either policy, and only a dot after CRLF is unstuffed. With REJECT, nothing is given out from the first offence on,
    and the data is consumed to its true end. With NORMALISE, offences are repaired in what is given out. In both,
    `violation` is the first offence.
    """

    __slots__ = ("_first", "_held", "ended", "rest")

    def __init__(self, policy: BareLines) -> None:
        super().__init__(policy)
        self._held = _BEFORE
        self._first = True
        self.ended = False
        self.rest = b""

    def feed(self, data: bytes) -> bytes:
        """Give back what these octets add to the message. Once `ended` is true, `rest` is what followed the end."""
        if self.ended:
            raise RuntimeError("the data has ended")
        if self._first and self._held == _BEFORE and data and not data.startswith(b"."):
            # Nearly always: then what was before says nothing about it, and joining the two would be a copy.
            self._first, self._held = False, b""
        data = self._held + data
        dot = _DOT.search(data)
        end = data.find(_END, dot.start()) if dot is not None else -1
        if end >= 0:
            self.ended = True
            self.rest = data[end + len(_END) :]
            piece = data[: end + 2]
        else:
            piece, self._held = _hold_back(data)
        return self._given_out(piece, stuffed=dot is not None and dot.start() != end) if piece else b""

    def _given_out(self, piece: bytes, stuffed: bool) -> bytes:
        piece, repair = self._judged(piece)
        if stuffed:
            piece = _DOT.sub(b"\r\n", piece)
        if self._first:
            self._first = False
            piece = piece[2:]
        return normalise_line_endings(piece) if repair else piece


def _hold_back(data: bytes) -> tuple[bytes, bytes]:
    """Split off the longest ending that may be the start of the end of data."""
    for prefix in _END_PREFIXES:
        if data.endswith(prefix):
            return data[: -len(prefix)], prefix
    return data, b""


class LineEnder:
    """A text whose bare CR and bare LF become CRLF, and whose NUL are dropped, however it is cut."""

    __slots__ = ("_ended", "_held")

    def __init__(self) -> None:
        self._held = b""
        self._ended = True

    def feed(self, data: bytes) -> bytes:
        """What is certain with these octets."""
        data = self._held + data
        self._held = b"\r" if data.endswith(b"\r") else b""
        data = data[:-1] if self._held else data
        if not LineEnds().clean(data):
            data = normalise_line_endings(data)
        if data:
            self._ended = data.endswith(b"\n")
        return data

    def finish(self) -> bytes:
        """The end of the last line where it has none."""
        if self._held:
            return b"\r\n"
        return b"" if self._ended else b"\r\n"


class DotStuffer:
    """A message -> the octets after 354, or a multi-line POP3 response (RFC 5321 4.5.2, RFC 1939 3).

    With `normalise`, bare CR, bare LF and NUL are repaired on the way (a next hop may take `LF.LF` for the end).
    """

    __slots__ = ("_ender", "_tail")

    def __init__(self, *, normalise: bool = False) -> None:
        self._ender = LineEnder() if normalise else None
        self._tail = b"\r\n"  # The last two octets given out.

    def feed(self, data: bytes) -> bytes:
        """Give back the octets to send for these octets of the message."""
        return self._stuffed(self._ender.feed(data) if self._ender else data)

    def finish(self) -> bytes:
        """Give back the ending: CRLF when the message has none, and the line with the dot."""
        if self._ender:
            return self._ender.finish() + b".\r\n"
        if self._tail == b"\r\n":
            return b".\r\n"
        return b"\n.\r\n" if self._tail.endswith(b"\r") else b"\r\n.\r\n"

    def _stuffed(self, data: bytes) -> bytes:
        if not data:
            return b""
        tail = self._tail
        joined = tail + data
        self._tail = joined[-2:]
        return _DOT.sub(b"\r\n..", joined)[len(tail) :]
