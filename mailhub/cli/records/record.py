"""Records as a master file has them (RFC 1035 5)."""

from __future__ import annotations

import re
from collections.abc import Iterator

import attrs

TTL_SECONDS = 3600
STRING_LIMIT = 255  # octets of one character-string (RFC 1035 3.3)

_ESCAPED = re.compile(rb'["\\]|[^ -~]')


@attrs.frozen
class Record:
    """One record: `name` with A-labels and without the dot at its end, `data` as in a master file. `is_known`: nothing
    in it is to be filled in, which stands in angle brackets."""

    name: str
    type: str
    data: str
    is_known: bool = True

    def __str__(self) -> str:
        """For a person."""
        return f"{self.name}.  {self.type}  {self.data}"

    @property
    def in_zone(self) -> str:
        """For a master file; a comment where it has to be filled in."""
        return f"{'' if self.is_known else '; '}{self.name}. {TTL_SECONDS} IN {self.type} {self.data}"


def txt(name: str, text: str | bytes) -> Record:
    """A TXT record, in strings that are not too long."""
    octets = text.encode() if isinstance(text, str) else text
    return Record(name, "TXT", " ".join(_strings(octets)))


def _strings(octets: bytes) -> Iterator[str]:
    for start in range(0, len(octets) or 1, STRING_LIMIT):
        escaped = _ESCAPED.sub(_escape, octets[start : start + STRING_LIMIT])
        yield f'"{escaped.decode("ascii")}"'


def _escape(match: re.Match[bytes]) -> bytes:
    """A quote or backslash has a backslash before it, and of other octets the number is told (RFC 1035 5.1)."""
    octet = match[0]
    return b"\\" + octet if octet in b'"\\' else b"\\%03d" % octet[0]
