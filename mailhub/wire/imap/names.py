"""Mailbox names as IMAP writes them: modified UTF-7, and LIST's patterns (RFC 3501 5.1.3, 6.3.8)."""

from __future__ import annotations

import re
from collections.abc import Iterable

from mailhub.message import modified_utf_7
from mailhub.message.mailbox_names import DELIMITER, INBOX, normalise


def decode(octets: bytes) -> str:
    """Read a name in modified UTF-7, strictly. Raises InvalidMailboxName. INBOX is put in capitals."""
    return normalise(modified_utf_7.read(octets))


def encode(name: str) -> bytes:
    """Write modified UTF-7. Raises InvalidMailboxName for a lone surrogate."""
    return modified_utf_7.encode(name)


# --- patterns (6.3.8) ------------------------------------------------------------------------------------------------


class Pattern:
    """What LIST and LSUB ask for: any of `patterns`, each after `reference`. `*` is any text, `%` any within a level.

    Matching is linear in the name: all positions in all patterns are followed at once, as bits of a number. The
    patterns stand side by side in it; bit i of the state says that what was read so far leads to element i.
    """

    def __init__(self, reference: str, patterns: Iterable[str]) -> None:
        self._any = False
        self._literals: dict[str, int] = {}
        self._start = self._stars = self._percents = self._final = 0
        position = 0
        for pattern in patterns:
            self._start |= 1 << position
            position = self._place(normalise(reference + pattern), position)
            self._final |= 1 << position
            position += 1

    def _place(self, pattern: str, position: int) -> int:
        """Put the elements of a pattern at `position` and up; returns the position after the last one."""
        elements = _WILDCARDS.sub(lambda run: "*" if "*" in run[0] else "%", pattern)
        self._any = self._any or elements == "*"
        for index, element in enumerate(elements, position):
            if element == "*":
                self._stars |= 1 << index
            elif element == "%":
                self._percents |= 1 << index
            else:
                self._literals[element] = self._literals.get(element, 0) | 1 << index
        return position + len(elements)

    def matches(self, name: str) -> bool:
        """Whether one of the patterns matches the whole name."""
        if self._any:
            return True
        state = self._past_wildcards(self._start)
        inbox = 5 if normalise(name)[:6] in (INBOX, INBOX + DELIMITER) else 0
        for position, character in enumerate(name):
            literal = self._literals.get(character, 0)
            if position < inbox:
                literal |= self._literals.get(character.lower(), 0)
            staying = state & (self._stars if character == DELIMITER else self._stars | self._percents)
            state = self._past_wildcards((state & literal) << 1 | staying)
            if not state:
                return False
        return bool(state & self._final)

    def _past_wildcards(self, state: int) -> int:
        """A wildcard may match nothing; two never stand side by side."""
        return state | (state & (self._stars | self._percents)) << 1


_WILDCARDS = re.compile("[*%]{2,}")
