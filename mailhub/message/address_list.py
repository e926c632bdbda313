"""Address lists of header fields (RFC 5322 3.4 with 4.4's obsolete forms), tolerant of anything that is sent as one.

One pass of a tokenizer whose patterns never go back, no recursion: 60 KB of commas, comments of any depth and
routes of any length cost what their octets cost.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache
from itertools import islice
from typing import NamedTuple

from mailhub.message.encoded_word import ENCODED_TEXT

ADDRESS_LIMIT = 1 << 16  # addresses of one field that are read: as many as a header has room for
_SHORT = 100  # octets
TOKEN_LIMIT = 200_000  # tokens of one field that are read where its addresses are not of the usual form

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
    rb"|(?!=\?)([!#-'*+\--9=?A-Z^-~\x80-\xff]++)@([0-9A-Za-z.\-\x80-\xff]++))[ \t]*+(?:,|\Z)"
)
_TOKEN = re.compile(
    rb"(?P<space>[ \t\r\n]++)|(?P<quoted>\"(?:[^\"\\]++|\\.)*\")|(?P<open>\")|(?P<comment>\()"
    rb"|(?P<literal>\[[^\[\]\\]*+\]?)|(?P<comma>,[, \t\r\n]*+)|(?P<special>[<>;:@])"
    rb"|(?P<encoded>=\?[^?\s]{1,75}\?[bBqQ]\?%b\?=)|(?P<atom>(?:[^\"()<>\[,;:@\\ \t\r\n]++|\\.?)+|.)" % ENCODED_TEXT,
    re.DOTALL,
)
_IN_COMMENT = re.compile(rb"[^()\\]++|\\.?|[()]", re.DOTALL)
_QUOTED_PAIR = re.compile(rb"\\(.)", re.DOTALL)


def parse(value: bytes, *, octets: int = -1, addresses: int = ADDRESS_LIMIT) -> list[MailboxSpec]:
    """The elements of an unfolded address field, groups included (see MailboxSpec). Never fails.

    Of a field larger than `octets` (-1: any) its beginning is read. What a limit cuts is left out, not given in part.
    """
    cut = 0 <= octets < len(value)
    if cut:
        value = value[:octets]
    elif 0 < len(value) <= _SHORT and addresses > 0 and (one := _one_mailbox(value)):
        return [one]
    found: list[MailboxSpec] = []
    position = 0
    while len(found) < addresses and (match := _USUAL.match(value, position)):
        quoted, phrase, local, domain, bare_local, bare_domain = match.groups()
        found.append(MailboxSpec(quoted or phrase, None, local or bare_local, domain or bare_domain))
        position = match.end()
    if position < len(value) and len(found) < addresses:
        return _Reader(found).run(value, position, addresses, cut)
    if cut and position >= len(value):
        del found[-1:]
    return found


@lru_cache(maxsize=1024)  # mail comes to the same recipients, and From is read for more than one thing
def _one_mailbox(value: bytes) -> MailboxSpec | None:
    """Of a field that is one mailbox of the usual form; None for any other."""
    match = _USUAL.match(value)
    if match is None or match.end() < len(value):
        return None
    quoted, phrase, local, domain, bare_local, bare_domain = match.groups()
    return MailboxSpec(quoted or phrase, None, local or bare_local, domain or bare_domain)


class _Reader:
    """Everything else: routes, groups, comments, quoting, and mistakes."""

    def __init__(self, found: list[MailboxSpec]) -> None:
        self.found = found
        self.whole = 0  # how many of `found` had ended before the element that is being read
        self.tokens_left = TOKEN_LIMIT
        self.in_group = False
        self._clear()

    def _clear(self) -> None:
        self.words: list[_Word] = []  # before "<": the phrase, or addresses without brackets
        self.has_at = False  # there is one among the words
        self.inside: list[_Word] = []  # the brackets
        self.route: bytes | None = None
        self.angle = False
        self.closed = False
        self.after: list[_Word] = []  # behind the brackets, where nothing should be
        self.comment = b""

    def run(self, value: bytes, position: int, addresses: int, cut: bool) -> list[MailboxSpec]:
        """All elements from `position` on, those of the usual form by their pattern."""
        found = self.found
        whole = 0
        while position < len(value) and len(found) < addresses and self.tokens_left > 0:
            whole = len(found)
            if match := _USUAL.match(value, position):
                quoted, phrase, local, domain, bare_local, bare_domain = match.groups()
                found.append(MailboxSpec(quoted or phrase, None, local or bare_local, domain or bare_domain))
                position = match.end()
            else:
                position = self.read(value, position)
        if cut and position >= len(value):
            del found[max(whole, self.whole) :]
        if self.in_group:
            found.append(GROUP_END)
        return found

    def read(self, value: bytes, position: int) -> int:
        """Read on from `position` up to the end of an element that stands in no group; the offset after it."""
        for kind, text, end in islice(_tokens(value, position), self.tokens_left):
            self.tokens_left -= 1
            position = end
            if kind == "special":
                self._special(text)
            elif kind == "comma":
                if self._comma() and not self.in_group:
                    return position
            elif kind == "comment":
                if not self.angle or self.closed:  # one inside the brackets is nobody's name
                    self.comment = text
                self._word("space", b"")
            elif kind != "open":  # a quotation mark without another is passed over
                self._word(kind, text)
            if len(self.found) >= ADDRESS_LIMIT:
                return position
        if self.tokens_left > 0:
            self._finish()
        return position

    def _word(self, kind: str, text: bytes) -> None:
        words = self.after if self.closed else self.inside if self.angle else self.words
        if kind == "quoted":
            text = _unquoted(text)
        words.append(_Word(kind, text))
        self.has_at = self.has_at or (kind == "at" and words is self.words)

    def _comma(self) -> bool:
        """Whether an element ends here."""
        if self.angle and not self.closed and self.inside[:1] == [_AT]:
            self.inside.append(_Word("atom", b","))  # inside a route: <@a,@b:user@c>
            return False
        if not self.angle and _may_be_name(self.words):
            self.words.append(_COMMA)  # Doe, John <john@xx.example>
            return False
        self._finish()
        return True

    def _special(self, text: bytes) -> None:
        if text == b"<":
            if self.closed:  # a comma is missing
                following, self.after = self.after, []
                self._finish()
                self.words = following
                self.has_at = _AT in following
            elif self.words and self.words[-1] == _COMMA:  # no name before the bracket: a comma between elements
                self._finish()
            self.angle, self.inside = True, []
        elif text == b">":
            self.closed = self.angle
        elif text == b";":
            self._finish()
            if self.in_group:
                self.found.append(GROUP_END)
                self.in_group = False
                self.whole = len(self.found)
        elif text == b":":
            self._colon()
        else:
            self._word("at", text)

    def _colon(self) -> None:
        if self.angle and not self.closed:
            if self.inside[:1] == [_AT]:
                self.route = b"".join([word.text for word in self.inside])
                self.inside = []
            elif _is_mailto(self.inside):
                self.inside = []
            else:
                self.inside.append(_Word("atom", b":"))
        elif not self.angle and _is_mailto(self.words):
            self.words = []
        elif not self.in_group and not self.angle and not self.has_at:
            *before, words = _elements(self.words)
            self.found += [spec for each in before for spec in _without_brackets(each, None)]
            self.found.append(MailboxSpec(None, None, _phrase(words), None))
            self.in_group = True
            self._clear()
            self.whole = len(self.found)

    def _finish(self) -> None:
        """The end of an element: by comma, semicolon or the end of the field."""
        self.whole = len(self.found)
        if self.angle:
            name = _phrase(self.words) or self.comment or _phrase(self.after) or None
            if any(word.kind != "space" for word in self.inside):
                self.found += _in_brackets(name, self.route, self.inside)
            elif name is not None or not self.closed:
                self.found.append(MailboxSpec(name, self.route, MISSING_MAILBOX, MISSING_DOMAIN))
        else:
            for words in _elements(self.words):
                if any(word.kind != "space" for word in words):
                    self.found += _without_brackets(words, self.comment or None)
        self._clear()


class _Word(NamedTuple):
    """`kind` is a token's, or "at". Space and comments have the kind "space"."""

    kind: str
    text: bytes


