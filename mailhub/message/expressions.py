"""Patterns over mail addresses: wildcards and regular expressions, matched in linear time.

Whoever sends mail chooses the text that is matched, so no pattern may be one that backtracks without end, as those of
`re` may. These are run by a Pike machine (R. Cox, "Regular Expression Matching: the Virtual Machine Approach"): all
ways through the pattern are followed at once, and each step of it is taken at most once for each character.

Known are characters, `.`, sets, `\\d \\w \\s` and their opposites, groups with `(` or `(?:`, `|`, `* + ? {m,n}` greedy
or not, `^` and `$`. There are no references back and no looking around: no machine of this kind has them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import attrs

PATTERN_LIMIT = 256  # characters
PROGRAM_LIMIT = 400  # steps: with an address of 320 characters, some ten milliseconds at the worst
GROUP_LIMIT = 9  # \1 to \9
_DEPTH_LIMIT = 20  # groups in groups
_END = ""

Test = Callable[[str], bool]
Groups = tuple[str, ...]
"""The whole text, and what each group has matched; "" for one that has no part in the match."""


class _Step(NamedTuple):
    """`char`: one character that passes `test`. `split`: go on at both, the first one preferred. `jump`. `save`: note
    where we are. `begin`, `end`: only there. Distances are relative, so that a part can stand anywhere."""

    what: str
    first: int = 0
    second: int = 0
    test: Test | None = None


_Part = list[_Step]


@attrs.frozen(eq=False)
class Pattern:
    """A pattern that matches a whole text, whatever the case. Two of the same `text` are equal."""

    text: str
    groups: int
    _program: Sequence[_Step] = attrs.field(repr=False)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Pattern) and other.text == self.text

    def __hash__(self) -> int:
        return hash(self.text)

    @classmethod
    def regex(cls, text: str, *, whole: bool = True) -> Pattern:
        """Read a regular expression; without `whole` it may match any part of a text. Raises ValueError."""
        parser = _Parser(text)
        part = parser.parse()
        if not whole:
            around = _repeated([_Step("char", test=_anything)], 0, None, greedy=False)
            part = around + part + around
        return cls(text, parser.groups, _finished(part))

    @classmethod
    def wildcard(cls, text: str) -> Pattern:
        """`*` is any number of characters but no `@`, `?` is one; each has a group. Raises ValueError."""
        _check_length(text)
        part: _Part = []
        groups = 0
        for character in text:
            if character in "*?":
                groups += 1
                if groups > GROUP_LIMIT:
                    raise ValueError(f"more than {GROUP_LIMIT} of * and ?")
                one = [_Step("char", test=_no_at)]
                part += _group(groups, one if character == "?" else _repeated(one, 0, None, greedy=True))
            else:
                part.append(_Step("char", test=_same_as(character)))
        return cls(text, groups, _finished(part))

    def match(self, text: str) -> Groups | None:
        """What the groups have matched, None where the whole text is no match."""
        start = (0,) * (2 * self.groups + 2)
        threads = self._reached(0, start, 0, len(text), set())
        for position, character in enumerate(text):
            if not threads:
                return None
            seen: set[int] = set()
            following: list[tuple[int, tuple[int, ...]]] = []
            for at, saved in threads:
                test = self._program[at].test
                if test is not None and test(character):
                    following += self._reached(at + 1, saved, position + 1, len(text), seen)
            threads = following
        for at, saved in threads:
            if self._program[at].what == "match":
                return (text, *(text[saved[2 * n] : saved[2 * n + 1]] for n in range(1, self.groups + 1)))
        return None

    def _reached(
        self, at: int, saved: tuple[int, ...], position: int, size: int, seen: set[int]
    ) -> list[tuple[int, tuple[int, ...]]]:
        """The steps that wait for a character, and the end, as far as they come from here, preferred ones first."""
        found = []
        pending = [(at, saved)]
        while pending:
            at, saved = pending.pop()
            if at in seen:
                continue
            seen.add(at)
            step = self._program[at]
            if step.what in ("char", "match"):
                found.append((at, saved))
            elif step.what == "split":
                pending += [(at + step.second, saved), (at + step.first, saved)]
            elif step.what == "jump":
                pending.append((at + step.first, saved))
            elif step.what == "save":
                pending.append((at + 1, (*saved[: step.first], position, *saved[step.first + 1 :])))
            elif position == (0 if step.what == "begin" else size):
                pending.append((at + 1, saved))
        return found


def expanded(template: str, groups: Groups) -> str:
    """`\\1` to `\\9` are what the groups have matched, `\\0` the whole, `\\\\` a backslash. Raises ValueError for a
    group that there is not."""
    found = []
    characters = iter(template)
    for character in characters:
        if character != "\\":
            found.append(character)
            continue
        which = next(characters, _END)
        if which == "\\":
            found.append(which)
        elif which.isascii() and which.isdigit() and int(which) < len(groups):
            found.append(groups[int(which)])
        else:
            raise ValueError(f'there is no group "\\{which}"')
    return "".join(found)


# --- Characters -------------------------------------------------------------------------------------------------------


def _anything(character: str) -> bool:
    return True


def _no_at(character: str) -> bool:
    return character != "@"


def _same_as(wanted: str) -> Test:
    low = wanted.lower()
    return lambda character: character.lower() == low


def _digit(character: str) -> bool:
    return "0" <= character <= "9"


def _word(character: str) -> bool:
    return character == "_" or character.isalnum()


_KINDS: dict[str, Test] = {"d": _digit, "w": _word, "s": str.isspace}


_CLASSES: dict[str, Test] = {
    "alnum": str.isalnum,
    "alpha": str.isalpha,
    "digit": _digit,
    "lower": str.isalpha,  # case does not matter
    "space": str.isspace,
    "upper": str.isalpha,
}


def _kind(letter: str) -> Test | None:
    test = _KINDS.get(letter.lower())
    if test is None or letter.islower():
        return test
    return lambda character: not test(character)


# --- Parts ------------------------------------------------------------------------------------------------------------


def _group(number: int, part: _Part) -> _Part:
    return [_Step("save", 2 * number), *part, _Step("save", 2 * number + 1)]


def _repeated(part: _Part, least: int, most: int | None, *, greedy: bool) -> _Part:
    if len(part) * max(least, most or 0, 1) > PROGRAM_LIMIT:
        raise ValueError("the pattern is too large")

    def split(inside: int, behind: int) -> _Step:
        return _Step("split", inside, behind) if greedy else _Step("split", behind, inside)

    size = len(part)
    found = part * least
    if most is None:
        return [*found, split(1, size + 2), *part, _Step("jump", -size - 1)]
    rest: _Part = []
    for _ in range(most - least):
        rest = [split(1, size + len(rest) + 1), *part, *rest]
    return found + rest


def _finished(part: _Part) -> tuple[_Step, ...]:
    if len(part) > PROGRAM_LIMIT:
        raise ValueError("the pattern is too large")
    return (*part, _Step("match"))


def _check_length(text: str) -> None:
    if not text or len(text) > PATTERN_LIMIT:
        raise ValueError(f"a pattern has from 1 to {PATTERN_LIMIT} characters")


# --- The grammar ------------------------------------------------------------------------------------------------------


class _Parser:
    """Reads a regular expression. Every mistake is a ValueError."""

    def __init__(self, text: str) -> None:
        _check_length(text)
        self._text = text
        self._at = 0
        self._depth = 0
        self.groups = 0

    def parse(self) -> _Part:
        part = self._choice()
        if self._at < len(self._text):
            raise ValueError("a ) has no (")
        return part

    def _peek(self) -> str:
        return self._text[self._at] if self._at < len(self._text) else _END

    def _next(self) -> str:
        character = self._peek()
        self._at += 1
        return character

    def _take(self, text: str) -> bool:
        found = self._text.startswith(text, self._at)
        self._at += len(text) if found else 0
        return found

    def _choice(self) -> _Part:
        part = self._sequence()
        while self._take("|"):
            other = self._sequence()
            part = [_Step("split", 1, len(part) + 2), *part, _Step("jump", len(other) + 1), *other]
        return part

    def _sequence(self) -> _Part:
        part: _Part = []
        while self._peek() not in ("|", ")", _END):
            part += self._counted()
            if len(part) > PROGRAM_LIMIT:
                raise ValueError("the pattern is too large")
        return part

    def _counted(self) -> _Part:
        part, may_repeat = self._atom()
        bounds = self._bounds()
        if bounds is None:
            return part
        if not may_repeat:
            raise ValueError("nothing to repeat")
        least, most = bounds
        if most is not None and most < least:
            raise ValueError("a repetition ends before it begins")
        part = _repeated(part, least, most, greedy=not self._take("?"))
        if self._peek() in ("*", "+", "?"):
            raise ValueError("a repetition is repeated")
        return part

    def _bounds(self) -> tuple[int, int | None] | None:
        for mark, bounds in (("*", (0, None)), ("+", (1, None)), ("?", (0, 1))):
            if self._take(mark):
                return bounds
        if not self._take("{"):
            return None
        inside, end, rest = self._text[self._at :].partition("}")
        least, comma, most = inside.partition(",")
        if not end or not all(len(each) < 4 and (each + "0").isdecimal() for each in (least, most)):
            raise ValueError("after { stands a number, or two, and a }")
        self._at = len(self._text) - len(rest)
        first = int(least or 0)
        return first, (int(most) if most else None) if comma else first

    def _atom(self) -> tuple[_Part, bool]:
        character = self._next()
        if character == "(":
            return self._in_group(), True
        if character == "[":
            return [_Step("char", test=self._set())], True
        if character == ".":
            return [_Step("char", test=_anything)], True
        if character in "^$":
            return [_Step("begin" if character == "^" else "end")], False
        if character in "*+?{":
            raise ValueError("nothing to repeat")
        return [_Step("char", test=self._escaped() if character == "\\" else _same_as(character))], True

    def _in_group(self) -> _Part:
        number = 0
        if self._take("?"):
            if not self._take(":"):
                raise ValueError("of groups with (? only (?: is known")
        else:
            self.groups += 1
            number = self.groups
            if number > GROUP_LIMIT:
                raise ValueError(f"more than {GROUP_LIMIT} groups")
        self._depth += 1
        if self._depth > _DEPTH_LIMIT:
            raise ValueError(f"groups are nested more than {_DEPTH_LIMIT} deep")
        part = self._choice()
        self._depth -= 1
        if not self._take(")"):
            raise ValueError("a ( has no )")
        return _group(number, part) if number else part

    def _escaped(self) -> Test:
        character = self._next()
        test = _kind(character)
        if test is not None:
            return test
        if character == _END or (character.isascii() and character.isalnum()):
            raise ValueError(f'"\\{character}" is not known')
        return _same_as(character)

    def _set(self) -> Test:
        refused = self._take("^")
        tests: list[Test] = []
        while not tests or self._peek() != "]":
            character = self._next()
            if character == _END:
                raise ValueError("a [ has no ]")
            if character == "\\":
                tests.append(self._escaped())
            elif character == "[" and self._take(":"):
                tests.append(self._class())
            elif self._peek() == "-" and self._text[self._at + 1 : self._at + 2] not in ("]", _END):
                self._next()
                tests.append(_between(character, self._next()))
            else:
                tests.append(_same_as(character))
        self._next()
        return lambda character: any(test(character) for test in tests) is not refused

    def _class(self) -> Test:
        """A class of POSIX, as in `[[:digit:]]`."""
        name, end, rest = self._text[self._at :].partition(":]")
        if not end or name not in _CLASSES:
            raise ValueError(f"after [: stands one of {', '.join(_CLASSES)}, and :]")
        self._at = len(self._text) - len(rest)
        return _CLASSES[name]


def _between(first: str, last: str) -> Test:
    if last == "\\" or last < first:
        raise ValueError(f'"{first}-{last}" is no range')
    return lambda character: (
        first <= character <= last or first <= character.lower() <= last or (first <= character.upper() <= last)
    )
