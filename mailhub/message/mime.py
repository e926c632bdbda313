"""The MIME part tree as octet offsets (RFC 2045, RFC 2046): one iterative scan, no part is copied.

The tree is flat: parts in the order of the message, each with the number of parts below it, so that nothing that walks
it recurses. Broken MIME gives a tree as well, and always one that IMAP can say: a multipart has at least one child, a
message/rfc822 has exactly one. Where a multipart cannot be opened (no boundary, none found, nested too deep), its one
child is the whole body; where a limit ends the scan, the rest of each open multipart is one opaque part.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache
from typing import NamedTuple

import attrs

from mailhub.message.header import FIELD_LIMIT, HEADER_LIMIT, Header, Octets, header_end, whole_fields
from mailhub.message.parameters import Parameterised, parse

DEPTH_LIMIT = 100  # multiparts and messages inside each other
PART_LIMIT = 5_000
LINE_LIMIT = 50_000  # header fields of all parts together that are looked at
BOUNDARY_LIMIT = 998  # octets; RFC 2046 5.1.1 allows 70, a line holds no more than this
TOKEN_LIMIT = 127  # octets of a type, a subtype (RFC 6838 4.2), an encoding or a charset name

# Work that a message may cause, in octets searched: each level of nesting searches its octets once more.
_WORK_PER_OCTET = 16
_WORK_BASE = 8 << 20
_WORK_PER_LINE = 256  # one that is a delimiter or begins like one

_FIRST_PIECE, _PIECE = 1 << 12, 1 << 17  # octets that are looked at together
_AFTER_BOUNDARY = re.compile(rb"(--)?[ \t\r]*+(?:\n|\Z)")  # some write CR CR LF
_TOKEN = re.compile(r"[!-'*+\-.0-9A-Z^-~]+", re.IGNORECASE)
_SHORT = 80  # octets
_USUAL_HEADER = 8192  # octets of one that is looked for by its empty line
_SUBTYPE_MISSING = {"text": "plain", "multipart": "mixed"}
_USUAL_ENCODINGS = {
    name.encode(): name.lower()
    for name in ("7bit", "8bit", "binary", "base64", "quoted-printable", "7BIT", "8BIT", "BASE64", "QUOTED-PRINTABLE")
}
_IDENTITY = ("7bit", "8bit", "binary")  # what multipart and message may be encoded as (RFC 2045 6.4)
# What octets are changed by. Everything else that is said (`8-bit`, `none`) is the identity.
_ENCODINGS = ("base64", "quoted-printable", "x-uuencode", "uuencode", "x-uue", "uue", "x-yencode")


class Part(NamedTuple):
    """One entity. Offsets are octets from the start of the message: header [start, body), body [body, end).

    `lines`: line ends in the body of a text or message/rfc822 part, else 0. `below`: parts inside this one.
    `type`: "text/plain", lower case. `encoding`: the Content-Transfer-Encoding, lower case. `charset`: of text, or "".
    """

    start: int
    body: int
    end: int
    lines: int
    below: int
    type: str
    encoding: str
    charset: str

    @property
    def is_multipart(self) -> bool:
        """Whether the children are body parts between delimiters."""
        return self.type.startswith("multipart/")

    @property
    def is_message(self) -> bool:
        """Whether the one child is a message of its own (RFC 2046 5.2.1)."""
        return self.type == "message/rfc822"


Tree = tuple[Part, ...]


class _Type(NamedTuple):
    """What a Content-Type says, and what `Part` has of it."""

    kind: Parameterised
    name: str
    charset: str


@attrs.frozen
class Scan:
    """What one pass over a message found: `headers[i]` and `types[i]` belong to `tree[i]`."""

    tree: Tree
    headers: list[Header]
    types: list[Parameterised]


def scan(octets: Octets, start: int = 0) -> Scan:
    """Find the parts of a message that begins at `start`; offsets are those in `octets`. Never fails; the cost is
    linear in its octets."""
    return _Scanner(octets).run(start)


def shifted(tree: Tree, by: int) -> Tree:
    """The tree with other offsets."""
    return tuple([part._replace(start=part.start + by, body=part.body + by, end=part.end + by) for part in tree])


def children(tree: Tree, index: int) -> Iterator[int]:
    """The indexes of the parts directly inside `tree[index]`."""
    child = index + 1
    last = index + tree[index].below
    while child <= last:
        yield child
        child += tree[child].below + 1


def encode(tree: Tree) -> bytes:
    """The tree as octets for a database column: a version, then a line a part."""
    lines = [
        f"{start} {body} {end} {count} {below} {kind} {encoding} {charset}"
        for start, body, end, count, below, kind, encoding, charset in tree
    ]
    return "\n".join(["1", *lines]).encode("ascii")


def decode(octets: bytes) -> Tree:
    """The tree that `encode` wrote. Raises ValueError for anything else."""
    version, *lines = octets.decode("ascii").split("\n")
    if version != "1" or not lines:
        raise ValueError("not an encoded part tree")
    parts = []
    for line in lines:
        start, body, end, count, below, kind, encoding, charset = line.split(" ")
        parts.append(Part(int(start), int(body), int(end), int(count), int(below), kind, encoding, charset))
    return tuple(parts)


@attrs.define
class _Open:
    """A part whose children are being read: a multipart, or (without a delimiter) a message around its one child."""

    index: int
    delimiter: bytes
    next: int  # where the next child begins, -1 when there is none
    end: int
    default: _Type


class _Scanner:
    def __init__(self, octets: Octets) -> None:
        self.octets = octets
        self.work = _WORK_PER_OCTET * len(octets) + _WORK_BASE
        self.lines_left = LINE_LIMIT
        self.parts: list[Part] = []
        self.headers: list[Header] = []
        self.types: list[Parameterised] = []
        self.open: list[_Open] = []

    def run(self, start: int) -> Scan:
        self._entity(start, len(self.octets), _TEXT_PLAIN)
        while self.open:
            top = self.open[-1]
            if top.next < 0:
                self._close(top)
            elif not top.delimiter:
                child, top.next = top.next, -1
                self._entity(child, top.end, _TEXT_PLAIN)
            else:
                self._child(top)
        return Scan(tuple(self.parts), self.headers, self.types)

    def _entity(self, start: int, end: int, default: _Type) -> None:
        """Add the part whose header begins at `start`, and open it when it holds others."""
        header, body = self._header(start, end)
        self.lines_left -= len(header)
        found = _content_type(header, default)
        kind = found.kind
        encoding = _encoding(header)
        family = kind.value
        if family == "multipart":
            self._add(start, body, end, found, "7bit" if encoding not in _IDENTITY else encoding, header)
            self._open_multipart(kind, body, end)
            return
        if found.name == "message/rfc822":
            if encoding not in _ENCODINGS and len(self.open) < DEPTH_LIMIT and self.work >= 0:
                self.open.append(_Open(len(self.parts), b"", body, end, _TEXT_PLAIN))
            else:  # its name, under which it can be saved, stays
                found = _OPAQUE._replace(kind=_OPAQUE.kind._replace(parameters=kind.parameters))
        self._add(start, body, end, found, encoding, header)

    def _header(self, start: int, end: int) -> tuple[Header, int]:
        """The header of the part [start, end), and where its body begins."""
        limit = min(self.lines_left, FIELD_LIMIT)
        # Nearly always there are fields up to an empty line: then they are read once, and nothing is looked for.
        empty = self.octets.find(b"\r\n\r\n", start, min(end, start + _USUAL_HEADER))
        if empty > 0:
            header = Header(self.octets[start : empty + 4], limit)
            if header.is_whole and len(header) < limit:
                return header, empty + 4
        body = header_end(self.octets, start, end)
        return Header(whole_fields(self.octets[start : min(body, start + HEADER_LIMIT + 1)]), limit), body

    def _add(self, start: int, body: int, end: int, found: _Type, encoding: str, header: Header) -> None:
        counted = found.kind.value == "text" or found.name == "message/rfc822"
        lines = self._count_lines(body, end) if counted else 0
        self.parts.append(Part(start, body, end, lines, 0, found.name, encoding, found.charset))
        self.headers.append(header)
        self.types.append(found.kind)

    def _leaf(self, start: int, end: int, found: _Type) -> None:
        """Add a part without a header of its own."""
        self._add(start, start, end, found, "7bit", Header(b""))

    def _open_multipart(self, kind: Parameterised, body: int, end: int) -> None:
        default = _MESSAGE if kind.subvalue == "digest" else _TEXT_PLAIN
        boundary = (kind.raw("boundary") or b"").rstrip()
        delimiter = b"\n--" + boundary
        if boundary and self.open and self.open[-1].delimiter == delimiter:
            # Its own first delimiter was taken for the end.
            body = header_end(self.octets, self.parts[-1].start, self.open[-1].end)
            end = self._share(self.open[-1], body)
            self.parts[-1] = self.parts[-1]._replace(body=body, end=end)
        top = _Open(len(self.parts) - 1, delimiter, -1, end, default)
        self.open.append(top)
        if len(self.open) > DEPTH_LIMIT:
            self._leaf(body, end, _OPAQUE)
            return
        # The line end before the first delimiter is the empty line's own.
        found = self._delimiter(top, body - 1) if 0 < len(boundary) <= BOUNDARY_LIMIT else None
        if found is None or found[2]:
            self._leaf(body, end, _TEXT_PLAIN)
        else:
            top.next = found[1]

    def _share(self, outer: _Open, body: int) -> int:
        """Where a multipart ends that has the boundary of the one around it, which RFC 2046 5.1.1 forbids.

        Delimiters are the inner one's up to the one that closes it, or to the last of several; what comes after it is
        the outer one's again, so that every part can be reached. The last one of all closes the outer one.
        """
        outer.next = -1
        closing = 0
        end = outer.end
        found = self._delimiter(outer, body - 1)
        while found is not None:
            if found[2]:
                closing += 1
            if closing > found[2]:  # one before this one
                end = max(body, self._before_line_end(found[0]))
            if closing and not found[2]:
                outer.next = -1 if found[1] >= outer.end else found[1]
                break
            found = self._delimiter(outer, found[1] - 1)
        return end

    def _child(self, top: _Open) -> None:
        """Add the child that begins at `top.next`, and find where the following one does."""
        start = top.next
        found = self._delimiter(top, start - 1)
        end = top.end if found is None else max(start, self._before_line_end(found[0]))
        top.next = -1 if found is None or found[2] or found[1] >= top.end else found[1]
        if len(self.parts) >= PART_LIMIT or self.work < 0:
            top.next = -1
            self._leaf(start, top.end, _OPAQUE)
        else:
            self._entity(start, end, top.default)

    def _close(self, top: _Open) -> None:
        self.open.pop()
        part = self.parts[top.index]
        self.parts[top.index] = part._replace(below=len(self.parts) - top.index - 1)

    def _delimiter(self, top: _Open, position: int) -> tuple[int, int, bool] | None:
        """The next delimiter line: offsets of the line end before it and after its own, and whether it closes."""
        while self.work >= 0:
            found = _find(self.octets, top.delimiter, position, top.end)
            self.work -= (top.end if found < 0 else found) - position + _WORK_PER_LINE
            if found < 0:
                return None
            if after := _AFTER_BOUNDARY.match(self.octets, found + len(top.delimiter), top.end):
                return found, after.end(), after[1] is not None
            position = found + 1
        return None

    def _before_line_end(self, position: int) -> int:
        return position - 1 if self.octets[position - 1 : position] == b"\r" else position

    def _count_lines(self, start: int, end: int) -> int:
        self.work -= end - start
        lines = 0
        for block in range(start, end, _PIECE):
            # replace() goes from line end to line end, where count() looks at every octet.
            piece = self.octets[block : min(block + _PIECE, end)]
            lines += len(piece) - len(piece.replace(b"\n", b""))
        return lines


def _find(octets: Octets, sought: bytes, start: int, end: int) -> int:
    """As find(), which in a file compares octet by octet and takes many times longer than in memory: so it is read in
    pieces, small ones first, because most delimiters come soon."""
    if isinstance(octets, bytes):
        return octets.find(sought, start, end)
    more, size = len(sought) - 1, _FIRST_PIECE
    while start < end:
        found = octets[start : min(start + size + more, end)].find(sought)
        if found >= 0:
            return start + found
        start += size
        size = min(2 * size, _PIECE)
    return -1


def _content_type(header: Header, default: _Type) -> _Type:
    """RFC 2045 5.2: without a Content-Type that can be read a part is plain text, or what its parent says."""
    body = header.first(b"content-type")
    if body is None:
        return default
    return _read_short(body) if len(body) <= _SHORT else _read(body)


def _read(body: bytes) -> _Type:
    kind = parse(body)
    if kind is None or not _is_name(kind.value):
        return _TEXT_PLAIN
    if not kind.subvalue and kind.value in _SUBTYPE_MISSING:
        kind = kind._replace(subvalue=_SUBTYPE_MISSING[kind.value])
    return _typed(kind) if _is_name(kind.subvalue) else _TEXT_PLAIN


# A few values make up most of all mail.
_read_short = lru_cache(maxsize=512)(_read)


def _typed(kind: Parameterised) -> _Type:
    charset = _charset(kind.raw("charset") or b"") if kind.value == "text" else ""
    return _Type(kind, f"{kind.value}/{kind.subvalue}", charset)


def _encoding(header: Header) -> str:
    body = header.first(b"content-transfer-encoding")
    if body is None:
        return "7bit"
    usual = _USUAL_ENCODINGS.get(body) or _USUAL_ENCODINGS.get(body.strip(b"\"'").lower())
    if usual is not None:
        return usual
    kind = parse(body)
    return kind.value if kind is not None and _is_name(kind.value) else "7bit"


def _charset(octets: bytes) -> str:
    text = octets.decode("latin-1").lower()
    return text if _is_name(text) else "".join(_TOKEN.findall(text[:TOKEN_LIMIT]))


def _is_name(text: str) -> bool:
    return len(text) <= TOKEN_LIMIT and _TOKEN.fullmatch(text) is not None


_TEXT_PLAIN = _typed(Parameterised("text", "plain", (("charset", b"us-ascii"),)))
_MESSAGE = _typed(Parameterised("message", "rfc822"))
_OPAQUE = _typed(Parameterised("application", "octet-stream"))
