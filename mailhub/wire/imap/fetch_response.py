"""FETCH responses (RFC 3501 7.4.2) out of index rows, digests and, where it must be, the message's octets.

Nothing is read here: a response is a list of pieces, octets to send and spans of the message to be sent between them,
so that a section of many megabytes is never held in memory.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import lru_cache

import attrs

from mailhub.message import dates, header, mime
from mailhub.message.digest import USUAL_FIELDS
from mailhub.message.record import DigestColumns, DigestName, Entry
from mailhub.message.section import locate
from mailhub.message.structure import without_extensions
from mailhub.wire.imap.commands import FetchAttribute, FetchItem, Section
from mailhub.wire.imap.view import Row


@attrs.frozen
class Span:
    """Octets of the message, from `start` on."""

    start: int
    length: int

    def part(self, offset: int, count: int) -> Span:
        """The octets that a partial fetch wants of it; none beyond its end."""
        offset = min(offset, self.length)
        return Span(self.start + offset, min(count, self.length - offset))

    def of(self, octets: bytes) -> bytes:
        """Where the octets of the whole message are here."""
        return octets[self.start : self.start + self.length]


Piece = bytes | Span
Headers = Mapping[Span, bytes]

_DAY = 86400  # seconds
_UID_FLAGS = {FetchAttribute.UID, FetchAttribute.FLAGS}


Word = Callable[[Row, DigestColumns], bytes]


@lru_cache(maxsize=1024)
def _day(days: int) -> bytes:
    return dates.format_imap(days * _DAY)[:11].encode()


def _internal_date(row: Row, columns: DigestColumns) -> bytes:
    days, seconds = divmod(row[1].internal_date, _DAY)
    minutes, second = divmod(seconds, 60)
    return b'INTERNALDATE "%b %02d:%02d:%02d +0000"' % (_day(days), *divmod(minutes, 60), second)


_WORDS: dict[FetchAttribute, Word] = {
    FetchAttribute.FLAGS: lambda row, columns: b"FLAGS " + row[2],
    FetchAttribute.UID: lambda row, columns: b"UID %d" % row[1].uid,
    FetchAttribute.INTERNALDATE: _internal_date,
    FetchAttribute.RFC822_SIZE: lambda row, columns: b"RFC822.SIZE %d" % row[1].size,
    FetchAttribute.ENVELOPE: lambda row, columns: b"ENVELOPE " + columns["envelope"][row[1][0]],
    FetchAttribute.BODYSTRUCTURE: lambda row, columns: b"BODYSTRUCTURE " + columns["bodystructure"][row[1][0]],
    FetchAttribute.BODY: lambda row, columns: b"BODY " + without_extensions(columns["bodystructure"][row[1][0]]),
}
_COLUMNS: dict[FetchAttribute, DigestName] = {
    FetchAttribute.ENVELOPE: "envelope",
    FetchAttribute.BODYSTRUCTURE: "bodystructure",
    FetchAttribute.BODY: "bodystructure",
}


def _usual_fields(section: Section) -> Word:
    """HEADER.FIELDS as `header.select` gives it, from the digest's copy of the usual fields, which are well-formed."""
    names = b"|".join(re.escape(name) for name in sorted(section.fields))
    pattern = re.compile(rb"^(?:%b)[ \t]*+:[^\n]*+(?:\n[ \t][^\n]*+)*\n?" % names, re.IGNORECASE | re.MULTILINE)

    def word(row: Row, columns: DigestColumns) -> bytes:
        chosen = b"".join(pattern.findall(columns["fields"][row[1][0]])) + b"\r\n"
        return section.label + b" " + _literal(_part(chosen, section.partial))

    return word


def _column(section: Section) -> DigestName | None:
    """What it takes of the digest to find a section."""
    if _in_digest(section):
        return "fields"
    if section.path:
        return "parts"
    return "header_size" if section.text else None


