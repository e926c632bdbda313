"""Aggregate reports of DMARC as others write them: by RFC 9990, by RFC 7489, and by what was before."""

from __future__ import annotations

import re
from collections.abc import Iterator
from ipaddress import ip_address
from typing import Any
from xml.parsers import expat

from mailhub.message import mime
from mailhub.message.dmarc_report import (
    TEXT_LIMIT,
    AggregateReport,
    Disposition,
    DkimResult,
    Published,
    Reason,
    Row,
    SpfResult,
)
from mailhub.message.encoded_word import decode_base64
from mailhub.message.unpacking import is_packed, unpacked

MESSAGE_LIMIT = 16 << 20  # octets of a message that a report is looked for in
REPORT_LIMIT = 16 << 20  # octets of a report, unpacked
ROWS_LIMIT = 50_000
COUNT_LIMIT = 10**12  # messages of one row

_ELEMENTS_LIMIT = 1_000_000
_DEPTH_LIMIT = 20
_PARTS_LIMIT = 20  # of a message that are looked at
_RESULTS_LIMIT = 10  # of one row that are kept
_BLOCK = 1 << 16
_UTF_16 = (b"\xff\xfe", b"\xfe\xff")
_NUMBER = re.compile(r"[0-9]{1,13}")
_SPACE = re.compile("[\t\r\n]+")
_LAST_MOMENT = 253_402_300_799  # the end of the year 9999
_XML = re.compile(rb"(?:\xef\xbb\xbf)?[ \t\r\n]*<(?:\?xml|(?:[\w.-]+:)?feedback)\b")
_TEXT_TYPES = ("text/plain", "text/html", "text/rfc822-headers")
_METADATA, _POLICY = "report_metadata/", "policy_published/"
# What is read of a report; it may have whatever else.
_ABOUT = frozenset(
    {_METADATA + name for name in ("org_name", "email", "report_id", "error", "generator")}
    | {_METADATA + name for name in ("date_range/begin", "date_range/end")}
    | {_POLICY + name for name in ("domain", "p", "sp", "np", "adkim", "aspf", "fo", "testing", "discovery_method")}
)
_OF_ROW = frozenset({"source_ip", "count", "header_from", "envelope_from", "envelope_to"})
_OF_GROUP = frozenset({"domain", "selector", "result", "type", "comment"})
_DISPOSITIONS: dict[str, Disposition] = {"pass": "pass", "quarantine": "quarantine", "reject": "reject"}


def read_report(octets: bytes) -> AggregateReport:
    """One in a file, packed or not. Raises ValueError with what is wrong."""
    document = unpacked(octets, REPORT_LIMIT)
    if not document.startswith(_UTF_16):
        document = document.rstrip(b"\0 \t\r\n")
    return _Reader().read(document)


def reports_in(message: bytes) -> Iterator[AggregateReport]:
    """Those in a mail message; attachments that are none are passed over."""
    for part in mime.scan(message).tree[:_PARTS_LIMIT]:
        if part.is_multipart or part.is_message or part.type in _TEXT_TYPES:
            continue
        octets = message[part.body : part.end]
        if part.encoding == "base64":
            octets = decode_base64(octets)
        if is_packed(octets) or _XML.match(octets):
            try:
                yield read_report(octets)
            except ValueError:
                continue


