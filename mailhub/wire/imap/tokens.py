"""The words of IMAP's grammar, read from the octets of one complete command (RFC 3501 9).

The octets are the command as it came, without its last CRLF: line, literal, line, ... Every pattern is linear.

Clients are looser than the grammar. What can mean one thing only is taken: blanks in a row or at the end, strings where
atoms belong, atoms with octets that need quotes, dates with fewer digits, numbers beyond all bounds. What is written
in answer is strict (`responses`).
"""

from __future__ import annotations

import re
from datetime import date, datetime

from mailhub.message import flags as message_flags
from mailhub.message.flags import Flags
from mailhub.wire.imap import dates

NUMBER64_MAXIMUM = 2**63 - 1
FLAG_LIMIT = 100  # flags in one list

LITERAL_END = re.compile(
    rb"\{([0-9]{1,20})(\+?)\}\Z"
)  # at the end of a line: a literal follows (RFC 3501 4.3, RFC 7888)

# RFC 3501 9 atom-specials: ( ) { SP CTL % * " \ ]; everything above 126 is no CHAR or DEL.
_ATOM = re.compile(rb"[!#$&'+-\[^-z|}~]+")
# Of the specials only those that begin or end something else stay out.
_LOOSE_ATOM = re.compile(rb"[!#-'*-z|-~\x80-\xff]+")
BLANKS = b" \t"
_BLANKS = re.compile(rb"[ \t]+")
_TAG = re.compile(rb"[!#$&',-\[\]^-z|}~]+")  # ASTRING-CHAR without "+"
_QUOTED = re.compile(rb'"([^\r\n\0"\\]*(?:\\["\\][^\r\n\0"\\]*)*)"')
_ESCAPE = re.compile(rb'\\(["\\])')
_LITERAL = re.compile(rb"\{([0-9]{1,20})\+?\}\r\n")
_DIGITS = re.compile(rb"[0-9]+")
_SEQUENCE_SET = re.compile(rb"(?:[0-9]+|\*)(?:[ \t]*[,:][ \t]*(?:[0-9]+|\*))*")
_FLAG = re.compile(rb"\\?[!#$&'+-\[^-z|}~]+")
_QUOTED_FLAG = re.compile(rb'"(\\{0,2}[!#$&\'+-\[^-z|}~]+)"')


class BadSyntax(ValueError):
    """The command breaks the grammar at octet `position`; `text`, fit for the client, says what was expected."""

    def __init__(self, position: int, text: str) -> None:
        self.position = position
        self.text = text
        super().__init__(f"{text} (octet {position})")


class Incomplete(BadSyntax):
    """The octets end where a literal has just been announced."""


class OverLimit(BadSyntax):
    """Well-formed, but more than we take: to be answered NO [LIMIT]."""


