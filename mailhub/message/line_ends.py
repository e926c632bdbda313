"""Octets on the wire of protocols whose lines end in CRLF alone (RFC 5322 2.3), whatever ends the lines as stored."""

from __future__ import annotations

from mailhub.message.header import Octets

_BLOCK = 1 << 20  # octets


def growth(octets: Octets) -> int:
    """How many octets more a message has when bare CR and bare LF become CRLF, NUL is dropped and the last line is
    ended: POP3 sends it so, and its sizes say so (RFC 1939 11). Dot-stuffing does not count. Below 0 with many NULs.

    0 for what came by SMTP; IMAP clients append lines with bare LF, and last lines without an end.
    """
    if isinstance(octets, bytes):
        if _only_crlf(octets):
            return 2 if octets and not octets.endswith(b"\n") else 0
        cr, lf, crlf, nul = (octets.count(each) for each in (b"\r", b"\n", b"\r\n", b"\0"))
    else:
        cr, lf, crlf, nul = _counts(octets)
    last = octets[-1:] if not nul else _last(octets)
    return cr + lf - 2 * crlf - nul + (2 if last and last not in b"\r\n" else 0)


def _only_crlf(octets: bytes) -> bool:
    """Nearly all mail is so, and this costs a third of counting: replace() goes from line end to line end, count()
    looks at every octet."""
    return octets.find(0) < 0 and octets.replace(b"\r", b"").replace(b"\n", b"\r\n") == octets


def _counts(octets: Octets) -> tuple[int, int, int, int]:
    """As above of a file, block by block: CR, LF, CRLF, NUL."""
    cr = lf = crlf = nul = 0
    before = b""
    for start in range(0, len(octets), _BLOCK):
        block = octets[start : start + _BLOCK]
        cr += block.count(b"\r")
        lf += block.count(b"\n")
        crlf += block.count(b"\r\n") + (before == b"\r" and block[:1] == b"\n")
        nul += block.count(b"\0")
        before = block[-1:]
    return cr, lf, crlf, nul


def _last(octets: Octets) -> bytes:
    """The last octet that is no NUL."""
    for end in range(len(octets), 0, -_BLOCK):
        if rest := octets[max(end - _BLOCK, 0) : end].rstrip(b"\0"):
            return rest[-1:]
    return b""
