"""Message flags (RFC 9051 2.3.2): a `frozenset[str]`, e.g. {"\\\\Seen", "$Forwarded"}."""

from __future__ import annotations

import re
from collections.abc import Iterable
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

# Registered keywords (RFC 5788) have one spelling; others are kept as the client wrote them.
_REGISTERED = (
    "$Forwarded",
    "$MDNSent",
    "$Junk",
    "$NotJunk",
    "$Phishing",
    "$Important",
    "$SubmitPending",
    "$Submitted",
)
_CANONICAL = {flag.lower(): flag for flag in (*SYSTEM_FLAGS, *_REGISTERED)}
# RFC 3501 9 ATOM-CHAR: any CHAR except atom-specials ( ) { SP CTL % * " \ ].
_ATOM = re.compile(r"[!#-$&'+-\[^-z|}~]+")
_ORDER = {RECENT: 0, ANSWERED: 1, FLAGGED: 2, DELETED: 3, SEEN: 4, DRAFT: 5}


def parse(text: str) -> str:
    """Read one flag that a client sets or searches and give its canonical form. Raises ValueError.

    `\\Recent` and unknown backslash flags are refused: a client may not set the first, and a server may not
    keep the others (RFC 3501 9 flag-extension).
    """
    if canonical := _CANONICAL.get(text.lower()):
        return canonical
    if len(text) > KEYWORD_LIMIT:
        raise ValueError("keyword is too long")
    if not _ATOM.fullmatch(text):
        raise ValueError("not a flag that can be set")
    return text


def normalise(texts: Iterable[str]) -> Flags:
    """The canonical set of the flags written in `texts`. Raises ValueError."""
    return frozenset(map(parse, texts))


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
