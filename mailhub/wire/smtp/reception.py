"""The message on its way in, after 354: dot stuffing off, line ends checked, sizes counted (RFC 5321 4.1.1.4)."""

from __future__ import annotations

from mailhub.wire.smtp.replies import Reply, reply
from mailhub.wire.stream import BareLines, DataDecoder

TOO_LARGE = reply(552, "5.3.4", "Message is too large")

_WIRE_SLACK = 1 << 16  # octets


class Reception:
    """One message of at most `size_limit` octets. `refusal`: what its end will be answered with, None while nothing is
    against it. Once `ended`, `rest` is what followed it. `wire_size` in octets as they came in."""

    def __init__(self, bare_lines: BareLines, size_limit: int) -> None:
        self._decoder = DataDecoder(bare_lines)
        self._limit = size_limit
        self._rejecting = bare_lines is BareLines.REJECT
        self._size = 0
        self.wire_size = 0
        self.refusal: Reply | None = None
        self.ended = False
        self.rest = b""

    def take(self, octets: bytes) -> bytes:
        """What octets from the wire add to the message; nothing once it is refused."""
        decoder = self._decoder
        chunk = decoder.feed(octets)
        self._size += len(chunk)
        self.wire_size += len(octets)
        if decoder.ended:
            self.ended, self.rest = True, decoder.rest
        if self.refusal is None:
            if decoder.violation and self._rejecting:
                text = f"Message has a {decoder.violation.value}; its lines must end with CRLF and have no NUL"
                self.refusal = reply(554, "5.6.0", text)
            elif self._size > self._limit:
                self.refusal = TOO_LARGE
        return b"" if self.refusal else chunk

    @property
    def endless(self) -> bool:
        """Whether to wait no longer for the end: what is refused is read so that the client hears it, not for ever."""
        return not self.ended and self.wire_size > 2 * self._limit + _WIRE_SLACK
