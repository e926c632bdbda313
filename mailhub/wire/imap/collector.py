"""Puts commands together from lines and literals (RFC 3501 2.2.1, 4.3; RFC 7888)."""

from __future__ import annotations

import attrs

from mailhub.wire.imap.tokens import LITERAL_END
from mailhub.wire.stream import LineBuffer

CHUNK = 65536  # octets given out at once of a literal that is streamed


@attrs.frozen
class Complete:
    """A whole command, its last line ending removed."""

    octets: bytes


@attrs.frozen
class Announced:
    """A command so far, with `{size}` CRLF at its end: call `collect`, `stream` or `skip`."""

    octets: bytes
    size: int
    synchronising: bool


class Flood(Exception):
    """More octets were announced to be thrown away than the limit allows."""


class Collector:
    """Octets in, commands out. Holds one command at most; what it throws away is counted, not held."""

    def __init__(self, line_limit: int, discard_limit: int) -> None:
        self._buffer = LineBuffer(line_limit)
        self._discard_limit = discard_limit
        self._command = bytearray()
        self._announced: Announced | None = None
        self._wanted = 0  # octets missing of a literal that is collected
        self._streaming = 0  # octets missing of a literal that is given out
        self._streamed = False  # the command's end after it is still to come
        self._unwanted = 0  # octets still to come of a literal that is thrown away
        self._skipping = False  # the lines of a command that is thrown away
        self._skipped = 0
        self.literals = 0  # in this command

    def __len__(self) -> int:
        """Octets held."""
        return len(self._buffer) + len(self._command)

    @property
    def discarded(self) -> int:
        """Octets thrown away of an over-long line whose end has not come."""
        return self._buffer.discarded

    @property
    def size(self) -> int:
        """Octets of the command so far."""
        return len(self._command)

    @property
    def streaming(self) -> bool:
        """Octets of a streamed literal are still to be taken."""
        return bool(self._streaming)

    @property
    def first(self) -> int | None:
        """The octet with which the next command begins; None when it is not here, or a command has begun."""
        begun = self._command or self._announced or self._wanted or self._streaming or self._unwanted
        return None if begun or self._skipping or self._streamed else self._buffer.first

    def limit_lines(self, limit: int) -> None:
        """Set the longest line from now on, in octets."""
        self._buffer.limit = limit

    def receive(self, data: bytes) -> None:
        """Octets from the peer."""
        self._buffer.feed(data)

    def drop(self) -> None:
        """Forget everything received."""
        self._buffer.drop()
        self._clear()
        self._wanted = self._streaming = self._unwanted = 0
        self._skipping = self._streamed = False
        self._announced = None

    def next(self) -> Complete | Announced | None:
        """The next thing to decide on; None until more octets come. Raises LineTooLong, Flood."""
        while self._literal_is_read():
            line = self._buffer.next_line()
            if line is None:
                return None
            literal = LITERAL_END.search(line) if line.endswith(b"}") else None
            if self._skipping:
                self._skipped += len(line)
                self._skip_line(int(literal[1]) if literal and literal[2] else None)
                continue
            self._streamed = False
            self._command += line
            if literal is None:
                return Complete(self._clear())
            self._command += b"\r\n"
            self._announced = Announced(bytes(self._command), int(literal[1]), not literal[2])
            return self._announced
        return None

    def collect(self) -> None:
        """The announced literal belongs to the command."""
        self._wanted = self._taken_up().size
        self.literals += 1

    def stream(self) -> None:
        """The announced literal is given out by `take`; what follows it is a command of its own."""
        self._streaming = self._taken_up().size
        self._streamed = True
        self._clear()

    def take(self) -> bytes:
        """Octets of the streamed literal, as many as are here; empty until more come."""
        octets = self._buffer.take(min(self._streaming, CHUNK))
        self._streaming -= len(octets)
        return octets

    def skip(self) -> None:
        """Throw away the rest of the command: what is announced or streamed, and what comes unasked after it."""
        announced, self._announced = self._announced, None
        self._clear()
        if self._streamed:
            left, self._streaming, self._streamed = self._streaming, 0, False
        elif announced is not None and not announced.synchronising:
            left = announced.size
        else:
            # The client waits for the continuation request and, being refused, sends no literal.
            return
        self._skipped = 0
        self._skipping = True
        self._discard(left)

    def _taken_up(self) -> Announced:
        announced, self._announced = self._announced, None
        if announced is None:
            raise RuntimeError("no literal is announced")
        return announced

    def _clear(self) -> bytes:
        octets = bytes(self._command)
        self._command.clear()
        self.literals = 0
        return octets

    def _literal_is_read(self) -> bool:
        """Take what is here of a literal; true when nothing of it is missing."""
        if self._unwanted:
            self._unwanted -= len(self._buffer.take(self._unwanted))
        if self._wanted:
            octets = self._buffer.take(self._wanted)
            self._command += octets
            self._wanted -= len(octets)
        return not (self._unwanted or self._wanted or self._streaming or self._announced)

    def _skip_line(self, following: int | None) -> None:
        if following is None:
            self._skipping = False
        else:
            self._discard(following)

    def _discard(self, count: int) -> None:
        self._skipped += count
        if self._skipped > self._discard_limit:
            raise Flood
        self._unwanted = count
