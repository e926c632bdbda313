"""Reads the keys of SEARCH (RFC 3501 6.4.4) with a stack of its own: no input makes it recurse."""

from __future__ import annotations

from collections.abc import Callable

import attrs

from mailhub.message import flags as message_flags
from mailhub.wire.imap import commands
from mailhub.wire.imap.commands import DateRelation, SearchKey
from mailhub.wire.imap.sets import SequenceSet
from mailhub.wire.imap.tokens import BadSyntax, Tokens

KEY_LIMIT = 2000  # keys, NOT, OR and parentheses in one command
DEPTH_LIMIT = 50  # of the finished tree

CHARSETS = {"UTF-8": "utf-8", "UTF8": "utf-8", "US-ASCII": "ascii", "ASCII": "ascii"}

_SEEN = commands.HasFlag(message_flags.SEEN)
_PLAIN: dict[str, SearchKey] = {
    "ALL": commands.All(),
    "ANSWERED": commands.HasFlag(message_flags.ANSWERED),
    "DELETED": commands.HasFlag(message_flags.DELETED),
    "DRAFT": commands.HasFlag(message_flags.DRAFT),
    "FLAGGED": commands.HasFlag(message_flags.FLAGGED),
    "SEEN": _SEEN,
    "UNANSWERED": commands.Not(commands.HasFlag(message_flags.ANSWERED)),
    "UNDELETED": commands.Not(commands.HasFlag(message_flags.DELETED)),
    "UNDRAFT": commands.Not(commands.HasFlag(message_flags.DRAFT)),
    "UNFLAGGED": commands.Not(commands.HasFlag(message_flags.FLAGGED)),
    "UNSEEN": commands.Not(_SEEN),
    "RECENT": commands.IsRecent(),
    "OLD": commands.Not(commands.IsRecent()),
    "NEW": commands.And((commands.IsRecent(), commands.Not(_SEEN))),
}


def search_program(tokens: Tokens, encoding: str) -> SearchKey:
    """Everything after `SEARCH ` and CHARSET: one key or more, all of which must hold.

    `encoding` is the Python codec of texts. Raises BadSyntax.
    """
    return _Reader(tokens, encoding).read()


def sequence_set(tokens: Tokens) -> SequenceSet:
    """A sequence set. Raises BadSyntax."""
    start = tokens.position
    try:
        return SequenceSet.parse(tokens.sequence_set())
    except BadSyntax:
        raise
    except ValueError as error:
        raise BadSyntax(start, str(error).capitalize()) from None


@attrs.define
class _Frame:
    """An open NOT, OR or parenthesis (or the command itself) and the keys it has so far, with their depths."""

    make: Callable[[list[SearchKey]], SearchKey]
    wants: int  # keys; 0: until the closing parenthesis
    keys: list[SearchKey] = attrs.field(factory=list)
    depths: list[int] = attrs.field(factory=list)