class _Reader:
    """One document. Neither a document type nor entities can be declared in it, and so nothing in it becomes more than
    it is."""

    def __init__(self) -> None:
        self._path: list[str] = []
        self._prefix = ""
        self._text: list[str] = []
        self._room = 0
        self._elements = 0
        self._about: dict[str, str] = {}
        self._row: dict[str, str] = {}
        self._group: dict[str, str] = {}  # of a <dkim>, <spf> or <reason>
        self._dkim: list[DkimResult] = []
        self._spf: list[SpfResult] = []
        self._reasons: list[Reason] = []
        self._rows: dict[Row, int] = {}
        self._unread = 0

    def read(self, octets: bytes) -> AggregateReport:
        """Raises ValueError."""
        parser: Any = expat.ParserCreate()
        parser.buffer_text = True
        parser.StartElementHandler = self._begin
        parser.EndElementHandler = self._end
        parser.CharacterDataHandler = self._characters
        parser.StartDoctypeDeclHandler = parser.EntityDeclHandler = _refused
        try:
            for start in range(0, len(octets), _BLOCK):
                parser.Parse(octets[start : start + _BLOCK], False)
            parser.Parse(b"", True)
        except (expat.ExpatError, LookupError, UnicodeError) as error:
            raise ValueError(f"is no XML: {error}") from None
        return self._report()

    def _report(self) -> AggregateReport:
        about = self._about
        begin = _number(about.get(_METADATA + "date_range/begin", ""), _LAST_MOMENT)
        end = _number(about.get(_METADATA + "date_range/end", ""), _LAST_MOMENT)
        domain = about.get(_POLICY + "domain", "").lower().rstrip(".")
        if not domain or not begin:
            raise ValueError("is no report of DMARC: says neither of whom nor of when it is")
        return AggregateReport(
            organization=about.get(_METADATA + "org_name", ""),
            contact=about.get(_METADATA + "email", ""),
            report_id=about.get(_METADATA + "report_id", ""),
            begin=begin,
            end=max(begin, end or 0),
            published=Published(
                domain,
                about.get(_POLICY + "p", "none"),
                about.get(_POLICY + "sp", ""),
                about.get(_POLICY + "np", ""),
                about.get(_POLICY + "adkim", ""),
                about.get(_POLICY + "aspf", ""),
                about.get(_POLICY + "fo", ""),
                about.get(_POLICY + "testing", ""),
                about.get(_POLICY + "discovery_method", ""),
            ),
            rows=tuple(self._rows.items()),
            error=about.get(_METADATA + "error", ""),
            generator=about.get(_METADATA + "generator", ""),
            unread=self._unread,
        )

    def _begin(self, name: str, _attributes: dict[str, str]) -> None:
        self._elements += 1
        if self._elements > _ELEMENTS_LIMIT or len(self._path) >= _DEPTH_LIMIT:
            raise ValueError("has too many elements, or too deep ones")
        if not self._path:
            prefix, colon, rest = name.rpartition(":")
            self._prefix, name = prefix + colon, rest
            if name != "feedback":
                raise ValueError("is no report of DMARC")
        elif self._prefix and name.startswith(self._prefix):
            name = name[len(self._prefix) :]
        self._path.append(name[:TEXT_LIMIT])
        self._text.clear()
        self._room = TEXT_LIMIT
        if len(self._path) == 2 and name == "record":
            self._row = {}
            self._dkim, self._spf, self._reasons = [], [], []
        elif name in ("dkim", "spf", "reason"):
            self._group = {}

    def _characters(self, text: str) -> None:
        if self._room > 0:
            self._text.append(text[: self._room])
            self._room -= len(text)

    def _end(self, _name: str) -> None:
        text = _SPACE.sub(" ", "".join(self._text)).strip(" ")
        self._text.clear()
        path = self._path
        depth = len(path)
        last = path.pop()
        if depth in (3, 4) and path[1] != "record":
            name = "/".join([*path[1:], last])
            if name in _ABOUT:
                self._about.setdefault(name, text)
        elif depth == 5 and last in ("disposition", "dkim", "spf") and path[2:] == ["row", "policy_evaluated"]:
            self._row[f"evaluated {last}"] = text
        elif depth == 4:
            self._end_of_four(path[2], last, text)
        elif depth in (5, 6):
            if last in _OF_GROUP:
                self._group[last] = text
            elif depth == 5 and last == "reason" and len(self._reasons) < _RESULTS_LIMIT:
                self._reasons.append(Reason(self._group.get("type", "").lower(), self._group.get("comment", "")))
        elif depth == 2 and last == "record":
            self._end_of_record()

    def _end_of_four(self, group: str, last: str, text: str) -> None:
        if group in ("row", "identifiers"):
            if last in _OF_ROW:
                self._row[last] = text
        elif group != "auth_results":
            return
        elif last == "dkim" and len(self._dkim) < _RESULTS_LIMIT:
            found = self._group
            names = found.get("domain", "").lower(), found.get("selector", "")
            self._dkim.append(DkimResult(*names, found.get("result", "").lower()))
        elif last == "spf" and len(self._spf) < _RESULTS_LIMIT:
            self._spf.append(SpfResult(self._group.get("domain", "").lower(), self._group.get("result", "").lower()))

    def _end_of_record(self) -> None:
        found = self._row
        count = _number(found.get("count", ""), COUNT_LIMIT)
        try:
            source = str(ip_address(found.get("source_ip", "")))
        except ValueError:
            source = ""
        if not source or not count:
            self._unread += 1
            return
        sender = found.get("envelope_from")
        row = Row(
            source=source,
            disposition=_DISPOSITIONS.get(found.get("evaluated disposition", "").lower(), "none"),
            dkim=found.get("evaluated dkim", "").lower() == "pass",
            spf=found.get("evaluated spf", "").lower() == "pass",
            reasons=tuple(self._reasons),
            header_from=found.get("header_from", "").lower(),
            envelope_from=None if sender is None else sender.lower(),
            envelope_to=found.get("envelope_to", "").lower(),
            dkim_results=tuple(self._dkim),
            spf_result=self._spf[0] if self._spf else None,
        )
        if row not in self._rows and len(self._rows) >= ROWS_LIMIT:
            raise ValueError("has too many rows")
        self._rows[row] = min(self._rows.get(row, 0) + count, COUNT_LIMIT)


def _refused(*_: object) -> None:
    raise ValueError("declares a document type, which no report does")


def _number(text: str, most: int) -> int | None:
    """None for what is no whole number, or more than that."""
    if not _NUMBER.fullmatch(text) or int(text) > most:
        return None
    return int(text)
