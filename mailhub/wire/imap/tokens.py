"""The words of IMAP's grammar, read from the octets of one complete command (RFC 3501 9).

The octets are the command as it came, without its last CRLF: line, literal, line, ... Every pattern is linear.
"""

from __future__ import annotations

import re
from datetime import date, datetime, timedelta, timezone

from mailhub.message import flags as message_flags
from mailhub.message.flags import Flags

NUMBER_MAXIMUM = 2**32 - 1
NUMBER64_MAXIMUM = 2**63 - 1
FLAG_LIMIT = 100  # flags in one list

LITERAL_END = re.compile(
    rb"\{([0-9]{1,20})(\+?)\}\Z"
)  # at the end of a line: a literal follows (RFC 3501 4.3, RFC 7888)

# RFC 3501 9 atom-specials: ( ) { SP CTL % * " \ ]; everything above 126 is no CHAR or DEL.
_ATOM = re.compile(rb"[!#$&'+-\[^-z|}~]+")
_ASTRING_ATOM = re.compile(rb"[!#$&'+-\[\]^-z|}~]+")
_LIST_ATOM = re.compile(rb"[!#$%&'*+-\[\]^-z|}~]+")
_TAG = re.compile(rb"[!#$&',-\[\]^-z|}~]+")  # ASTRING-CHAR without "+"
_QUOTED = re.compile(rb'"([^\r\n\0"\\]*(?:\\["\\][^\r\n\0"\\]*)*)"')
_ESCAPE = re.compile(rb'\\(["\\])')
_LITERAL = re.compile(rb"\{([0-9]{1,20})\+?\}\r\n")
_DIGITS = re.compile(rb"[0-9]{1,20}")
_SEQUENCE_SET = re.compile(rb"[0-9:,*]+")
_FLAG = re.compile(rb"\\?[!#$&'+-\[^-z|}~]+")
_DATE = re.compile(rb"([0-9]{1,2})-([A-Za-z]{3})-([0-9]{4})")
_DATE_TIME = re.compile(
    rb'"([ 0-9][0-9])-([A-Za-z]{3})-([0-9]{4}) ([0-9]{2}):([0-9]{2}):([0-9]{2}) ([+-])([0-9]{2})([0-9]{2})"'
)
_MONTHS = {
    name: number
    for number, name in enumerate(
        (b"JAN", b"FEB", b"MAR", b"APR", b"MAY", b"JUN", b"JUL", b"AUG", b"SEP", b"OCT", b"NOV", b"DEC"), start=1
    )
}


class BadSyntax(ValueError):
    """The command breaks the grammar at octet `position`; `text`, fit for the client, says what was expected."""

    def __init__(self, position: int, text: str) -> None:
        self.position = position
        self.text = text
        super().__init__(f"{text} (octet {position})")


class Incomplete(BadSyntax):
    """The octets end where a literal has just been announced."""


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
        """Nothing more may follow."""
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
            raise self.bad("Expected a space" if octets == b" " else f"Expected {octets.decode()}")

    def space(self) -> None:
        """Take SP."""
        self.expect(b" ")

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
        """An atom (which may have "]") or a string."""
        return self._atom_or_string(_ASTRING_ATOM)

    def list_mailbox(self) -> bytes:
        """A pattern of LIST: an atom that may have wildcards, or a string."""
        return self._atom_or_string(_LIST_ATOM)

    def nstring(self) -> bytes | None:
        """A string, or NIL."""
        if self.octets[self.position : self.position + 3].upper() == b"NIL":
            self.position += 3
            return None
        return self.string()

    # --- numbers

    def number(self, maximum: int = NUMBER_MAXIMUM) -> int:
        """A number of up to 32 bits, or up to `maximum`."""
        start = self.position
        number = int(self._match(_DIGITS, "Expected a number"))
        if number > maximum:
            raise BadSyntax(start, "Number is too large")
        return number

    def nz_number(self) -> int:
        """A number of 32 bits that is not 0."""
        start = self.position
        number = self.number()
        if not number:
            raise BadSyntax(start, "Expected a number above 0")
        return number

    def sequence_set(self) -> bytes:
        """The octets of a sequence set, unread."""
        return self._match(_SEQUENCE_SET, "Expected a sequence set")

    # --- dates

    def date(self) -> date:
        """`1-Feb-1994`, with or without quotes."""
        start = self.position
        quoted = self.accept(b'"')
        day, month, year = self._groups(_DATE, "Expected a date such as 1-Feb-1994")
        if quoted:
            self.expect(b'"')
        try:
            return date(int(year), _MONTHS[month.upper()], int(day))
        except (KeyError, ValueError):
            raise BadSyntax(start, "No such date") from None

    def date_time(self) -> datetime:
        """`" 1-Feb-1994 21:52:25 -0800"`, in quotes."""
        start = self.position
        found = self._groups(_DATE_TIME, 'Expected a date-time such as "01-Feb-1994 21:52:25 -0800"')
        day, month, year, hour, minute, second, sign, zone_hours, zone_minutes = found
        try:
            offset = timedelta(hours=int(zone_hours), minutes=_below(60, zone_minutes))
            zone = timezone(-offset if sign == b"-" else offset)
            # A leap second is written :60, which datetime does not know.
            clock = (int(hour), int(minute), min(int(second), 59) if second == b"60" else int(second))
            moment = datetime(int(year), _MONTHS[month.upper()], int(day), *clock, tzinfo=zone)
            moment.timestamp()
        except (KeyError, ValueError, OverflowError):
            raise BadSyntax(start, "No such date or time") from None
        return moment

    # --- flags

    def flag_list(self) -> Flags:
        """`(\\Seen $Forwarded)`, canonical; flags that a client may set."""
        self.expect(b"(")
        if self.accept(b")"):
            return message_flags.NO_FLAGS
        found = self.flags()
        self.expect(b")")
        return found

    def flags(self) -> Flags:
        """One flag or more, separated by SP."""
        found = [self._flag()]
        while self.accept(b" "):
            if len(found) == FLAG_LIMIT:
                raise self.bad("Too many flags")
            found.append(self._flag())
        return message_flags.each_once(found)

    def _flag(self) -> str:
        start = self.position
        text = self._match(_FLAG, "Expected a flag").decode()
        try:
            return message_flags.parse(text)
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

    def _atom_or_string(self, pattern: re.Pattern[bytes]) -> bytes:
        if match := pattern.match(self.octets, self.position):
            self.position = match.end()
            return match[0]
        return self.string()

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


def _below(limit: int, digits: bytes) -> int:
    if (number := int(digits)) >= limit:
        raise ValueError("out of range")
    return number
