"""The header section as an index over raw octets (RFC 5322 2.2), tolerant of anything that is sent as one.

The header ends at the first empty line, or with the octets. A line that is neither a field nor a continuation belongs
to no field and is passed over. Lines end with CRLF; a bare LF is taken for one, because APPEND may bring it.
"""

from __future__ import annotations

import mmap
import re
from collections.abc import Container, Iterable, Iterator
from itertools import islice
from typing import NamedTuple

# A message: in memory, or a file mapped into it.
Octets = bytes | mmap.mmap

HEADER_LIMIT = 1 << 20  # octets of one header that are indexed; offsets stay right beyond it
FIELD_LIMIT = 10_000  # fields (and lines that are none) of one header that are indexed
VALUE_LIMIT = 1 << 18  # octets of one field body that are looked at

# RFC 5322 2.2 field-name: printable US-ASCII except colon; obs- syntax has white space before the colon (4.5.3).
# Possessive throughout, so that no input makes it go back. The other branches are a line that is no field.
_FIELD = re.compile(rb"(([!-9;-~]++)[ \t]*+:([^\n]*+(?:\n[ \t][^\n]*+)*)\n?)|[^\n]*+\n|[^\n]++")
_SMALL = 1 << 16  # octets that are taken apart in one step


class Field(NamedTuple):
    """One field: its name in lower case, its raw octets with the line ends, its body after the colon."""

    name: bytes
    octets: bytes
    body: bytes


class Header:
    """The index of one header: its fields in order, and their bodies by name."""

    __slots__ = ("_first", "_found", "_repeated")

    def __init__(self, raw: bytes, limit: int = FIELD_LIMIT) -> None:
        """`raw`: the header's octets, with or without the empty line; what is beyond `limit` is not indexed."""
        if len(raw) <= _SMALL:
            found = _FIELD.findall(raw)[:limit]
        else:
            found = [match.groups(b"") for match in islice(_FIELD.finditer(raw, 0, HEADER_LIMIT), limit)]
        self._found: list[tuple[bytes, bytes, bytes]] = found
        self._first: dict[bytes, bytes] = {}
        self._repeated: dict[bytes, list[bytes]] = {}
        first = self._first
        for _, name, body in found:
            name = name.lower()
            if name not in first:
                first[name] = body
            elif name in self._repeated:
                self._repeated[name].append(body)
            else:
                self._repeated[name] = [first[name], body]

    def __len__(self) -> int:
        """How many fields there are, lines that are none included."""
        return len(self._found)

    @property
    def fields(self) -> list[Field]:
        """All fields, in the order of the message."""
        return [Field(name.lower(), octets, body) for octets, name, body in self._found if name]

    def count(self, name: bytes) -> int:
        """How many fields of this name (in lower case) there are."""
        return len(self._repeated[name]) if name in self._repeated else int(name in self._first)

    def has_any(self, names: Iterable[bytes]) -> bool:
        """Whether there is a field of any of these names (in lower case)."""
        return not self._first.keys().isdisjoint(names)

    def first(self, name: bytes) -> bytes | None:
        """The unfolded body of the first field of this name (in lower case), None without one."""
        body = self._first.get(name)
        return None if body is None else unfold(body)

    def all(self, name: bytes) -> list[bytes]:
        """The unfolded bodies of all fields of this name (in lower case)."""
        if name in self._repeated:
            return [unfold(body) for body in self._repeated[name]]
        return [unfold(self._first[name])] if name in self._first else []

    def joined(self, name: bytes) -> bytes | None:
        """The bodies of all fields of this name as one comma-separated list, None without one; not cut.

        For address fields: a repeated To (RFC 5322 4.5.3) is read as one.
        """
        if name in self._repeated:
            return _one_line(b", ".join([body.strip() for body in self._repeated[name]]))
        body = self._first.get(name)
        return None if body is None else _one_line(body)

    def octets(self, names: Container[bytes]) -> bytes:
        """The raw fields of these names (in lower case), in the order of the message."""
        return b"".join([octets for octets, name, _ in self._found if name.lower() in names])


def unfold(body: bytes) -> bytes:
    """A field body as one line without the white space around it (RFC 5322 2.2.3).

    Folding white space, however much, is one space: programs fold in different places and with tabs, and a reader sees
    one space.
    Of one that is larger than VALUE_LIMIT the words that fit, so that no word, address or encoded word is cut in two.
    """
    body = _one_line(body)
    if len(body) <= VALUE_LIMIT:
        return body
    end = max(body.rfind(b" ", 0, VALUE_LIMIT + 1), body.rfind(b"\t", 0, VALUE_LIMIT + 1))
    if end < 0:
        end = VALUE_LIMIT
        while end > VALUE_LIMIT - 4 and body[end] & 0xC0 == 0x80:  # within a character of UTF-8
            end -= 1
    return body[:end].rstrip(b" \t")


def _one_line(body: bytes) -> bytes:
    if b"\n" in body:
        lines = [line.strip(b" \t\r") for line in body.split(b"\n")]
        body = b" ".join([line for line in lines if line])
    return body.strip(b" \t\r\n")


def whole_fields(raw: bytes, limit: int = HEADER_LIMIT) -> bytes:
    """A header, or of a larger one the fields that are whole in its first `limit` octets."""
    if len(raw) <= limit:
        return raw
    end = raw.rfind(b"\n", 0, limit) + 1
    while end and raw[end : end + 1] in (b" ", b"\t"):
        end = raw.rfind(b"\n", 0, end - 1) + 1
    return raw[:end]


def header_end(octets: Octets, start: int, end: int) -> int:
    """The offset after the empty line that ends the header which begins at `start`; `end` without such a line."""
    if octets[start : start + 2] == b"\r\n":
        return min(start + 2, end)
    if octets[start : start + 1] == b"\n":
        return min(start + 1, end)
    crlf = octets.find(b"\n\r\n", start, end)
    bare = octets.find(b"\n\n", start, end if crlf < 0 else crlf)
    if bare >= 0:
        return bare + 2
    return crlf + 3 if crlf >= 0 else end


def raw_fields(raw: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Every line group of a header, without any limit: (name in lower case, raw octets).

    The name is empty for what is no field, the empty line at the end included. The octets joined are `raw` again.
    """
    for match in _FIELD.finditer(raw):
        yield (match[2] or b"").lower(), match[0]


def select(raw: bytes, names: Container[bytes]) -> bytes:
    """The fields of these names (in lower case) and an empty line: HEADER.FIELDS (RFC 3501 6.4.5)."""
    # Not by raw_fields(): twice as fast, which counts for the header of a hostile message.
    fields = [match[0] for match in _FIELD.finditer(raw) if (name := match[2]) and name.lower() in names]
    return b"".join(fields) + b"\r\n"


def omit(raw: bytes, names: Container[bytes]) -> bytes:
    """All fields but those of these names (in lower case), and an empty line: HEADER.FIELDS.NOT (RFC 3501 6.4.5)."""
    fields = [match[0] for match in _FIELD.finditer(raw) if (name := match[2]) and name.lower() not in names]
    return b"".join(fields) + b"\r\n"
