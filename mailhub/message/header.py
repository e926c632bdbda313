"""The header section as an index over raw octets (RFC 5322 2.2), tolerant of anything that is sent as one.

The header ends with the first line that is neither a field nor a continuation of one: mostly the empty line, which is
part of it; any other such line is the first of the body, as some devices and scripts send no empty line. What may stand
before the first field is a byte order mark and the "From " line of a mailbox file. The rule is kept here alone: the way
in, the part tree, IMAP and POP3 have their offsets from it. Lines end with CRLF; a bare LF is taken for one, because
APPEND may bring it.
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
_BEFORE_FIELDS = re.compile(rb"(\xef\xbb\xbf)?(>?From [^\n]*+\n(?=[!-9;-~]++[ \t]*+:))?")
_FIELD_NAME = re.compile(rb"[!-9;-~]++[ \t]*+:")
_NO_FIELD = re.compile(rb"\n(?![!-9;-~]++[ \t]*+:|[ \t])")  # a line end with the body, or nothing, after it
_MARK = b"\xef\xbb\xbf"  # UTF-8's byte order mark
_EMPTY_LINE = re.compile(rb"\r?\n|\r\Z")
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
        raw = raw.removeprefix(_MARK)
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

    @property
    def is_whole(self) -> bool:
        """Whether all lines were fields, up to an empty line that is the last one."""
        return self.count(b"") == 1 and not self._found[-1][1]

    def first(self, name: bytes) -> bytes | None:
        """The unfolded body of the first field of this name (in lower case), None without one."""
        body = self._first.get(name)
        if body is None or body.find(b"\n") >= 0 or len(body) > VALUE_LIMIT:
            return None if body is None else unfold(body)
        return body.strip(b" \t\r")

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
    if body.find(b"\n") >= 0:  # find(), for `in` takes octets for a number first, which is dear
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
    """The offset at which the body of the message or part [start, end) begins."""
    fields = fields_end(octets, start, end)
    empty = _EMPTY_LINE.match(octets, fields, end)
    return empty.end() if empty else fields


def fields_end(octets: Octets | bytearray, start: int, end: int, known: int = -1) -> int:
    """The offset after the last field of the message or part [start, end): of the empty line, if there is one.

    `known`: where a line end stands up to which all are fields, -1 for none.
    """
    if known < 0:
        first = _BEFORE_FIELDS.match(octets, start, end)
        known = first.end() if first else start
        if _FIELD_NAME.match(octets, known, end) is None:
            return start
    found = _NO_FIELD.search(octets, known, end)
    return found.end() if found else end


def raw_fields(raw: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Every line group of a header, without any limit: (name in lower case, raw octets).

    The name is empty for what is no field, the empty line at the end included. The octets joined are `raw` again.
    """
    if raw.startswith(_MARK):
        yield b"", _MARK
    for match in _FIELD.finditer(raw, _after_mark(raw)):
        yield (match[2] or b"").lower(), match[0]


def select(raw: bytes, names: Container[bytes]) -> bytes:
    """The fields of these names (in lower case) and an empty line: HEADER.FIELDS (RFC 3501 6.4.5)."""
    # Not by raw_fields(): twice as fast, which counts for the header of a hostile message.
    fields = [
        match[0] for match in _FIELD.finditer(raw, _after_mark(raw)) if (name := match[2]) and name.lower() in names
    ]
    return b"".join(fields) + b"\r\n"


def omit(raw: bytes, names: Container[bytes]) -> bytes:
    """All fields but those of these names (in lower case), and an empty line: HEADER.FIELDS.NOT (RFC 3501 6.4.5)."""
    fields = [
        match[0] for match in _FIELD.finditer(raw, _after_mark(raw)) if (name := match[2]) and name.lower() not in names
    ]
    return b"".join(fields) + b"\r\n"


def _after_mark(raw: bytes) -> int:
    return len(_MARK) if raw.startswith(_MARK) else 0


def without_mailbox_line(header: bytes) -> bytes:
    """A header that begins with a field: no byte order mark, and the line of a mailbox file as X-Mailbox-Line.

    For a header that comes to stand below other fields, which such a line would end.
    """
    match = _BEFORE_FIELDS.match(header)
    if match is None or not match[0]:
        return header
    return (b"X-Mailbox-Line: " + match[2] if match[2] else b"") + header[match.end() :]


def without_field(header: bytes, name: bytes) -> bytes:
    """The header without the fields of this name (in lower case)."""
    if name not in header.lower():
        return header
    return b"".join([octets for each, octets in raw_fields(header) if each != name])
