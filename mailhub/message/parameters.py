"""Content-Type, Content-Disposition and their parameters (RFC 2045 5.1, RFC 2183, RFC 2231)."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import NamedTuple
from urllib.parse import quote, unquote_to_bytes

from mailhub.message.charset import decode
from mailhub.message.encoded_word import decode_words

_SHORT = 80  # octets
PARAMETER_LIMIT = 256  # parameters of one field that are read

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
_WORD = re.compile(rb"[ \t\r\n]*+(?:\(|([^ \t\r\n]++))")
_IN_COMMENT = re.compile(rb"\\.|[()]", re.DOTALL)
_NO_WORD = b' \t\r\n;,/="\\'  # beside a parenthesis these make it one of a comment
_SECTION = re.compile(r"(?a)([^*]+)\*(?:(\d{1,3})(\*)?)?")
_WHOLE = -1  # the number of an extended value that is not cut in sections
_EXTENDED = re.compile(rb"([^']*)'([^']*)'(.*)", re.DOTALL)
EXTENDED_SAFE = "!#$&+^`|"  # RFC 2231 7 attribute-char that is no letter, digit or mark which quote() leaves anyway


class Parameterised(NamedTuple):
    """A value with parameters. `value` and `subvalue` are in lower case (`subvalue` "" for a disposition).

    `parameters` are the pairs in order, names in lower case, values unquoted. Extended values (RFC 2231 4) and sections
    (3) become a plain value where the text is ASCII, else one extended value (`filename*`, `utf-8''%C3%BC`).
    """

    value: str
    subvalue: str
    parameters: tuple[tuple[str, bytes], ...] = ()

    def raw(self, name: str) -> bytes | None:
        """The first parameter of this name as it stands, None without one."""
        for known, value in self.parameters:
            if known == name:
                return value
        return None

    def text(self, name: str) -> str | None:
        """The parameter's text: an extended value (RFC 2231 4) decoded, or encoded words, which many send."""
        extended = self.raw(f"{name}*")
        if extended is None:
            plain = self.raw(name)
            return None if plain is None else decode_words(plain)
        match = _EXTENDED.fullmatch(extended)
        charset, value = (match[1].decode("latin-1"), match[3]) if match else ("", extended)
        return decode(unquote_to_bytes(value), charset)


def parse(body: bytes) -> Parameterised | None:
    """Read an unfolded field body; None when it does not begin with a value at all. Never fails, always linear."""
    return _parse_short(body) if len(body) <= _SHORT else _parse(body)


def _parse(body: bytes) -> Parameterised | None:
    if b"(" in body:
        body = without_comments(body)
    match = _VALUE.match(body)
    if match is None:
        return None
    value = match[1].lower().decode("latin-1")
    subvalue = (match[2] or b"").lower().decode("latin-1")
    position = match.end()
    if position == len(body):
        return Parameterised(value, subvalue)
    return Parameterised(value, subvalue, _parameters(body, position))


# A few values make up most of all mail.
_parse_short = lru_cache(maxsize=512)(_parse)


def _parameters(body: bytes, position: int) -> tuple[tuple[str, bytes], ...]:
    found: list[tuple[str, bytes]] = []
    for match in _PARAMETER.finditer(body, position):
        name, quoted, plain = match.groups()
        if name is None:
            continue
        if len(found) == PARAMETER_LIMIT:  # of what is in sections, some may be among the rest
            found = [each for each in found if not _SECTION.fullmatch(each[0])]
            break
        value = plain.strip() if quoted is None else _QUOTED_PAIR.sub(rb"\1", quoted)
        found.append((name.lower().decode("latin-1"), value))
    if any(_SECTION.fullmatch(name) for name, _ in found):
        found = _with_sections_joined(found)
    return tuple(found)


def _with_sections_joined(parameters: list[tuple[str, bytes]]) -> list[tuple[str, bytes]]:
    """RFC 2231 6 wants it of an IMAP server. Sections stand in any order; what is missing leaves nothing out but
    itself."""
    sections: dict[str, dict[int, tuple[bool, bytes]]] = {}
    for name, value in parameters:
        if match := _SECTION.fullmatch(name):
            number, encoded = (int(match[2]), bool(match[3])) if match[2] else (_WHOLE, True)
            sections.setdefault(match[1], {}).setdefault(number, (encoded, value))
    joined = {
        name: _one_value(name, [found[_WHOLE]] if _WHOLE in found else [found[number] for number in sorted(found)])
        for name, found in sections.items()
    }
    kept: list[tuple[str, bytes]] = []
    for name, value in parameters:
        match = _SECTION.fullmatch(name)
        if match is None:
            # Beside the same name in sections this is what programs without RFC 2231 are to read.
            if name not in joined or joined[name][0] != name:
                kept.append((name, value))
        elif joined[match[1]] not in kept:
            kept.append(joined[match[1]])
    return kept


def _one_value(name: str, sections: list[tuple[bool, bytes]]) -> tuple[str, bytes]:
    if not any(encoded for encoded, _ in sections):
        return name, b"".join([value for _, value in sections])
    charset, language = b"", b""
    encoded, first = sections[0]
    if encoded and (extended := _EXTENDED.fullmatch(first)):
        charset, language = extended[1], extended[2]
        sections = [(True, extended[3]), *sections[1:]]
    octets = b"".join([unquote_to_bytes(value) if encoded else value for encoded, value in sections])
    text = decode(octets, charset.decode("latin-1"))
    if text.isascii() and text.isprintable():
        return name, text.encode()
    value = b"".join([value if encoded else quote(value, safe=EXTENDED_SAFE).encode() for encoded, value in sections])
    return f"{name}*", b"%b'%b'%b" % (charset or b"utf-8", language, value)


def without_comments(body: bytes) -> bytes:
    """The field body with each comment (RFC 5322 3.2.2, nested to any depth) replaced by a space.

    Parentheses within a word stay, as in names without quotes: `filename=a(1).txt`.
    """
    kept: list[bytes] = []
    depth = start = opened = 0
    in_word = False
    for match in _COMMENT_TOKEN.finditer(body):
        token = match[0]
        if token == b"(":
            if not depth:
                start, opened = match.start(), len(kept)
                in_word = _is_word(body, start - 1)
                kept.append(b" ")
            depth += 1
        elif token == b")" and depth:
            depth -= 1
            if not depth and in_word and _is_word(body, match.end()):
                kept[opened] = body[start : match.end()]
        elif not depth:
            kept.append(token)
    if depth and in_word:
        kept[opened] = body[start:]
    return b"".join(kept)


def _is_word(body: bytes, position: int) -> bool:
    return 0 <= position < len(body) and body[position] not in _NO_WORD


def words(body: bytes) -> list[bytes]:
    """What white space divides, without comments; a parenthesis within a word is none, as in a URI (RFC 2557 4.2)."""
    found = []
    position = 0
    while match := _WORD.match(body, position):
        position = match.end()
        if match[1]:
            found.append(match[1])
            continue
        depth = 1
        while depth and (token := _IN_COMMENT.search(body, position)):
            position = token.end()
            depth += {b"(": 1, b")": -1}.get(token[0], 0)
        if depth:
            break
    return found
