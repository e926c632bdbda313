"""Whether a message matches a SEARCH (RFC 3501 6.4.4), asked with as little of the message as will do.

A key is tried on the index row first, then with the digest, then with the header, then with the body. At each step the
answer may be "not known yet" (None); only then is the next, dearer thing fetched. Texts are compared as RFC 3501
asks, decoded and without regard to case; parts that are neither text nor message are not looked into.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from datetime import UTC, date, datetime
from enum import IntEnum
from typing import NamedTuple

import attrs

from mailhub.message import dates, mime, searchable
from mailhub.message.digest import USUAL_FIELDS
from mailhub.message.encoded_word import decode_words
from mailhub.message.flags import SYSTEM_FLAGS, Flags
from mailhub.message.header import Header, raw_fields, unfold
from mailhub.message.record import DigestColumns, DigestName, Entry
from mailhub.message.text import TextDecoder, fold
from mailhub.wire.imap import commands
from mailhub.wire.imap.commands import DateRelation, SearchKey
from mailhub.wire.imap.sets import Ranges

DAY = 86400  # seconds
WORK = 1 << 23  # characters searched before others get their turn
_SMALL = 1 << 16  # octets of a header that are decoded without a pause
FIELDS = 4000  # fields of a header, or addresses of a field, decoded before others get their turn


class Source(IntEnum):
    """What a key must know of a message, in the order of cost."""

    ROW = 0
    DIGEST = 1
    HEADER = 2
    BODY = 3


class Place(NamedTuple):
    """The fields of one name (in lower case), or what ENVELOPE has of them."""

    name: str
    envelope: bool = False


class Candidate:
    """One message under examination. Its sources are filled in one after the other as they are asked for."""

    __slots__ = (
        "_fields",
        "_folded",
        "_header",
        "_header_text",
        "_raw",
        "_surveyed",
        "_usual",
        "entry",
        "found",
        "header_size",
        "number",
        "parts",
        "recent",
    )

    def __init__(self, number: int, entry: Entry, recent: bool) -> None:
        self.number = number
        self.entry = entry
        self.recent = recent
        self.header_size = 0
        self.parts = b""
        self.found: set[str] | None = None
        self._fields: Header | None = None
        self._header: Header | None = None
        self._usual: bytes | None = None
        self._raw: bytes | None = None
        self._header_text: str | None = None
        self._folded: dict[Place, str] = {}
        self._surveyed: dict[Place | None, set[str]] = {}

    def has_digest(self, columns: DigestColumns) -> bool:
        """What a query wants of digests has been read; false if the message has gone."""
        uid = self.entry.uid
        if uid not in columns["fields"]:
            return False
        self._usual = columns["fields"][uid]
        self.header_size = columns.get("header_size", {}).get(uid, 0)
        self.parts = columns.get("parts", {}).get(uid, b"")
        return True

    def has_header(self, octets: bytes) -> None:
        """The header has been read."""
        self._raw = octets
        self._header = Header(octets)

    def known(self, name: str) -> Header | None:
        """A header in which the fields of this name are, if there are any; None before such a one has been read."""
        if self._header is not None:
            return self._header
        if self._usual is None or name.encode() not in USUAL_FIELDS:
            return None
        if self._fields is None:
            self._fields = Header(self._usual)
        return self._fields

    def place_has(self, place: Place, text: str) -> bool | None:
        """Whether this text stands in that place, None if that is not known yet."""
        if place in self._surveyed:
            return text in self._surveyed[place]
        header = self.known(place.name)
        if header is None:
            return None
        folded = self._text(header, place)
        return folded is not None and text in folded

    def _text(self, header: Header, place: Place) -> str | None:
        """What stands there, decoded and folded, None without such a field; kept, since a search may ask many times."""
        for _ in self._read(header, place):
            pass
        return self._folded.get(place)

    def _read(self, header: Header, place: Place) -> Iterator[None]:
        """Keep what stands there; a pause for every few addresses, of which there may be many."""
        name = place.name.encode()
        if place in self._folded or not header.count(name):
            return
        if not place.envelope:
            text = searchable.words(header.all(name))
        elif name == b"subject":
            text = searchable.words([header.first(name) or b""])
        else:
            lines = []
            for line in searchable.addresses(header.joined(name) or b""):
                lines.append(line)
                if len(lines) % FIELDS == 0:
                    yield
            text = "\n".join(lines)
        self._folded[place] = fold(text)

    def header_has(self, text: str) -> bool | None:
        """Whether the header has this text anywhere, None before it has been read."""
        if None in self._surveyed:
            return text in self._surveyed[None]
        if self._raw is None:
            return None
        if self._header_text is None:
            for _ in self.read_header():
                pass
        return self._header_text is not None and text in self._header_text

    def read_header(self) -> Iterator[None]:
        """Make one text of the whole header, once; a pause for every few fields, of which there may be many."""
        if self._raw is None or self._header_text is not None:
            return
        lines: list[str] = []
        for name, field in raw_fields(self._raw):
            if name:
                lines.append(fold(decode_words(unfold(field))))
                if len(lines) % FIELDS == 0:
                    yield
        self._header_text = "\n".join(lines)

    def survey(self, sought: Mapping[Place | None, Set[str]]) -> Iterator[None]:
        """Find out which of many texts stand in which places (None: anywhere in the header), as far as those are
        known. There is a pause after every WORK characters; where there is little to do, nothing is done."""
        if self._octets() * sum(map(len, sought.values())) <= WORK and self._octets() <= _SMALL:
            return
        for place in sought:
            if place is None:
                yield from self.read_header()
            elif header := self.known(place.name):
                yield from self._read(header, place)
        texts = {place: text for place in sought if (text := self._unsurveyed(place)) is not None}
        work = sum(len(text) * len(sought[place]) for place, text in texts.items())
        if work <= WORK:
            return
        work = 0
        for place, text in texts.items():
            found = set()
            for wanted in sought[place]:
                if wanted in text:
                    found.add(wanted)
                work += len(text)
                if work > WORK:
                    work = 0
                    yield
            self._surveyed[place] = found

    def _octets(self) -> int:
        return len((self._usual if self._raw is None else self._raw) or b"")

    def _unsurveyed(self, place: Place | None) -> str | None:
        if place in self._surveyed:
            return None
        if place is None:
            return self._header_text
        header = self.known(place.name)
        return None if header is None else self._text(header, place)


Test = Callable[[Candidate], bool | None]


class Query:
    """A search key made ready for one mailbox of `count` messages, the last of which has the UID `last_uid`.

    `source` is the dearest thing it may need; `texts` are what the body is searched for, folded; `weight` is the
    number of tests a message may have to stand; `wanted` is what of digests is asked for, `sought` are the texts by
    place, those for the whole header under None.
    """

    def __init__(self, key: SearchKey, count: int, last_uid: int) -> None:
        self._count = count
        self._last_uid = last_uid
        self.texts: set[str] = set()
        self.sought: dict[Place | None, set[str]] = {}
        self.weight = 0
        self.source, self._test = self._compile(key)

    @property
    def wanted(self) -> Sequence[DigestName]:
        """The columns of digests."""
        if self.source is Source.BODY:
            return "fields", "header_size", "parts"
        return ("fields", "header_size") if self.source is Source.HEADER else ("fields",)

    def check(self, candidate: Candidate) -> bool | None:
        """Whether the message matches; None if that takes a source it does not have yet."""
        return self._test(candidate)

    def _compile(self, key: SearchKey) -> tuple[Source, Test]:
        """The parser bounds the depth of keys (`search_grammar.DEPTH_LIMIT`), and so the depth of calls here."""
        self.weight += 1
        match key:
            case commands.And(keys):
                return self._combine(keys, _all_of)
            case commands.Or(keys):
                return self._combine(keys, _any_of)
            case commands.Not(inner):
                source, test = self._compile(inner)
                return source, _not(test)
            case commands.EnvelopeContains(name, text):
                return self._place_has(Place(name, envelope=True), fold(text))
            case commands.HeaderContains(name, text):
                return self._place_has(Place(name), fold(text))
            case commands.BodyContains(text):
                self.texts.add(fold(text))
                return Source.BODY, _body_contains(fold(text))
            case commands.TextContains(text):
                self.texts.add(fold(text))
                self.sought.setdefault(None, set()).add(fold(text))
                return Source.BODY, _text_contains(fold(text))
            case commands.SentDateIs(relation, day):
                return Source.DIGEST, _sent_on(relation, day)
            case commands.NumberIn(numbers):
                member = _member(numbers.resolve(self._count))
                return Source.ROW, lambda candidate: member(candidate.number)
            case commands.UidIn(uids):
                member = _member(uids.resolve(self._last_uid))
                return Source.ROW, lambda candidate: member(candidate.entry.uid)
            case _:
                return Source.ROW, _of_row(key)

    def _place_has(self, place: Place, text: str) -> tuple[Source, Test]:
        self.sought.setdefault(place, set()).add(text)
        source = Source.DIGEST if place.name.encode() in USUAL_FIELDS else Source.HEADER
        return source, lambda candidate: candidate.place_has(place, text)

    def _combine(self, keys: Iterable[SearchKey], make: Callable[[list[Test]], Test]) -> tuple[Source, Test]:
        compiled = sorted((self._compile(key) for key in keys), key=lambda pair: pair[0])
        return compiled[-1][0], make([test for _, test in compiled])


def _all_of(tests: list[Test]) -> Test:
    def test(candidate: Candidate) -> bool | None:
        known = True
        for each in tests:
            answer = each(candidate)
            if answer is False:
                return False
            known = known and answer is not None
        return True if known else None

    return test


def _any_of(tests: list[Test]) -> Test:
    def test(candidate: Candidate) -> bool | None:
        known = True
        for each in tests:
            answer = each(candidate)
            if answer:
                return True
            known = known and answer is not None
        return False if known else None

    return test


def _not(inner: Test) -> Test:
    def test(candidate: Candidate) -> bool | None:
        answer = inner(candidate)
        return None if answer is None else not answer

    return test


def _of_row(key: SearchKey) -> Test:
    match key:
        case commands.HasFlag(flag):
            return _has_flag(flag)
        case commands.IsRecent():
            return lambda candidate: candidate.recent
        case commands.Larger(size):
            return lambda candidate: candidate.entry.size > size
        case commands.Smaller(size):
            return lambda candidate: candidate.entry.size < size
        case commands.InternalDateIs(relation, day):
            first = int(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp())
            relate = _relation(relation, first, first + DAY)
            return lambda candidate: relate(candidate.entry.internal_date)
        case _:
            assert isinstance(key, commands.All)
            return lambda candidate: True


def _has_flag(flag: str) -> Test:
    if flag in SYSTEM_FLAGS:
        return lambda candidate: flag in candidate.entry.flags
    keyword = flag.lower()
    known: dict[Flags, bool] = {}  # a mailbox has few combinations of flags

    def test(candidate: Candidate) -> bool:
        flags = candidate.entry.flags
        if flags not in known:
            known[flags] = any(keyword == each.lower() for each in flags)
        return known[flags]

    return test


def _relation(relation: DateRelation, first: int, next_: int) -> Callable[[int], bool]:
    if relation is DateRelation.BEFORE:
        return lambda value: value < first
    if relation is DateRelation.SINCE:
        return lambda value: value >= first
    return lambda value: first <= value < next_


def _member(ranges: Ranges) -> Callable[[int], bool]:
    if len(ranges) == 1:
        ((low, high),) = ranges
        return lambda number: low <= number <= high
    starts = [low for low, _ in ranges]

    def member(number: int) -> bool:
        index = bisect_right(starts, number) - 1
        return index >= 0 and number <= ranges[index][1]

    return member


def _body_contains(text: str) -> Test:
    def test(candidate: Candidate) -> bool | None:
        return None if candidate.found is None else text in candidate.found

    return test


def _text_contains(text: str) -> Test:
    def test(candidate: Candidate) -> bool | None:
        if candidate.header_has(text):
            return True
        return None if candidate.found is None else text in candidate.found

    return test


def _sent_on(relation: DateRelation, day: date) -> Test:
    relate = _relation(relation, day.toordinal(), day.toordinal() + 1)

    def test(candidate: Candidate) -> bool | None:
        header = candidate.known("date")
        if header is None:
            return None
        value = header.first(b"date")
        sent = None if value is None else _day_as_written(value)
        return sent is not None and relate(sent)

    return test


def _day_as_written(value: bytes) -> int | None:
    """The ordinal of the day in a Date field."""
    day = dates.written_day(value.decode("utf-8", "replace"))
    return None if day is None else day.toordinal()


# --- the body --------------------------------------------------------------------------------------------------------


@attrs.frozen
class Stretch:
    """Octets [start, end) of the message that are text once decoded by `encoding` and `charset`.

    `is_header`: the header of a message or part inside.
    """

    start: int
    end: int
    encoding: str = ""
    charset: str = ""
    is_header: bool = False


def stretches(parts: bytes) -> list[Stretch]:
    """What BODY and TEXT look into besides the message's own header, in the order of the message."""
    found = []
    for index, part in enumerate(mime.decode(parts)):
        if index and part.body > part.start:
            found.append(Stretch(part.start, part.body, is_header=True))
        if part.type.startswith("text/") and part.end > part.body:
            found.append(Stretch(part.body, part.end, part.encoding, part.charset))
    return found