class FetchPlan:
    """What one FETCH asks for, and what it takes to answer.

    `words` of a response need no octets of the message, `sections` do. `wanted` are the columns of digests.
    """

    def __init__(self, items: Sequence[FetchItem]) -> None:
        attributes = [item for item in items if isinstance(item, FetchAttribute)]
        attributes.sort(key=lambda attribute: attribute is not FetchAttribute.UID)
        sections = [item for item in items if isinstance(item, Section)]
        usual = [section for section in sections if _in_digest(section)]
        self.sections = [section for section in sections if section not in usual]
        names = [_COLUMNS.get(attribute) for attribute in attributes] + [_column(section) for section in sections]
        self.wanted = frozenset(name for name in names if name is not None)
        self.sets_seen = any(not section.peek for section in sections)
        self.tells_flags = FetchAttribute.FLAGS in attributes
        self._attributes = set(attributes)
        self._words = [_WORDS[attribute] for attribute in attributes] + [_usual_fields(section) for section in usual]

    def lines(self, rows: Iterable[Row], columns: DigestColumns) -> bytes:
        """The complete responses for several messages; for plans without `sections`."""
        if self._attributes == _UID_FLAGS and len(self._words) == 2:
            return b"".join([b"* %d FETCH (UID %d FLAGS %b)\r\n" % (n, entry[0], flags) for n, entry, flags in rows])
        if len(self._words) == 1:
            (word,) = self._words
            return b"".join([b"* %d FETCH (%b)\r\n" % (row[0], word(row, columns)) for row in rows])
        words = self._words
        return b"".join(
            [b"* %d FETCH (%b)\r\n" % (row[0], b" ".join([word(row, columns) for word in words])) for row in rows]
        )

    def whole(self, row: Row, columns: DigestColumns, octets: bytes, *, seen_now: bool = False) -> bytes:
        """The complete response for one small message whose `octets` are all here, of any plan."""
        values = [section.label + b" " + _Value(section, row[1], columns).literal(octets) for section in self.sections]
        return b"* %d FETCH (%b)\r\n" % (row[0], b" ".join([*self._render(row, columns, seen_now), *values]))

    def answer(self, entry: Entry, columns: DigestColumns) -> Sections:
        """What the message itself has to give for the response, of any plan. It comes after `head`."""
        return Sections([_Value(section, entry, columns) for section in self.sections])

    def head(self, row: Row, columns: DigestColumns, *, seen_now: bool = False) -> bytes:
        """The beginning of a response, to be made when it is sent: flags change while octets are read. `seen_now`:
        \\Seen was just set, so tell the flags."""
        words = b" ".join(self._render(row, columns, seen_now))
        return b"* %d FETCH (%b%b" % (row[0], words, b" " if words and self.sections else b"")

    def _render(self, row: Row, columns: DigestColumns, seen_now: bool) -> list[bytes]:
        words = [word(row, columns) for word in self._words]
        if seen_now and not self.tells_flags:
            words.insert(0, b"FLAGS " + row[2])
        return words


class Sections:
    """The sections of a response for one message. Read `needed` from the message, then `pieces` can be had."""

    def __init__(self, values: list[_Value]) -> None:
        self._values = values

    @property
    def reads(self) -> bool:
        """Whether any octets of the message are wanted."""
        return any(value.reads for value in self._values)

    @property
    def needed(self) -> set[Span]:
        """Headers out of which single fields are wanted."""
        return {value.source for value in self._values if value.source is not None}

    def octets(self) -> bytes:
        """All of it where nothing of the message is wanted."""
        return b"".join(piece for piece in self.pieces({}) if isinstance(piece, bytes))

    def pieces(self, headers: Headers) -> Iterator[Piece]:
        """Everything after the response's head. `headers`: the octets of `needed`. To choose fields of a large one
        takes a while, so the caller gets a chance to pause after each choice."""
        pending = between = b""
        for value in self._values:
            pending += between + value.section.label + b" "
            content = value.content(headers)
            if isinstance(content, Span):
                yield pending + b"{%d}\r\n" % content.length
                yield content
                pending = b""
            elif value.source is not None:
                yield pending + content
                pending = b""
            else:
                pending += content
            between = b" "
        yield pending + b")\r\n"


class _Value:
    """The value of one section of one message.

    `_span` is where it stands, None if there is no such part; `source` is a header that must be read and filtered.
    """

    def __init__(self, section: Section, entry: Entry, columns: DigestColumns) -> None:
        self.section = section
        self.source: Span | None = None
        self._span = _locate(section, entry, columns)
        if self._span is not None and section.text.startswith("HEADER.FIELDS"):
            self.source = self._span.part(0, header.HEADER_LIMIT + 1)

    @property
    def reads(self) -> bool:
        return self._span is not None

    def content(self, headers: Headers) -> Piece:
        if self._span is None:
            return b"NIL"
        if self.source is not None:
            return _literal(_part(self._filtered(headers[self.source]), self.section.partial))
        span = self._span.part(*self.section.partial) if self.section.partial else self._span
        return span if span.length else _literal(b"")

    def literal(self, octets: bytes) -> bytes:
        """As `content`, out of the octets of the whole message."""
        content = self.content({self.source: self.source.of(octets)} if self.source else {})
        return _literal(content.of(octets)) if isinstance(content, Span) else content

    def _filtered(self, octets: bytes) -> bytes:
        choose = header.omit if self.section.text == "HEADER.FIELDS.NOT" else header.select
        return choose(header.whole_fields(octets), frozenset(self.section.fields))


def _part(octets: bytes, partial: tuple[int, int] | None) -> bytes:
    return octets if partial is None else octets[partial[0] : partial[0] + partial[1]]


def _literal(octets: bytes) -> bytes:
    # Of nothing, too: there are clients that look for the brace (fetchmail stops at a quoted string).
    return b"{%d}\r\n%b" % (len(octets), octets)


def _in_digest(section: Section) -> bool:
    """Whether the digest's own copy of the usual fields has all that is asked for."""
    return not section.path and section.text == "HEADER.FIELDS" and USUAL_FIELDS.issuperset(section.fields)


def _locate(section: Section, entry: Entry, columns: DigestColumns) -> Span | None:
    if not section.path and not section.text:
        return Span(0, entry.size)
    if not section.path:
        header_size = columns["header_size"][entry.uid]
        return Span(header_size, entry.size - header_size) if section.text == "TEXT" else Span(0, header_size)
    text = section.text
    if text == "HEADER.FIELDS" or text == "HEADER.FIELDS.NOT":
        text = "HEADER"
    found = locate(mime.decode(columns["parts"][entry.uid]), section.path, text)
    return None if found is None else Span(found[0], found[1] - found[0])