class Tokens:
    """A reading position in a command. Every method takes what it is named for, or raises BadSyntax."""

    __slots__ = ("octets", "position")

    def __init__(self, octets: bytes, position: int = 0) -> None:
        self.octets = octets
        self.position = position

    def bad(self, text: str) -> BadSyntax:
        """The error at this position."""
        return BadSyntax(self.position, text)

    # --- single octets

    def at_end(self) -> bool:
        """Whether everything is read."""
        return self.position >= len(self.octets)

    def end(self) -> None:
        """Nothing more may follow but blanks."""
        self.blanks()
        if not self.at_end():
            raise self.bad("Unexpected octets after the command")

    def looking_at(self, octets: bytes) -> bool:
        """Whether these octets come next."""
        return self.octets.startswith(octets, self.position)

    def accept(self, octets: bytes) -> bool:
        """Take these octets if they come next."""
        if not self.looking_at(octets):
            return False
        self.position += len(octets)
        return True

    def expect(self, octets: bytes) -> None:
        """Take exactly these octets."""
        if not self.accept(octets):
            raise self.bad(f"Expected {octets.decode()}")

    def blanks(self) -> bool:
        """Take the blanks that come next; whether there were any."""
        match = _BLANKS.match(self.octets, self.position)
        if match is None:
            return False
        self.position = match.end()
        return True

    def space(self) -> None:
        """Take SP, or several."""
        if not self.blanks():
            raise self.bad("Expected a space")

    def gap(self) -> None:
        """Take SP, which may be missing before an opening parenthesis."""
        if not self.looking_at(b"("):
            self.space()
        self.blanks()

    def more(self, close: bytes = b"") -> bool:
        """Between the items of a list: take the blanks, and at the list's end `close`. Whether an item follows."""
        found = self.blanks()
        if self.accept(close) if close else self.at_end():
            return False
        if not found:
            raise self.bad(f"Expected a space or {close.decode()}" if close else "Expected a space")
        return True

    def open(self) -> bool:
        """Take the parenthesis that opens a list; false if the list is closed at once."""
        self.expect(b"(")
        self.blanks()
        return not self.accept(b")")

    # --- words

    def tag(self) -> str:
        """The client's tag; ASCII."""
        return self._match(_TAG, "Expected a tag").decode()

    def atom(self) -> bytes:
        """An atom, as written."""
        return self._match(_ATOM, "Expected an atom")

    def word(self) -> str:
        """An atom that is a name of the protocol: in capitals."""
        return self.atom().decode().upper()

    def accept_word(self, word: bytes) -> bool:
        """Take this name of the protocol, any case, if it comes next as a whole atom."""
        match = _ATOM.match(self.octets, self.position)
        if match is None or match[0].upper() != word:
            return False
        self.position = match.end()
        return True

    def rest(self) -> bytes:
        """Everything to the end."""
        start, self.position = self.position, len(self.octets)
        return self.octets[start:]

    def string(self) -> bytes:
        """A quoted string or a literal. Octets above 127 are accepted in both, NUL in neither."""
        if self.looking_at(b"{"):
            return self._literal()
        quoted = self._match(_QUOTED, "Expected a string")[1:-1]
        return _ESCAPE.sub(rb"\1", quoted) if b"\\" in quoted else quoted

    def astring(self) -> bytes:
        """An atom (which may have "]", wildcards, backslashes and octets above 127) or a string."""
        if match := _LOOSE_ATOM.match(self.octets, self.position):
            self.position = match.end()
            return match[0]
        return self.string()

    def nstring(self) -> bytes | None:
        """A string, or NIL."""
        if self.octets[self.position : self.position + 3].upper() == b"NIL":
            self.position += 3
            return None
        return self.string()

    # --- numbers

    def number(self) -> int:
        """A number. One of more than 63 bits means the largest that has: there is nothing that large to tell apart."""
        return bounded(self._match(_DIGITS, "Expected a number"), NUMBER64_MAXIMUM)

    def nz_number(self) -> int:
        """A number that is not 0."""
        start = self.position
        number = self.number()
        if not number:
            raise BadSyntax(start, "Expected a number above 0")
        return number

    def sequence_set(self) -> bytes:
        """The octets of a sequence set, unread, without blanks beside its commas and colons."""
        quoted = self.accept(b'"')
        octets = self._match(_SEQUENCE_SET, "Expected a sequence set")
        if quoted:
            self.expect(b'"')
        return octets.translate(None, BLANKS)

    # --- dates

    def date(self) -> date:
        """`1-Feb-1994`, with or without quotes."""
        start = self.position
        try:
            return dates.read_date(self.astring())
        except dates.NoDate as error:
            raise BadSyntax(start, str(error)) from None

    def date_time(self) -> datetime:
        """`" 1-Feb-1994 21:52:25 -0800"`, in quotes."""
        start = self.position
        try:
            return dates.read_date_time(self.string())
        except dates.NoDate as error:
            raise BadSyntax(start, str(error)) from None

    # --- flags

    def flag_list(self) -> Flags:
        """`(\\Seen $Forwarded)`, canonical; flags that a client may set."""
        return self._flags_up_to(b")") if self.open() else message_flags.NO_FLAGS

    def flags(self) -> Flags:
        """One flag or more, up to the end of the command."""
        return self._flags_up_to(b"")

    def _flags_up_to(self, close: bytes) -> Flags:
        found = [self.flag()]
        while self.more(close):
            if len(found) == FLAG_LIMIT:
                raise OverLimit(self.position, "Too many flags")
            found.append(self.flag())
        return message_flags.each_once(found)

    def flag(self) -> str:
        """One flag, with or without quotes (in which the backslash should be doubled)."""
        start = self.position
        if match := _QUOTED_FLAG.match(self.octets, start):
            self.position = match.end()
            text = match[1].replace(b"\\\\", b"\\").decode()
        else:
            text = self._match(_FLAG, "Expected a flag").decode()
        try:
            return message_flags.parse(text)
        except message_flags.KeywordTooLong:
            raise OverLimit(start, "A keyword is too long") from None
        except ValueError as error:
            raise BadSyntax(start, f"Flag: {error}") from None

    # --- the machinery

    def _match(self, pattern: re.Pattern[bytes], text: str) -> bytes:
        match = pattern.match(self.octets, self.position)
        if match is None:
            raise self.bad(text)
        self.position = match.end()
        return match[0]

    def _groups(self, pattern: re.Pattern[bytes], text: str) -> tuple[bytes, ...]:
        match = pattern.match(self.octets, self.position)
        if match is None:
            raise self.bad(text)
        self.position = match.end()
        return match.groups()

    def _literal(self) -> bytes:
        start = self.position
        (digits,) = self._groups(_LITERAL, "Expected a literal")
        end = self.position + int(digits)
        if end > len(self.octets):
            raise Incomplete(start, "The literal is not complete")
        octets = self.octets[self.position : end]
        if b"\0" in octets:
            raise BadSyntax(start, "NUL in a literal")
        self.position = end
        return octets


def bounded(digits: bytes, maximum: int) -> int:
    """The number that these digits write, or `maximum`, however many they are."""
    digits = digits.lstrip(b"0")
    return min(int(digits or b"0"), maximum) if len(digits) <= len(str(maximum)) else maximum