class Finder:
    """Looks for several texts at once in text that comes in pieces."""

    def __init__(self, texts: Iterable[str]) -> None:
        """`texts` are folded."""
        self.found: set[str] = {text for text in texts if not text}
        self._wanted = [text for text in texts if text]
        self._overlap = max((len(text) for text in self._wanted), default=1) - 1
        self._tail = ""

    @property
    def done(self) -> bool:
        """Everything has been found."""
        return not self._wanted

    def feed(self, text: str) -> Iterator[None]:
        """The next piece of the current stretch, not yet folded. There is a pause after every WORK characters."""
        folded = self._tail + fold(text)
        work = 0
        for wanted in self._wanted:
            if wanted in folded:
                self.found.add(wanted)
            work += len(folded)
            if work > WORK:
                work = 0
                yield
        self._wanted = [wanted for wanted in self._wanted if wanted not in self.found]
        self._tail = folded[-self._overlap :] if self._overlap else ""

    def end(self) -> None:
        """The next piece belongs to another stretch."""
        self._tail = ""


class HeaderDecoder:
    """Has the methods of `TextDecoder`, for the header of a part inside: its fields, decoded, in lines."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, octets: bytes) -> str:
        """The text of the next octets, cut where a field may end."""
        octets = self._rest + octets
        cut = _end_of_fields(octets)
        self._rest = octets[cut:]
        return _field_lines(octets[:cut])

    def finish(self) -> str:
        """The text that is left when no more octets come."""
        return _field_lines(self._rest)


def decoder(stretch: Stretch) -> TextDecoder | HeaderDecoder:
    """For the octets of one stretch, block by block."""
    return HeaderDecoder() if stretch.is_header else TextDecoder(stretch.encoding, stretch.charset)


def _end_of_fields(octets: bytes) -> int:
    """The offset after the last field that no continuation can follow; all of it where too much would be held back."""
    end = octets.rfind(b"\n", 0, len(octets) - 1) if octets else -1
    while end >= 0 and octets[end + 1] in b" \t":
        end = octets.rfind(b"\n", 0, end)
    return len(octets) if end < 0 and len(octets) > _SMALL else end + 1


def _field_lines(octets: bytes) -> str:
    return "\n".join([decode_words(unfold(field)) for _, field in raw_fields(octets)])
