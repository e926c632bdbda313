"""Address lists of header fields (RFC 5322 3.4 with 4.4's obsolete forms), tolerant of anything that is sent as one.

One pass of a tokenizer whose patterns never go back, no recursion: 60 KB of commas, comments of any depth and
routes of any length cost what their octets cost.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import islice
from typing import NamedTuple

ADDRESS_LIMIT = 10_000  # addresses of one field that are read
TOKEN_LIMIT = 20_000  # tokens of one field that are read where its addresses are not of the usual form

MISSING_DOMAIN = b"MISSING_DOMAIN"
MISSING_MAILBOX = b"MISSING_MAILBOX"


class MailboxSpec(NamedTuple):
    """One element, as ENVELOPE's address structure has it (RFC 3501 7.4.2). Octets as they stand, quoting removed.

    `name`: display-name or None. `route`: the obsolete source route or None. A group begins with an element whose
    `domain` is None and whose `local` is the group's name, and ends with one in which all four are None.
    """

    name: bytes | None
    route: bytes | None
    local: bytes | None
    domain: bytes | None


GROUP_END = MailboxSpec(None, None, None, None)

# What nearly every element looks like, up to its comma or the end.
_USUAL = re.compile(
    rb"[ \t,]*+(?:(?:\"([^\"\\]*+)\"|([!#-'*+\-/-9=?A-Z^-~\x80-\xff]++(?:[ \t]++[!#-'*+\-/-9=?A-Z^-~\x80-\xff]++)*))?"
    rb"[ \t]*+<([!#-'*+\--9=?A-Z^-~\x80-\xff]++)@([0-9A-Za-z.\-\x80-\xff]++)>"
    rb"|([!#-'*+\--9=?A-Z^-~\x80-\xff]++)@([0-9A-Za-z.\-\x80-\xff]++))[ \t]*+(?:,|\Z)"
)
_TOKEN = re.compile(
    rb"(?P<space>[ \t\r\n]++)|(?P<quoted>\"(?:[^\"\\]++|\\.)*\"?)|(?P<comment>\()|(?P<literal>\[[^\[\]\\]*+\]?)"
    rb"|(?P<comma>,[, \t\r\n]*+)|(?P<special>[<>;:@])|(?P<atom>(?:[^\"()<>\[,;:@\\ \t\r\n]++|\\.?)+|.)",
    re.DOTALL,
)
_IN_COMMENT = re.compile(rb"[^()\\]++|\\.?|[()]", re.DOTALL)
_QUOTED_PAIR = re.compile(rb"\\(.)", re.DOTALL)


def parse(value: bytes) -> list[MailboxSpec]:
    """The elements of an unfolded address field, groups included (see MailboxSpec). Never fails."""
    found: list[MailboxSpec] = []
    position = 0
    while len(found) < ADDRESS_LIMIT:
        match = _USUAL.match(value, position)
        if match is None:
            break
        quoted, phrase, local, domain, bare_local, bare_domain = match.groups()
        found.append(MailboxSpec(quoted or phrase, None, local or bare_local, domain or bare_domain))
        position = match.end()
    if position < len(value):
        _Reader(found).read(value, position)
    return found


class _Reader:
    """Everything else: routes, groups, comments, quoting, and mistakes."""

    def __init__(self, found: list[MailboxSpec]) -> None:
        self.found = found
        self.in_group = False
        self._clear()

    def _clear(self) -> None:
        self.words: list[bytes] = []  # before "<": the phrase, or an address without brackets
        self.spec: list[bytes] = []  # the same without white space, then what is in the brackets
        self.at = -1  # index in spec of the last "@"
        self.route: bytes | None = None
        self.angle = False
        self.closed = False
        self.comment = b""

    def read(self, value: bytes, position: int) -> None:
        for kind, text in islice(_tokens(value, position), TOKEN_LIMIT):
            if kind == "special":
                self._special(text)
            elif kind == "comma":
                self._comma()
            elif kind == "comment":
                self.comment = text
            elif not self.closed:
                self._word(kind, text)
            if len(self.found) >= ADDRESS_LIMIT:
                break
        self._finish()
        if self.in_group:
            self.found.append(GROUP_END)

    def _word(self, kind: str, text: bytes) -> None:
        if kind == "space":
            if self.words and self.words[-1] != b" " and not self.angle:
                self.words.append(b" ")
            return
        if kind == "quoted":
            text = _unquoted(text)
        if not self.angle:
            self.words.append(text)
        self.spec.append(text)

    def _comma(self) -> None:
        if self.angle and not self.closed and self.spec[:1] == [b"@"]:
            self.spec.append(b",")  # inside a route: <@a,@b:user@c>
        else:
            self._finish()

    def _special(self, text: bytes) -> None:
        if text == b"<":
            self.angle, self.spec, self.at = True, [], -1
        elif text == b">":
            self.closed = self.angle
        elif text == b";":
            self._finish()
            if self.in_group:
                self.found.append(GROUP_END)
                self.in_group = False
        elif text == b":":
            self._colon()
        elif not self.closed:
            self.at = len(self.spec)
            self.spec.append(text)
            if not self.angle:
                self.words.append(text)

    def _colon(self) -> None:
        if self.angle:
            self.route = b"".join(self.spec) or None
            self.spec, self.at = [], -1
        elif not self.in_group and self.at < 0:
            self.found.append(MailboxSpec(None, None, _phrase(self.words), None))
            self.in_group = True
            self._clear()

    def _finish(self) -> None:
        """The end of an element: by comma, semicolon or the end of the field."""
        if self.spec or self.angle:
            at = self.at if self.at >= 0 else len(self.spec)
            local = b"".join(self.spec[:at]) or MISSING_MAILBOX
            domain = b"".join(self.spec[at + 1 :]) or MISSING_DOMAIN
            name = (_phrase(self.words) if self.angle else b"") or self.comment or None
            if not (self.angle and self.closed and not self.spec and name is None):
                self.found.append(MailboxSpec(name, self.route, local, domain))
        self._clear()


def _tokens(value: bytes, position: int) -> Iterator[tuple[str, bytes]]:
    end = len(value)
    while position < end:
        match = _TOKEN.match(value, position)
        if match is None or match.lastgroup is None:  # the last branch takes any octet, so this is the end
            return
        position = match.end()
        if match.lastgroup == "comment":
            text, position = _comment(value, position)
            yield "comment", text
        else:
            yield match.lastgroup, match[0]


def _comment(value: bytes, position: int) -> tuple[bytes, int]:
    """The text of the comment that was opened before `position`, and the offset after it."""
    start = position
    depth = 1
    while match := _IN_COMMENT.match(value, position):
        position = match.end()
        if match[0] == b"(":
            depth += 1
        elif match[0] == b")":
            depth -= 1
            if not depth:
                return value[start : position - 1].strip(), position
    return value[start:].strip(), len(value)


def _unquoted(text: bytes) -> bytes:
    inner = text[1:-1] if len(text) > 1 and text.endswith(b'"') else text[1:]
    return _QUOTED_PAIR.sub(rb"\1", inner) if b"\\" in inner else inner


def _phrase(words: list[bytes]) -> bytes:
    return b"".join(words).strip()
