"""Strings as IMAP writes them: quoted, or as a literal (RFC 3501 4.3)."""

from __future__ import annotations

import re

QUOTED_LIMIT = 1000  # octets; longer strings are literals

# RFC 3501 9 quoted: any CHAR (1-127) but CR and LF; " and \ escaped.
_NOT_PLAIN = re.compile(rb"[^\x01-\x09\x0b\x0c\x0e-!#-\[\]-\x7f]")
_NOT_QUOTABLE = re.compile(rb"[^\x01-\x09\x0b\x0c\x0e-\x7f]")
_TO_ESCAPE = re.compile(rb'(["\\])')


def is_plain(octets: bytes) -> bool:
    """Whether these octets, and so any part of them, need nothing but quotation marks around them."""
    return len(octets) <= QUOTED_LIMIT and _NOT_PLAIN.search(octets) is None


def string(octets: bytes) -> bytes:
    """A quoted string where that is possible, else a literal. NUL, which IMAP cannot say, becomes "?"."""
    if is_plain(octets):
        return b'"%b"' % octets
    if len(octets) <= QUOTED_LIMIT and _NOT_QUOTABLE.search(octets) is None:
        return b'"%b"' % _TO_ESCAPE.sub(rb"\\\1", octets)
    octets = octets.replace(b"\0", b"?")
    return b"{%d}\r\n%b" % (len(octets), octets)


def nstring(octets: bytes | None) -> bytes:
    """The string, or NIL."""
    return b"NIL" if octets is None else string(octets)
