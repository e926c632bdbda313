"""Header fields with octets over 127 -> the same in ASCII, for hops that take nothing else.

Text and display names become encoded words (RFC 2047), parameters extended values (RFC 2231), domains A-labels. The
charset is UTF-8 where a field is that, else "unknown-8bit" (RFC 1428), so that the octets are kept and nothing is
claimed of them. An address whose local part is not ASCII has no other form (RFC 6530 10.2).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import NamedTuple
from urllib.parse import quote_from_bytes

from mailhub.message.address import to_ascii
from mailhub.message.encoded_word import encode_words, is_encoded_word
from mailhub.message.parameters import EXTENDED_SAFE, parse

UNKNOWN_8BIT = "unknown-8bit"

_LINE = 76  # octets after which a line is folded, where it can be
_SECTION = 50  # octets of a parameter's value on one line

_FOLD = re.compile(rb"[\r\n\0]+")
_WORDS = re.compile(rb"([ \t]*)([^ \t]+)")  # for what does not end with white space, lest it takes the square of it
_QUOTED_PAIR = re.compile(rb"\\(.)", re.DOTALL)
_TOKEN = re.compile(
    rb"(?P<space>[ \t]+)|(?P<quoted>\"(?:[^\"\\]+|\\.)*\"?)|(?P<comment>\()|(?P<special>[<>,:;@])"
    rb"|(?P<atom>\[[^\]]*\]?|[^ \t\"(<>,:;@\[]+)",
    re.DOTALL,
)
_IN_COMMENT = re.compile(rb"[^()\\]+|\\.?|[()]", re.DOTALL)
_COMMENT_PIECES = re.compile(rb"[()]|(?:[^()\\]+|\\.?)+", re.DOTALL)
_TOKEN_TEXT = re.compile(rb"[!#-'*+\-.0-9A-Z^-~]+", re.IGNORECASE)
_SECTIONS = re.compile(rf"(?:%..|[^%]){{1,{_SECTION // 3}}}")
_FOR = re.compile(rb"(?i)[ \t]for[ \t]+<?[^ \t;]*[\x80-\xff][^ \t;]*")

_ADDRESSES = frozenset(
    b"from sender reply-to to cc bcc resent-from resent-sender resent-reply-to resent-to resent-cc resent-bcc"
    b" errors-to disposition-notification-to return-receipt-to mail-followup-to mail-reply-to apparently-to"
    b" keywords".split()
)
_PARAMETERISED = frozenset({b"content-type", b"content-disposition"})
_IDENTIFIERS = frozenset({b"message-id", b"resent-message-id", b"in-reply-to", b"references", b"content-id"})
_LOCATIONS = re.compile(rb"list-(?!id$).*|content-location|content-base|archived-at")
_STRUCTURED = frozenset(
    b"received date resent-date mime-version content-transfer-encoding content-language list-id"
    b" authentication-results dkim-signature arc-seal arc-message-signature arc-authentication-results".split()
)


class CannotConvert(ValueError):
    """There is no form of this message that the hop takes. `status` is an enhanced status code (RFC 3463)."""

    def __init__(self, status: str, text: str) -> None:
        super().__init__(text)
        self.status = status
        self.text = text


def ascii_field(octets: bytes, *, own: bool) -> bytes:
    """A raw field with its line ends -> the same in ASCII.

    `own`: it is in the header of the message that is sent. Raises CannotConvert then, for an address that has no form
    in ASCII; in a message inside it the address becomes text that can be read.
    """
    if octets.isascii():
        return octets
    name, _, body = octets.partition(b":")
    key = name.strip().lower()
    value = _FOLD.sub(b"", body).strip(b" \t")
    charset = charset_of(value)
    if key in _ADDRESSES:
        # Keywords are phrases as display names are, and never addresses.
        value = _Addresses(charset, strict=own and key != b"keywords").convert(value)
    elif key in _PARAMETERISED:
        value = _parameterised(value, charset)
    elif key in _IDENTIFIERS:
        # RFC 6857 3.2.10: it is one no longer.
        name, value = b"Downgraded-" + name, encoded_text(value, charset)
    elif key in _STRUCTURED:
        value = _structured(_FOR.sub(b"", value) if key == b"received" else value, charset)
    elif _LOCATIONS.fullmatch(key):
        value = _map(value, lambda text: quote_from_bytes(text, safe=_URI_SAFE).encode(), charset)
    else:
        value = encoded_text(value, charset)
    return fold(name, value)


def charset_of(octets: bytes) -> str:
    """What octets over 127 are said to be."""
    try:
        octets.decode()
    except UnicodeDecodeError:
        return UNKNOWN_8BIT
    return "utf-8"


def fold(name: bytes, value: bytes) -> bytes:
    """A field whose lines are folded at white space where they would be longer than 76 octets."""
    line = name + b":"
    lines = []
    for space, word in _WORDS.findall(b" " + value.rstrip(b" \t")):
        if len(line) + len(space) + len(word) > _LINE and line.strip(b" \t") != name + b":":
            lines.append(line)
            line = b""
        line += (space or b" ") + word
    return b"\r\n".join([*lines, line, b""])


def encoded_text(text: bytes, charset: str, *, all_words: bool = False) -> bytes:
    """Unstructured text, with encoded words in place of those that are not ASCII, or of all.

    White space between two encoded words vanishes when they are decoded (RFC 2047 6.2), so what stands between them is
    encoded, too.
    """
    pairs = [(space, word, is_encoded_word(word)) for space, word in _WORDS.findall(text.rstrip(b" \t"))]
    pieces: list[bytes] = []
    position = 0
    while position < len(pairs):
        space, word, encoded = pairs[position]
        position += 1
        if encoded or not (all_words or not word.isascii()):
            pieces += [space, word]
            continue
        run = [word]
        while position < len(pairs) and not pairs[position][2] and (all_words or not pairs[position][1].isascii()):
            run += pairs[position][:2]
            position += 1
        if pieces and is_encoded_word(pieces[-1]):
            run.insert(0, space)
        if position < len(pairs) and pairs[position][2]:
            run.append(pairs[position][0])
        pieces += [space, b" ".join(encode_words(b"".join(run), charset))]
    return b"".join(pieces)


# --- Structured fields ----------------------------------------------------------------------------------------------


class _Token(NamedTuple):
    kind: str
    text: bytes


def _tokens(value: bytes) -> Iterator[_Token]:
    position = 0
    while match := _TOKEN.match(value, position):
        kind = match.lastgroup or ""
        position = match.end()
        if kind == "comment":
            depth = 1
            while depth and (inside := _IN_COMMENT.match(value, position)):
                position = inside.end()
                depth += (inside[0] == b"(") - (inside[0] == b")")
        yield _Token(kind, value[match.start() : position])


def _comment(text: bytes, charset: str) -> bytes:
    """A comment with its parentheses; encoded words may stand in one (RFC 2047 5)."""
    if text.isascii():
        return text
    return b"".join(
        [
            each if each.isascii() else _spaced(each, encoded_text(_QUOTED_PAIR.sub(rb"\1", each), charset))
            for each in _COMMENT_PIECES.findall(text)
        ]
    )


def _spaced(before: bytes, text: bytes) -> bytes:
    """White space at the ends of a piece is what separates it from its neighbours."""
    stripped = before.strip(b" \t")
    start = before.find(stripped)
    return before[:start] + text.strip(b" \t") + before[start + len(stripped) :]


def _map(value: bytes, convert: Callable[[bytes], bytes], charset: str) -> bytes:
    """`convert` of what is not ASCII, encoded words in comments."""
    return b"".join(
        [
            _comment(text, charset) if kind == "comment" else text if text.isascii() else convert(text)
            for kind, text in _tokens(value)
        ]
    )


def _structured(value: bytes, charset: str) -> bytes:
    return _map(value, lambda text: b" ".join(encode_words(text, charset)), charset)


_URI_SAFE = "!#$%&'*+,-./:;=?@_~[]()\""


class _Addresses:
    """Address lists (RFC 5322 3.4), whatever else is sent as one."""

    def __init__(self, charset: str, *, strict: bool) -> None:
        self.charset = charset
        self.strict = strict

    def convert(self, value: bytes) -> bytes:
        pieces: list[bytes] = []
        element: list[_Token] = []
        in_angle = False
        for token in _tokens(value):
            if token.kind == "special" and token.text in b",;:" and not in_angle:
                pieces += [self._element(element), token.text]
                element = []
                continue
            if token.kind == "special" and token.text in b"<>":
                in_angle = token.text == b"<"
            element.append(token)
        return b"".join([*pieces, self._element(element)])

    def _element(self, tokens: list[_Token]) -> bytes:
        """A mailbox, or a group's name."""
        raw = b"".join([token.text for token in tokens])
        if raw.isascii():
            return raw
        angle = next((at for at, token in enumerate(tokens) if token == _Token("special", b"<")), -1)
        if angle >= 0:
            name = self._phrase(tokens[:angle])
            space = b"" if not name or name[-1:] in b" \t" else b" "
            return name + space + self._chunks(tokens[angle:])
        if _Token("special", b"@") in tokens:
            return self._chunks(tokens)
        return self._phrase(tokens)

    def _phrase(self, tokens: list[_Token]) -> bytes:
        pieces: list[bytes] = []
        run: list[_Token] = []
        for token in [*tokens, _Token("comment", b"")]:
            if token.kind == "comment":
                pieces += [self._words(run), _comment(token.text, self.charset)]
                run = []
            else:
                run.append(token)
        return b"".join(pieces)

    def _words(self, tokens: list[_Token]) -> bytes:
        raw = b"".join([token.text for token in tokens])
        if raw.isascii():
            return raw
        text = b"".join([_unquoted(token) for token in tokens])
        return _spaced(raw, encoded_text(text.strip(b" \t"), self.charset, all_words=True))

    def _chunks(self, tokens: list[_Token]) -> bytes:
        """What white space divides: the one with an "@" is the address."""
        pieces: list[bytes] = []
        chunk: list[_Token] = []
        for token in [*tokens, _Token("space", b"")]:
            if token.kind == "space" or token.kind == "comment":
                pieces.append(self._address(chunk))
                pieces.append(_comment(token.text, self.charset) if token.kind == "comment" else token.text)
                chunk = []
            else:
                chunk.append(token)
        return b"".join(pieces)

    def _address(self, tokens: list[_Token]) -> bytes:
        raw = b"".join([token.text for token in tokens])
        if raw.isascii():
            return raw
        at = max((at for at, token in enumerate(tokens) if token == _Token("special", b"@")), default=-1)
        local = b"".join([token.text for token in tokens[: at + 1]])
        if at >= 0 and local.isascii():
            domain = b"".join([token.text for token in tokens[at + 1 :]])
            name = domain.rstrip(b">")
            try:
                return local + to_ascii(name.decode()).encode() + domain[len(name) :]
            except ValueError:
                pass
        if self.strict and at >= 0:
            raise CannotConvert("5.6.9", "An address in the header has no form in ASCII")
        brackets = raw[:1] == b"<", raw[-1:] == b">"
        text = raw[brackets[0] : len(raw) - brackets[1]]
        return b"<" * brackets[0] + b" ".join(encode_words(text, self.charset)) + b">" * brackets[1]


