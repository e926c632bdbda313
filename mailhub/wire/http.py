"""An answer of a web server, as much of HTTP/1.1 as it takes to fetch a small text and to hand one over (RFC 9112).

Everything is bounded: header lines, header, chunks, body. A redirection is an answer like any other.
"""

from __future__ import annotations

import re
from collections.abc import Callable

import attrs

from mailhub.wire.stream import LineBuffer, LineTooLong

_LINE = 8192  # octets
_HEAD = 32768  # octets of all header lines, and of what stands after chunks
_INTERIM = 5  # answers 1xx before the one that counts
_STATUS = re.compile(rb"HTTP/1\.[01] ([1-9][0-9]{2})(?: .*)?")
_SIZE = re.compile(rb"[0-9A-Fa-f]{1,8}")


class BadAnswer(ValueError):
    """It is no answer, or a larger one than was bargained for."""


@attrs.frozen
class Answer:
    """`media_type` in lower case, without parameters; "" where there is none."""

    status: int
    media_type: str
    body: bytes


def request(method: str, host: str, path: str, fields: tuple[tuple[str, str], ...] = (), body: bytes = b"") -> bytes:
    """The octets of a request, after whose answer the server closes. Raises ValueError for what would break a line."""
    lines = [f"{method} {path} HTTP/1.1", f"Host: {host}", "Connection: close", "User-Agent: mailhub"]
    lines += [f"{name}: {value}" for name, value in fields]
    if method == "POST":
        lines.append(f"Content-Length: {len(body)}")
    if not all(line.isascii() and line.isprintable() for line in lines) or " " in path or not path.startswith("/"):
        raise ValueError(f"{path!r} cannot be asked for")
    return "".join(f"{line}\r\n" for line in [*lines, ""]).encode() + body


class AnswerReader:
    """Takes what the server sends, in pieces of any size."""

    def __init__(self, body_limit: int) -> None:
        """`body_limit` in octets."""
        self._limit = body_limit
        self._buffer = LineBuffer(_LINE)
        self._head = 0
        self._interim = 0
        self._status = 0
        self._fields: dict[bytes, bytes] = {}
        self._body = bytearray()
        self._left = 0  # octets of a body whose length is known, or of a chunk
        self._next: Callable[[], bool] = self._read_status
        self._ended = False

    def feed(self, octets: bytes) -> Answer | None:
        """The answer, when it is complete. Raises BadAnswer."""
        self._buffer.feed(octets)
        try:
            while not self._ended and self._next():
                pass
        except LineTooLong:
            raise BadAnswer("endless header line") from None
        if self._buffer.discarded:
            raise BadAnswer("endless header line")
        return self._answer() if self._ended else None

    def end(self) -> Answer:
        """The server has closed. Raises BadAnswer where there was more to come."""
        if not self._ended and self._next != self._read_to_the_end:
            raise BadAnswer("connection closed too early")
        return self._answer()

    def _answer(self) -> Answer:
        media_type = self._fields.get(b"content-type", b"").partition(b";")[0].strip().lower()
        return Answer(self._status, media_type.decode("ascii", "replace"), bytes(self._body))

    def _line(self) -> bytes | None:
        line = self._buffer.next_line()
        self._head += len(line or b"")
        if self._head > _HEAD:
            raise BadAnswer("header is too large")
        return line

    # --- What may come next; each is true when it has got further ----------------------------------------------------

    def _read_status(self) -> bool:
        line = self._line()
        if line is None:
            return False
        found = _STATUS.fullmatch(line)
        if found is None:
            raise BadAnswer("no HTTP")
        self._status = int(found[1])
        self._fields.clear()
        self._next = self._read_field
        return True

    def _read_field(self) -> bool:
        line = self._line()
        if line is None:
            return False
        if line:
            name, colon, value = line.partition(b":")
            if colon:
                self._fields.setdefault(name.lower(), value.strip(b" \t"))
            return True
        if self._status < 200:
            self._interim += 1
            if self._interim > _INTERIM or self._status == 101:
                raise BadAnswer("no answer but promises")
            self._next = self._read_status
            return True
        self._begin_body()
        return True

    def _begin_body(self) -> None:
        """RFC 9112 6.3."""
        coding = self._fields.get(b"transfer-encoding", b"").lower()
        length = self._fields.get(b"content-length", b"")
        if self._fields.get(b"content-encoding", b"identity").lower() != b"identity" or coding not in (b"", b"chunked"):
            raise BadAnswer("body in a coding that was not asked for")
        if self._status in (204, 304):
            self._ended = True
        elif coding:
            self._next = self._read_chunk_size
        elif not length:
            self._next = self._read_to_the_end
        elif length.isdigit() and len(length) < 20:
            self._left = self._allowed(int(length))
            self._next = self._read_body
        else:
            raise BadAnswer("no length")

    def _allowed(self, more: int) -> int:
        if len(self._body) + more > self._limit:
            raise BadAnswer(f"body of more than {self._limit} octets")
        return more

    def _read_body(self) -> bool:
        octets = self._buffer.take(self._left)
        self._body += octets
        self._left -= len(octets)
        self._ended = not self._left
        return False

    def _read_to_the_end(self) -> bool:
        octets = self._buffer.take_all()
        self._allowed(len(octets))
        self._body += octets
        return False

    def _read_chunk_size(self) -> bool:
        line = self._line()
        if line is None:
            return False
        size = line.partition(b";")[0].strip(b" \t")
        if not _SIZE.fullmatch(size):
            raise BadAnswer("chunk without size")
        self._left = self._allowed(int(size, 16))
        self._next = self._read_chunk if self._left else self._read_trailer
        return True

    def _read_chunk(self) -> bool:
        octets = self._buffer.take(self._left)
        self._body += octets
        self._left -= len(octets)
        if self._left:
            return False
        self._next = self._read_chunk_end
        return True

    def _read_chunk_end(self) -> bool:
        line = self._line()
        if line is None:
            return False
        if line:
            raise BadAnswer("chunk is longer than it says")
        self._next = self._read_chunk_size
        return True

    def _read_trailer(self) -> bool:
        line = self._line()
        self._ended = line == b""
        return bool(line)
