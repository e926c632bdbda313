"""Packets of the milter protocol: a length, a letter, and what belongs to it, of which the parts end with NUL."""

from __future__ import annotations

import re
import struct

import attrs

from mailhub.wire.milter.vocabulary import (
    Action,
    AddHeader,
    AddRecipient,
    Change,
    ChangeHeader,
    ChangeSender,
    DeleteRecipient,
    InsertHeader,
    Quarantine,
    Stage,
    Step,
)
from mailhub.wire.smtp.replies import Reply

# What libmilter takes at most of one command; one octet of body more, and it hangs up.
DATA_LIMIT = 65535
# What is taken of a filter's, in octets: none has reason to write more than the former in one piece.
PACKET_LIMIT = 1 << 20

_LENGTH = struct.Struct("!I")
_OPTIONS = struct.Struct("!III")
_REPLY_LINES = 100
# smfi_setreply(3): a code of class 4 or 5, perhaps a status of the same class, and text.
_REPLY_LINE = re.compile(r"([45][0-9]{2})(?:([ -])(?:([45]\.[0-9]{1,3}\.[0-9]{1,3})(?: |$))?(.*))?")
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]+")


class Nonsense(Exception):
    """A packet that says nothing."""


def packet(letter: bytes, data: bytes = b"") -> bytes:
    """One packet."""
    return _LENGTH.pack(1 + len(data)) + letter + data


def text(value: str) -> bytes:
    """A part of a packet. Nothing in it can end it early."""
    return value.replace("\0", "").encode("utf-8", "replace") + b"\0"


def options(version: int, actions: int, steps: int) -> bytes:
    """What both say first."""
    return _OPTIONS.pack(version, actions, steps)


@attrs.define
class PacketReader:
    """Packets of a stream. Never holds more than PACKET_LIMIT octets and one read."""

    _octets: bytearray = attrs.field(factory=bytearray)

    def __len__(self) -> int:
        """Octets held."""
        return len(self._octets)

    def feed(self, data: bytes) -> None:
        """Octets from the filter."""
        self._octets += data

    def next(self) -> tuple[bytes, bytes] | None:
        """The letter and the data of the next one; None while it is not complete. Raises Nonsense."""
        octets = self._octets
        if len(octets) < _LENGTH.size:
            return None
        (length,) = _LENGTH.unpack_from(octets)
        if not 1 <= length <= PACKET_LIMIT:
            raise Nonsense(f"a packet of {length} octets")
        end = _LENGTH.size + length
        if len(octets) < end:
            return None
        start = _LENGTH.size
        found = bytes(octets[start : start + 1]), bytes(octets[start + 1 : end])
        del octets[:end]
        return found


@attrs.frozen
class Options:
    """A filter's answer to the negotiation. `macros`: those that it wants at a stage, by their names."""

    version: int
    actions: Action
    steps: Step
    macros: dict[Stage, tuple[str, ...]]


def read_options(data: bytes) -> Options:
    """Raises Nonsense."""
    if len(data) < _OPTIONS.size:
        raise Nonsense(f"options of {len(data)} octets")
    version, actions, steps = _OPTIONS.unpack_from(data)
    macros: dict[Stage, tuple[str, ...]] = {}
    rest = data[_OPTIONS.size :]
    while rest:
        stage, rest = _number(rest)
        names, rest = _part(rest)
        try:
            macros[Stage(stage)] = tuple(names.replace(",", " ").split())
        except ValueError:
            raise Nonsense(f"macros for the stage {stage}") from None
    return Options(version, Action(actions), Step(steps), macros)


def read_reply(data: bytes) -> Reply:
    """What is to be said to the client. Raises Nonsense."""
    # libmilter hands on `%` doubled, for Sendmail takes the text for a format.
    said = _part(data)[0].replace("%%", "%")
    rows = said.removesuffix("\n").removesuffix("\r").replace("\r\n", "\n").split("\n")
    if len(rows) > _REPLY_LINES:
        raise Nonsense(f"a reply of {len(rows)} lines")
    code, status, lines = "", "", []
    for number, row in enumerate(rows, 1):
        match = _REPLY_LINE.fullmatch(_CONTROL.sub(" ", row))
        if match is None:
            raise Nonsense(f"the reply {row[:80]!r}")
        if (code and match[1] != code) or (match[2] == "-") is not (number < len(rows)):
            raise Nonsense(f"lines of a reply that do not belong together: {row[:80]!r}")
        if match[3] and match[3][0] != match[1][0]:
            raise Nonsense(f"a reply with a status of another class: {row[:80]!r}")
        code, status = match[1], status or match[3] or ""
        lines.append((match[4] or "").strip())
    return Reply(int(code), status, tuple(lines))


def read_change(letter: bytes, data: bytes) -> tuple[Action, Change] | None:
    """A change, and what a filter must be allowed for it; None for a letter that is none's. Raises Nonsense."""
    match letter:
        case b"h":
            return Action.ADD_HEADER, AddHeader(*_parts(data, 2))
        case b"i":
            index, rest = _number(data)
            return Action.ADD_HEADER, InsertHeader(index, *_parts(rest, 2))
        case b"m":
            index, rest = _number(data)
            return Action.CHANGE_HEADER, ChangeHeader(index, *_parts(rest, 2))
        case b"e":
            return Action.CHANGE_SENDER, ChangeSender(*_parts(data, 2, 1))
        case b"+":
            return Action.ADD_RECIPIENT, AddRecipient(*_parts(data, 1))
        case b"2":
            return Action.ADD_RECIPIENT_WITH_PARAMETERS, AddRecipient(*_parts(data, 2, 1))
        case b"-":
            return Action.DELETE_RECIPIENT, DeleteRecipient(*_parts(data, 1))
        case b"q":
            return Action.QUARANTINE, Quarantine(*_parts(data, 1))
    return None


def _number(data: bytes) -> tuple[int, bytes]:
    if len(data) < _LENGTH.size:
        raise Nonsense("a number that is cut off")
    return _LENGTH.unpack_from(data)[0], data[_LENGTH.size :]


def _part(data: bytes) -> tuple[str, bytes]:
    found, end, rest = data.partition(b"\0")
    if not end:
        raise Nonsense("a text without its end")
    return found.decode("utf-8", "replace"), rest


def _parts(data: bytes, most: int, least: int = 0) -> list[str]:
    """From `least` (by default `most`) texts up to `most`."""
    found: list[str] = []
    while data and len(found) < most:
        part, data = _part(data)
        found.append(part)
    if data or len(found) < (least or most):
        raise Nonsense("a change that lacks something, or has too much")
    return found
