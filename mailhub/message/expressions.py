"""Patterns over mail addresses: wildcards and regular expressions, matched in linear time.

Whoever sends mail chooses the text that is matched, so no pattern may be one that backtracks without end, as those of
`re` may. RE2 follows all ways through a pattern at once, and knows what such a machine can know: no references back and
no looking around.
"""

from __future__ import annotations

import re
from typing import Any

import attrs
import re2  # type: ignore[import-untyped]

PATTERN_LIMIT = 256  # characters
GROUP_LIMIT = 9  # \1 to \9
_MEMORY = 1 << 20  # octets, of one pattern

Groups = tuple[str, ...]
"""The whole text, and what each group has matched; "" for one that has no part in the match."""


def _options() -> Any:
    options = re2.Options()
    options.case_sensitive = False
    options.dot_nl = True
    options.max_mem = _MEMORY
    options.log_errors = False
    return options


_OPTIONS = _options()


@attrs.frozen
class Pattern:
    """A pattern that matches a whole text, whatever the case. Two of the same `text` are equal."""

    text: str
    groups: int = attrs.field(eq=False)
    _machine: Any = attrs.field(eq=False, repr=False)

    @classmethod
    def regex(cls, text: str, *, whole: bool = True) -> Pattern:
        """Read a regular expression; without `whole` it may match any part of a text. Raises ValueError."""
        _check_length(text)
        groups = _compiled(text).groups
        if groups > GROUP_LIMIT:
            raise ValueError(f"more than {GROUP_LIMIT} groups")
        return cls(text, groups, _compiled(text if whole else f".*?(?:{text}).*"))

    @classmethod
    def wildcard(cls, text: str) -> Pattern:
        """`*` is any number of characters but no `@`, `?` is one; each has a group. Raises ValueError."""
        _check_length(text)
        groups = text.count("*") + text.count("?")
        if groups > GROUP_LIMIT:
            raise ValueError(f"more than {GROUP_LIMIT} of * and ?")
        pieces = {"*": "([^@]*)", "?": "([^@])"}
        return cls(text, groups, _compiled("".join([pieces.get(each) or re2.escape(each) for each in text])))

    def match(self, text: str) -> Groups | None:
        """What the groups have matched, None where the whole text is no match."""
        found = self._machine.fullmatch(text)
        return None if found is None else (text, *found.groups("")[: self.groups])


def _compiled(text: str) -> Any:
    try:
        return re2.compile(text, _OPTIONS)
    except re2.error as error:
        (told,) = error.args
        why = told.decode(errors="replace") if isinstance(told, bytes) else str(told)
        raise ValueError(f"the regular expression is wrong: {why}") from None


def _check_length(text: str) -> None:
    if not text or len(text) > PATTERN_LIMIT:
        raise ValueError(f"a pattern has from 1 to {PATTERN_LIMIT} characters")


_REFERENCE = re.compile(r"\\(.?)", re.DOTALL)


def expanded(template: str, groups: Groups) -> str:
    """`\\1` to `\\9` are what the groups have matched, `\\0` the whole, `\\\\` a backslash. Raises ValueError for a
    group that there is not."""

    def one(reference: re.Match[str]) -> str:
        which = reference[1]
        if which == "\\":
            return which
        if which.isascii() and which.isdigit() and int(which) < len(groups):
            return groups[int(which)]
        raise ValueError(f'there is no group "\\{which}"')

    return _REFERENCE.sub(one, template)
