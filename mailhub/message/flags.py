"""Message flags (RFC 9051 2.3.2): a `frozenset[str]`, e.g. {"\\\\Seen", "$Forwarded"}."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import lru_cache

Flags = frozenset[str]

SEEN = "\\Seen"
ANSWERED = "\\Answered"
FLAGGED = "\\Flagged"
DELETED = "\\Deleted"
DRAFT = "\\Draft"
RECENT = "\\Recent"  # belongs to a session, never stored (RFC 3501 2.3.2)
SYSTEM_FLAGS: Flags = frozenset({SEEN, ANSWERED, FLAGGED, DELETED, DRAFT})
NO_FLAGS: Flags = frozenset()

KEYWORD_LIMIT = 128  # octets

FREE_OCTETS = 256  # of a message's flags as `encode` writes them; what is beyond counts as its account's use
_SHORT = 16  # flags; what larger sets look like is worked out again, lest a user with many fills memory for all


class KeywordTooLong(ValueError):
    """More than KEYWORD_LIMIT octets."""


_CANONICAL = {flag.lower(): flag for flag in SYSTEM_FLAGS}
# RFC 3501 9 ATOM-CHAR: any CHAR except atom-specials ( ) { SP CTL % * " \ ].
_ATOM = re.compile(r"[!#-$&'+-\[^-z|}~]+")
_ORDER = {RECENT: 0, ANSWERED: 1, FLAGGED: 2, DELETED: 3, SEEN: 4, DRAFT: 5}


def parse(text: str) -> str:
    """Read one flag that a client sets or searches. Raises ValueError.

    A system flag gets its usual letters; a keyword keeps those that the client wrote.
    `\\Recent` and unknown backslash flags are refused: a client may not set the first, and a server may not
    keep the others (RFC 3501 9 flag-extension).
    """
    if text.startswith("\\") and text.isascii() and (canonical := _CANONICAL.get(text.lower())):
        return canonical
    if len(text) > KEYWORD_LIMIT:
        raise KeywordTooLong("keyword is too long")
    if not _ATOM.fullmatch(text):
        raise ValueError("not a flag that can be set")
    return text


def normalise(texts: Iterable[str]) -> Flags:
    """The set of the flags written in `texts`, each once. Raises ValueError."""
    return each_once(map(parse, texts))


# --- keywords: their case does not matter (RFC 5788 3), the first spelling met in a mailbox is the one that is shown --


def each_once(flags: Iterable[str]) -> Flags:
    """The set of these flags; of those that differ in case alone the first one is in it."""
    found: dict[str, str] = {}
    for flag in flags:
        found.setdefault(flag.lower(), flag)
    return frozenset(found.values())


def union(old: Flags, more: Flags) -> Flags:
    """`old`, and those of `more` that it does not have in whatever spelling."""
    fresh = more - old
    if not fresh:
        return old
    known = {flag.lower() for flag in old}
    return old | {flag for flag in fresh if flag.lower() not in known}


def difference(old: Flags, fewer: Flags) -> Flags:
    """`old` without those that `fewer` has in whatever spelling."""
    left = old - fewer
    keywords = {flag.lower() for flag in fewer - SYSTEM_FLAGS}
    return frozenset(flag for flag in left if flag.lower() not in keywords) if keywords else left


def respelled(flags: Flags, spelling: Mapping[str, str]) -> Flags:
    """The same flags as a mailbox spells them; `spelling` is by the name in lower case."""
    return frozenset(spelling.get(flag.lower(), flag) for flag in flags)


def ordered(flags: Flags) -> list[str]:
    """System flags first, then keywords by name: the same set is always shown the same way."""
    return sorted(flags, key=lambda flag: (_ORDER.get(flag, len(_ORDER)), flag))


def render(flags: Flags) -> bytes:
    """The flag-list as IMAP writes it, with its parentheses: `(\\Seen $Forwarded)` (RFC 3501 9)."""
    return _render(flags) if len(flags) <= _SHORT else _render.__wrapped__(flags)


@lru_cache(maxsize=1024)
def _render(flags: Flags) -> bytes:
    return b"(" + " ".join(ordered(flags)).encode() + b")"


def encode(flags: Flags) -> str:
    """The text of a database column for a set of flags; `decode` is its inverse."""
    return _encode(flags) if len(flags) <= _SHORT else _encode.__wrapped__(flags)


@lru_cache(maxsize=1024)
def _encode(flags: Flags) -> str:
    return " ".join(ordered(flags))


def decode(text: str) -> Flags:
    """The set that `encode` wrote."""
    return decode_short(text) if len(text) <= FREE_OCTETS else frozenset(text.split())


@lru_cache(maxsize=1024)
def decode_short(text: str) -> Flags:
    """As `decode`, for texts of up to FREE_OCTETS."""
    return frozenset(text.split())


class Decoder:
    """As `decode`, for many long texts; equal keywords and sets among the results are one object."""

    def __init__(self) -> None:
        self._keywords: dict[str, str] = {}
        self._sets: dict[Flags, Flags] = {}

    def __call__(self, text: str) -> Flags:
        flags = frozenset([self._keywords.setdefault(keyword, keyword) for keyword in text.split()])
        return self._sets.setdefault(flags, flags)


def excess(text: str) -> int:
    """Octets beyond FREE_OCTETS of flags as `encode` writes them."""
    return max(0, len(text) - FREE_OCTETS)
