"""Content-Type, Content-Disposition and their parameters (RFC 2045 5.1, RFC 2183, RFC 2231)."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import NamedTuple
from urllib.parse import unquote_to_bytes

from mailhub.message.charset import decode
from mailhub.message.encoded_word import decode_words

_SHORT = 80  # octets
PARAMETER_LIMIT = 64  # parameters of one field that are read

# RFC 2045 5.1 token, with octets above 127 let through.
_TOKEN = rb"[!#-'*+\-.0-9A-Z^-~\x80-\xff]"
_VALUE = re.compile(rb"[ \t\r\n]*+(%b++)(?:[ \t]*+/[ \t]*+(%b*+))?" % (_TOKEN, _TOKEN))
# The quoted form need not be closed, the other one may hold anything but a semicolon: both are sent. Semicolons match
# without a parameter after them as well, so that a run of them is passed over only once.
_PARAMETER = re.compile(
    rb";[; \t\r\n]*+(?:([^=;\" \t\r\n]++)[ \t\r\n]*+=[ \t\r\n]*+(?:\"((?:[^\"\\]++|\\.)*)|([^;\"]*+)))?", re.DOTALL
)
_QUOTED_PAIR = re.compile(rb"\\(.)", re.DOTALL)
_COMMENT_TOKEN = re.compile(rb"[^()\\\"]++|\"(?:[^\"\\]++|\\.)*\"?|\\.|.", re.DOTALL)
_CONTINUED = re.compile(r"([^*]+)(?:\*(\d{1,3}))?(\*)?")
_EXTENDED = re.compile(rb"([^']*)'[^']*'(.*)", re.DOTALL)


class Parameterised(NamedTuple):
    """A value with parameters. `value` and `subvalue` are in lower case (`subvalue` "" for a disposition).

    `parameters` are the pairs as written, in order, names in lower case, values unquoted.
    """

    value: str
    subvalue: str
    parameters: tuple[tuple[str, bytes], ...] = ()

    def raw(self, name: str) -> bytes | None:
        """The first parameter of this name as written, None without one."""
        for known, value in self.parameters:
            if known == name:
                return value
        return None

    def text(self, name: str) -> str | None:
        """The parameter's text: RFC 2231 continuations joined and decoded; also encoded words, which many send."""
        if not any(known.startswith(name) for known, _ in self.parameters):
            return None
        plain = self.raw(name)
        extended = _joined(name, self.parameters)
        if extended is not None:
            return extended
        return None if plain is None else decode_words(plain)


def parse(body: bytes) -> Parameterised | None:
    """Read an unfolded field body; None when it does not begin with a value at all. Never fails, always linear."""
    return _parse_short(body) if len(body) <= _SHORT else _parse(body)


def _parse(body: bytes) -> Parameterised | None:
    if b"(" in body:
        body = without_comments(body)
    match = _VALUE.match(body)
    if match is None:
        return None
    value = match[1].decode("latin-1").lower()
    subvalue = (match[2] or b"").decode("latin-1").lower()
    position = match.end()
    if position == len(body):
        return Parameterised(value, subvalue)
    return Parameterised(value, subvalue, _parameters(body, position))


# A few values make up most of all mail.
_parse_short = lru_cache(maxsize=512)(_parse)


def _parameters(body: bytes, position: int) -> tuple[tuple[str, bytes], ...]:
    found = []
    for match in _PARAMETER.finditer(body, position):
        name, quoted, plain = match.groups()
        if name is None:
            continue
        value = plain.strip() if quoted is None else _QUOTED_PAIR.sub(rb"\1", quoted)
        found.append((name.decode("latin-1").lower(), value))
        if len(found) == PARAMETER_LIMIT:
            break
    return tuple(found)


def without_comments(body: bytes) -> bytes:
    """The field body with each comment (RFC 5322 3.2.2, nested to any depth) replaced by a space."""
    kept = []
    depth = 0
    for match in _COMMENT_TOKEN.finditer(body):
        token = match[0]
        if token == b"(":
            depth += 1
            kept.append(b" ")
        elif token == b")" and depth:
            depth -= 1
        elif not depth:
            kept.append(token)
    return b"".join(kept)


def _joined(name: str, parameters: tuple[tuple[str, bytes], ...]) -> str | None:
    """RFC 2231 3 and 4: the sections in the order of their numbers, each percent-encoded or not."""
    sections: dict[int, tuple[bool, bytes]] = {}
    for known, value in parameters:
        match = _CONTINUED.fullmatch(known)
        if match and match[1] == name and (match[2] or match[3]):
            sections.setdefault(int(match[2] or 0), (bool(match[3]), value))
    if 0 not in sections:
        return None
    charset = ""
    if sections[0][0] and (extended := _EXTENDED.fullmatch(sections[0][1])):
        charset = extended[1].decode("latin-1")
        sections[0] = (True, extended[2])
    octets = []
    for number in range(len(sections)):
        if number not in sections:
            break
        encoded, value = sections[number]
        octets.append(unquote_to_bytes(value) if encoded else value)
    return decode(b"".join(octets), charset)
