"""Texts as a master file has them (RFC 1035 5.1)."""

from __future__ import annotations

import re

STRING_LIMIT = 255  # octets of one character-string (RFC 1035 3.3)

_ESCAPED = re.compile(rb'["\\]|[^ -~]')


def character_strings(octets: bytes) -> list[str]:
    """The strings of a TXT record, quoted, at least one: none is too long."""
    starts = range(0, len(octets) or 1, STRING_LIMIT)
    parts = [_ESCAPED.sub(_escape, octets[start : start + STRING_LIMIT]) for start in starts]
    return [f'"{part.decode("ascii")}"' for part in parts]


def _escape(match: re.Match[bytes]) -> bytes:
    """A quote or backslash has a backslash before it, and of other octets the number is told."""
    octet = match[0]
    return b"\\" + octet if octet in b'"\\' else b"\\%03d" % octet[0]
