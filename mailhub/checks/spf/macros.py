"""Macros of SPF: what stands in a domain-spec and in an explanation, and what becomes of it (RFC 7208 7)."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from urllib.parse import quote

import attrs

_LETTERS = frozenset("slodipvh")
_EXPLANATION_LETTERS = _LETTERS | frozenset("crt")
_DELIMITERS = ".-+,/_="
_MACRO = re.compile(r"%\{([A-Za-z])([0-9]*)([rR]?)([.+,/_=-]*)\}|%([%_-])")
_FIXED = {"%": "%", "_": " ", "-": "%20"}
# RFC 7208 7.1: macro-literal
_LITERAL = re.compile(r"[!-$&-~]*+")
_WORDS = re.compile(r"[ -$&-~]*+")
# RFC 7208 7.1: domain-end, a top label or a macro-expand
_DOMAIN_END = re.compile(
    r".*(?:\.(?:[a-z0-9]*[a-z][a-z0-9]*|[a-z0-9]+-[a-z0-9-]*[a-z0-9])\.?|%\{[^}]*\}|%[%_-])", re.IGNORECASE
)


@attrs.frozen
class Macro:
    """One macro-expand: the letter in lower case, how many parts of its value count (0 for all), whether they are
    turned round, where they are parted, and whether they are escaped as in a URL."""

    letter: str
    parts: int = 0
    reverse: bool = False
    delimiters: str = "."
    escape: bool = False

    def of(self, value: str) -> str:
        """What becomes of the letter's value."""
        pieces = [value]
        for delimiter in self.delimiters:
            pieces = [part for piece in pieces for part in piece.split(delimiter)]
        if self.reverse:
            pieces.reverse()
        text = ".".join(pieces[-self.parts :] if self.parts else pieces)
        return quote(text, safe="") if self.escape else text


MacroString = Sequence[str | Macro]
# The value of a letter.
ValueOf = Callable[[str], str]


def parse_domain_spec(text: str) -> MacroString:
    """Raises ValueError."""
    if not _DOMAIN_END.fullmatch(text):
        raise ValueError(f"{text!r:.80} is no domain")
    return _parse(text, _LITERAL, _LETTERS)


def parse_macro_string(text: str) -> MacroString:
    """Of a modifier that nobody knows. Raises ValueError."""
    return _parse(text, _LITERAL, _LETTERS)


def parse_explanation(text: str) -> MacroString:
    """Raises ValueError."""
    return _parse(text, _WORDS, _EXPLANATION_LETTERS)


def letters(parsed: MacroString) -> frozenset[str]:
    """Of which letters the value is needed."""
    return frozenset(each.letter for each in parsed if isinstance(each, Macro))


def expand(parsed: MacroString, value_of: ValueOf) -> str:
    """With everything in its place."""
    return "".join([each if isinstance(each, str) else each.of(value_of(each.letter)) for each in parsed])


def _parse(text: str, literal: re.Pattern[str], known: frozenset[str]) -> MacroString:
    found: list[str | Macro] = []
    place = 0
    while place < len(text):
        if text[place] == "%":
            match = _MACRO.match(text, place)
            if match is None:
                raise ValueError(f"{text[place:]!r:.40} is no macro")
            found.append(_FIXED[match[5]] if match[5] else _macro(match, known))
        else:
            match = literal.match(text, place)
            if match is None or not match[0]:
                raise ValueError(f"{text[place:]!r:.40} cannot stand there")
            found.append(match[0])
        place = match.end()
    return found


def _macro(match: re.Match[str], known: frozenset[str]) -> Macro:
    letter, digits, turned, delimiters, _ = match.groups()
    if letter.lower() not in known:
        raise ValueError(f"%{{{letter}}} is unknown")
    if digits and not int(digits[:4]):
        raise ValueError(f"{match[0]} takes no part")
    return Macro(letter.lower(), int(digits[:4] or 0), bool(turned), delimiters or ".", letter.isupper())