class _Reader:
    def __init__(self, tokens: Tokens, encoding: str) -> None:
        self._tokens = tokens
        self._encoding = encoding
        self._count = 0
        self._frames = [_Frame(_all_of, 0)]

    def read(self) -> SearchKey:
        while True:
            opened = self._open()
            if opened:
                continue
            separated = self._tokens.blanks()
            while self._may_close() and self._tokens.accept(b")"):
                self._close()
                separated = self._tokens.blanks()
            if self._tokens.at_end():
                break
            if not (separated or self._tokens.looking_at(b"(")):
                raise self._tokens.bad("Expected a space")
        if len(self._frames) > 1:
            raise self._tokens.bad("The search is not complete")
        return _all_of(self._frames[0].keys)

    def _open(self) -> bool:
        """Read the start of a key; true if it wants keys inside before anything else."""
        tokens = self._tokens
        self._count += 1
        if self._count > KEY_LIMIT:
            raise tokens.bad("Too many search keys")
        if tokens.accept(b"("):
            tokens.blanks()
            self._frames.append(_Frame(_all_of, 0))
            return True
        start = tokens.position
        next_octet = tokens.octets[start : start + 2].lstrip(b'"')[:1]
        if next_octet.isdigit() or next_octet == b"*":
            self._add(commands.NumberIn(sequence_set(tokens)), 1)
            return False
        # Some clients put quotes around the names of keys too.
        word = tokens.string().decode("ascii", "replace").upper() if tokens.looking_at(b'"') else tokens.word()
        if word in _OPERATORS:
            tokens.gap()
            self._frames.append(_Frame(*_OPERATORS[word]))
            return True
        self._add(self._simple(word, start), 1)
        return False

    def _simple(self, word: str, start: int) -> SearchKey:
        if plain := _PLAIN.get(word):
            return plain
        read = _WITH_ARGUMENT.get(word)
        if read is None:
            raise BadSyntax(start, "Unknown search key")
        self._tokens.space()
        return read(self, word)

    def _add(self, key: SearchKey, depth: int) -> None:
        """Give a finished key to the innermost frame; frames that are complete by it become keys themselves."""
        while True:
            frame = self._frames[-1]
            frame.keys.append(key)
            frame.depths.append(depth)
            if not frame.wants or len(frame.keys) < frame.wants:
                return
            key, depth = self._finish()

    def _may_close(self) -> bool:
        return len(self._frames) > 1 and not self._frames[-1].wants

    def _close(self) -> None:
        self._add(*self._finish())

    def _finish(self) -> tuple[SearchKey, int]:
        """Make a key of the innermost frame, and tell its depth."""
        frame = self._frames.pop()
        key = frame.make(frame.keys)
        depth = _depth(key, frame)
        if depth > DEPTH_LIMIT:
            raise self._tokens.bad("The search is nested too deeply")
        return key, depth

    # --- keys with an argument

    def text(self) -> str:
        start = self._tokens.position
        octets = self._tokens.astring()
        try:
            return octets.decode(self._encoding)
        except UnicodeDecodeError:
            raise BadSyntax(start, "Text is not in the charset") from None

    def envelope_contains(self, word: str) -> SearchKey:
        return commands.EnvelopeContains(word.lower(), self.text())

    def header_contains(self, word: str) -> SearchKey:
        start = self._tokens.position
        name = self._tokens.astring()
        if not name.isascii():
            raise BadSyntax(start, "Not a field name")
        self._tokens.space()
        return commands.HeaderContains(name.decode().removesuffix(":").lower(), self.text())

    def keyword(self, word: str) -> SearchKey:
        start = self._tokens.position
        try:
            key = commands.HasFlag(message_flags.parse(self._tokens.astring().decode("ascii")))
        except BadSyntax:
            raise
        except ValueError:
            raise BadSyntax(start, "Not a keyword") from None
        return key if word == "KEYWORD" else commands.Not(key)

    def internal_date(self, word: str) -> SearchKey:
        return commands.InternalDateIs(DateRelation(word), self._tokens.date())

    def sent_date(self, word: str) -> SearchKey:
        return commands.SentDateIs(DateRelation(word[4:]), self._tokens.date())

    def _number(self) -> int:
        quoted = self._tokens.accept(b'"')
        number = self._tokens.number()
        if quoted:
            self._tokens.expect(b'"')
        return number

    def larger(self, word: str) -> SearchKey:
        return commands.Larger(self._number())

    def smaller(self, word: str) -> SearchKey:
        return commands.Smaller(self._number())

    def body(self, word: str) -> SearchKey:
        return commands.BodyContains(self.text())

    def whole_text(self, word: str) -> SearchKey:
        return commands.TextContains(self.text())

    def uid(self, word: str) -> SearchKey:
        return commands.UidIn(sequence_set(self._tokens))


_WITH_ARGUMENT: dict[str, Callable[[_Reader, str], SearchKey]] = {
    **dict.fromkeys(("FROM", "TO", "CC", "BCC", "SUBJECT"), _Reader.envelope_contains),
    "HEADER": _Reader.header_contains,
    **dict.fromkeys(("KEYWORD", "UNKEYWORD"), _Reader.keyword),
    **dict.fromkeys(("BEFORE", "ON", "SINCE"), _Reader.internal_date),
    **dict.fromkeys(("SENTBEFORE", "SENTON", "SENTSINCE"), _Reader.sent_date),
    "LARGER": _Reader.larger,
    "SMALLER": _Reader.smaller,
    "BODY": _Reader.body,
    "TEXT": _Reader.whole_text,
    "UID": _Reader.uid,
}


# --- making keys of keys ---------------------------------------------------------------------------------------------


def _all_of(keys: list[SearchKey]) -> SearchKey:
    flat: list[SearchKey] = []
    for key in keys:
        flat.extend(key.keys if isinstance(key, commands.And) else (key,))
    return flat[0] if len(flat) == 1 else commands.And(tuple(flat))


def _any_of(keys: list[SearchKey]) -> SearchKey:
    flat: list[SearchKey] = []
    for key in keys:
        flat.extend(key.keys if isinstance(key, commands.Or) else (key,))
    return commands.Or(tuple(flat))


def _none_of(keys: list[SearchKey]) -> SearchKey:
    (key,) = keys
    return key.key if isinstance(key, commands.Not) else commands.Not(key)


def _depth(key: SearchKey, frame: _Frame) -> int:
    """The depth of what a frame became: a key within one of its kind was taken up, and a bracket may mean nothing."""
    if frame.keys == [key]:
        return frame.depths[0]
    if frame.make is _none_of and not isinstance(key, commands.Not):
        return frame.depths[0] - 1
    depths = zip(frame.keys, frame.depths, strict=True)
    return 1 + max(depth - isinstance(inner, type(key)) for inner, depth in depths)


_OPERATORS: dict[str, tuple[Callable[[list[SearchKey]], SearchKey], int]] = {
    "NOT": (_none_of, 1),
    "OR": (_any_of, 2),
}