_AT = _Word("at", b"@")
_FEW = 3  # words, for what would take too long if it were done with many again and again
_COMMA = _Word("comma", b", ")


def _is_mailto(words: list[_Word]) -> bool:
    """Whether nothing but the scheme of a URI stands before a colon."""
    return len(words) <= _FEW and b"".join([word.text for word in words]).strip().lower() == b"mailto"


def _may_be_name(words: list[_Word]) -> bool:
    """Whether what stands before a comma may be the beginning of a name that should have been quoted."""
    found = False
    for word in reversed(words):
        if word == _COMMA:
            break
        if word.kind not in ("atom", "encoded", "space"):
            return False
        found = found or word.kind != "space"
    return found


def _elements(words: list[_Word]) -> list[list[_Word]]:
    """The words between the commas that turned out to be no part of a name."""
    elements: list[list[_Word]] = [[]]
    for word in words:
        if word == _COMMA:
            elements.append([])
        else:
            elements[-1].append(word)
    return elements


def _in_brackets(name: bytes | None, route: bytes | None, words: list[_Word]) -> list[MailboxSpec]:
    """Mostly one address; blanks in its local part belong to it, because without them it would be another's."""
    chunks = _chunks(words)
    if len(chunks) > 1 and all(_AT in chunk for chunk in chunks):
        return [_spec(name, route, chunk) for chunk in chunks]
    if _AT in words:
        while _AT not in chunks[-1]:
            chunks.pop()
    joined = list(chunks[0])
    for chunk in chunks[1:]:
        joined += [_Word("space", b" "), *chunk]
    return [_spec(name, route, joined)]