def _unquoted(token: _Token) -> bytes:
    if token.kind != "quoted":
        return token.text
    return _QUOTED_PAIR.sub(rb"\1", token.text[1:].removesuffix(b'"'))


# --- Parameters -----------------------------------------------------------------------------------------------------


def _parameterised(value: bytes, charset: str) -> bytes:
    """Content-Type or Content-Disposition. Raises CannotConvert for a boundary that is not ASCII."""
    found = parse(value)
    if found is None or not (found.value + found.subvalue).isascii():
        return encoded_text(value, charset)
    names = {name for name, _ in found.parameters}
    pieces = [found.value + (f"/{found.subvalue}" if found.subvalue else "")]
    for name, octets in found.parameters:
        if name == "boundary" and not octets.isascii():
            raise CannotConvert("5.6.3", "The boundary of a multipart is not ASCII")
        if not name.isascii() or f"{name}*" in names:
            continue
        if octets.isascii():
            pieces.append(f"{name}={_parameter_value(name, octets)}")
        else:
            pieces += _extended(name, octets, charset_of(octets))
    return "; ".join(pieces).encode()


def _parameter_value(name: str, octets: bytes) -> str:
    text = octets.decode()
    if name.endswith("*") or _TOKEN_TEXT.fullmatch(octets):
        return text
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _extended(name: str, octets: bytes, charset: str) -> list[str]:
    """RFC 2231 4, in sections (3) where it would be too long for a line."""
    value = quote_from_bytes(octets, safe=EXTENDED_SAFE)
    if len(value) <= _SECTION:
        return [f"{name}*={charset}''{value}"]
    prefix = f"{charset}''"
    sections = _SECTIONS.findall(value)
    return [f"{name}*{n}*={'' if n else prefix}{section}" for n, section in enumerate(sections)]
