"""Mailbox names: what they are inside the house, and the rules for new ones (RFC 3501 5.1, 6.3.3).

A name is a `str` with "/" between levels; the first level INBOX is always in capitals.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator

from mailhub.errors import InvalidMailboxName

DELIMITER = "/"
INBOX = "INBOX"
LEVEL_LIMIT = 255  # octets of UTF-8 in one level
NAME_LIMIT = 1000  # octets of UTF-8 in all
DEPTH_LIMIT = 32  # levels

# Control, surrogate, line separator, paragraph separator.
_REFUSED = frozenset({"Cc", "Cs", "Zl", "Zp"})


def normalise(name: str) -> str:
    """Put a first level INBOX in capitals: it means the same in any case of ASCII (5.1)."""
    # No other letter counts: U+0131, an i without its dot, is in capitals an I too.
    if name[:5].isascii() and name[:5].upper() == INBOX and name[5:6] in ("", DELIMITER):
        return INBOX + name[5:]
    return name


def without_last_separator(name: str) -> str:
    """A name as CREATE takes it, with one separator too many at its end (6.3.3); all other commands take it too."""
    return name.removesuffix(DELIMITER)


def is_allowed(name: str) -> bool:
    """Whether `check` lets this name pass."""
    try:
        check(name)
    except InvalidMailboxName:
        return False
    return True


def check(name: str) -> None:
    """Whether a new mailbox may have this name. Raises InvalidMailboxName with the reason.

    Refused besides the bounds: control characters and separators (a listing could not show them), empty levels (the
    hierarchy would have two spellings), `.` and `..` (a backend may use files), and a leading `#` (5.1.1 keeps it for
    namespaces). `*` and `%` are letters like others (5.1): only patterns give them a meaning, and match them too.
    """
    if not name or len(name.encode("utf-8", "surrogatepass")) > NAME_LIMIT:
        raise InvalidMailboxName(f"Mailbox name must have 1 to {NAME_LIMIT} octets")
    if any(unicodedata.category(character) in _REFUSED for character in name):
        raise InvalidMailboxName("Mailbox name has a character that is not allowed")
    if name.startswith("#"):
        raise InvalidMailboxName("Mailbox name must not begin with #")
    levels = name.split(DELIMITER)
    if len(levels) > DEPTH_LIMIT:
        raise InvalidMailboxName(f"Mailbox name has more than {DEPTH_LIMIT} levels")
    for level in levels:
        if level in ("", ".", "..") or len(level.encode()) > LEVEL_LIMIT:
            raise InvalidMailboxName(
                f"Each level of a mailbox name must have 1 to {LEVEL_LIMIT} octets and not be . or .."
            )


def ancestors(name: str) -> Iterator[str]:
    """The names above this one, the nearest last: a, a/b of a/b/c."""
    position = name.find(DELIMITER)
    while position >= 0:
        yield name[:position]
        position = name.find(DELIMITER, position + 1)