def _without_brackets(words: list[_Word], name: bytes | None) -> list[MailboxSpec]:
    """Addresses are what has an "@". Words before one are its name, and so are those after the last."""
    chunks = _chunks(words)
    if len(chunks) == 1:
        return [_spec(name, None, chunks[0])]
    found: list[MailboxSpec] = []
    phrase: list[bytes] = []
    for chunk in chunks:
        if _AT in chunk:
            found.append(_spec(b" ".join(phrase) or None, None, chunk))
            phrase = []
        else:
            phrase.append(b"".join([word.text for word in chunk]))
    rest = b" ".join(phrase)
    if not found:
        return [MailboxSpec(rest or name, None, MISSING_MAILBOX, MISSING_DOMAIN)]
    if found[-1].name is None:
        found[-1] = found[-1]._replace(name=rest or name)
    return found


def _chunks(words: list[_Word]) -> list[list[_Word]]:
    """What white space divides. Beside "@" it may stand in an address, and beside dots if that makes one of all."""
    for glue in (_at_or_dot, _at):
        chunks: list[list[_Word]] = []
        space = True
        for word in words:
            if word.kind == "space":
                space = True
            elif chunks and (not space or glue(chunks[-1][-1], word)):
                chunks[-1].append(word)
                space = False
            else:
                chunks.append([word])
                space = False
        if len(chunks) == 1:
            break
    return chunks


def _at(before: _Word, after: _Word) -> bool:
    return before == _AT or after == _AT


def _at_or_dot(before: _Word, after: _Word) -> bool:
    return (
        _at(before, after)
        or (before.kind == "atom" and before.text.endswith(b"."))
        or (after.kind == "atom" and after.text.startswith(b"."))
    )


def _spec(name: bytes | None, route: bytes | None, words: list[_Word]) -> MailboxSpec:
    at = max((index for index, word in enumerate(words) if word == _AT), default=len(words))
    local = b"".join([word.text for word in words[:at]]) or MISSING_MAILBOX
    domain = b"".join([word.text for word in words[at + 1 :]]) or MISSING_DOMAIN
    return MailboxSpec(name, route, local, domain)


def _tokens(value: bytes, position: int) -> Iterator[tuple[str, bytes, int]]:
    """Kind, text and the offset after it."""
    end = len(value)
    while position < end:
        match = _TOKEN.match(value, position)
        if match is None or match.lastgroup is None:  # the last branch takes any octet, so this is the end
            return
        position = match.end()
        if match.lastgroup == "comment":
            text, position = _comment(value, position)
            yield "comment", text, position
        else:
            yield match.lastgroup, match[0], position


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
    inner = text[1:-1]
    return _QUOTED_PAIR.sub(rb"\1", inner) if b"\\" in inner else inner


def _phrase(words: list[_Word]) -> bytes:
    """The words as they stand, one space for any white space between them."""
    text = []
    for word in words:
        if word.kind != "space":
            text.append(word.text)
        elif text and text[-1] != b" ":
            text.append(b" ")
    return b"".join(text).strip()
