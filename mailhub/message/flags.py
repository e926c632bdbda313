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
        raise ValueError("keyword is too long")
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


@lru_cache(maxsize=4096)
def render(flags: Flags) -> bytes:
    """The flag-list as IMAP writes it, with its parentheses: `(\\Seen $Forwarded)` (RFC 3501 9)."""
    return b"(" + " ".join(ordered(flags)).encode() + b")"


@lru_cache(maxsize=4096)
def encode(flags: Flags) -> str:
    """The text of a database column for a set of flags; `decode` is its inverse."""
    return " ".join(ordered(flags))


@lru_cache(maxsize=4096)
def decode(text: str) -> Flags:
    """The set that `encode` wrote."""
    return frozenset(text.split())
