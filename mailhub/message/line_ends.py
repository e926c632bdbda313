"""Octets on the wire of protocols whose lines end in CRLF alone (RFC 5322 2.3), whatever ends the lines as stored."""

from __future__ import annotations

from collections.abc import Iterator
from io import IncrementalNewlineDecoder

from mailhub.message.header import Octets

_BLOCK = 1 << 17  # octets


class LineEnds:
    """Tells whether pieces of a text have only CRLF line ends and no NUL, at memory speed however short the lines are.

    The standard library's universal-newline decoder keeps the set of the line ends it has seen.
    """

    __slots__ = ("_decoder",)

    def __init__(self) -> None:
        self._decoder = IncrementalNewlineDecoder(None, translate=False)

    def clean(self, piece: bytes, *, last: bool = True) -> bool:
        """Whether all pieces up to this one are so. One that is not the `last` may end in the middle of a CRLF."""
        self._decoder.decode(piece.decode("latin-1"), final=last)
        return self._decoder.newlines in (None, "\r\n") and piece.find(0) < 0


def growth(octets: Octets, start: int = 0) -> int:
    """How many octets more a message, which begins at `start`, has when bare CR and bare LF become CRLF, NUL is dropped
    and the last line is ended: POP3 sends it so, and its sizes say so (RFC 1939 11). Dot-stuffing does not count. Below
    0 with many NULs.

    0 for what came by SMTP; IMAP clients append lines with bare LF, and last lines without an end.
    """
    if _only_crlf(octets, start):
        return 2 if len(octets) > start and octets[-1:] != b"\n" else 0
    cr, lf, crlf, nul = _counts(octets, start)
    last = octets[-1:] if not nul else _last(octets, start)
    return cr + lf - 2 * crlf - nul + (2 if last and last not in b"\r\n" else 0)


def _blocks(octets: Octets, start: int) -> Iterator[bytes]:
    """Of a file no more is in memory than one of them."""
    for block in range(start, len(octets), _BLOCK):
        yield octets[block : block + _BLOCK]


def _only_crlf(octets: Octets, start: int) -> bool:
    """Nearly all mail is so, and to count what ends its lines takes much longer."""
    ends = LineEnds()
    if isinstance(octets, bytes) and not start:
        return ends.clean(octets)
    for block in _blocks(octets, start):
        if not ends.clean(block, last=False):
            return False
    return ends.clean(b"")


def _counts(octets: Octets, start: int) -> tuple[int, int, int, int]:
    """CR, LF, CRLF, NUL."""
    cr = lf = crlf = nul = 0
    before = b""
    for block in _blocks(octets, start):
        cr += block.count(b"\r")
        lf += block.count(b"\n")
        crlf += block.count(b"\r\n") + (before == b"\r" and block[:1] == b"\n")
        nul += block.count(b"\0")
        before = block[-1:]
    return cr, lf, crlf, nul


def _last(octets: Octets, start: int) -> bytes:
    """The last octet that is no NUL."""
    for end in range(len(octets), start, -_BLOCK):
        if rest := octets[max(end - _BLOCK, start) : end].rstrip(b"\0"):
            return rest[-1:]
    return b""
