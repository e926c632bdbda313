"""Edits of a message's header: fields put on top, replaced and removed, by name and number."""

from __future__ import annotations

import re

import attrs

# What one edit may bring, in octets, and how many edits a message may have.
FIELD_LIMIT = 65536
EDITS_LIMIT = 200
_LINE_LIMIT = 998  # octets without the line end (RFC 5322 2.1.1)

# RFC 5322 2.2: printable US-ASCII but for the colon
_NAME = re.compile(r"[!-9;-~]{1,200}")


@attrs.frozen
class AddField:
    """A field on top of all others. `value` may be folded; what is beyond ASCII is written as UTF-8 (RFC 6532)."""

    name: str
    value: str


@attrs.frozen
class ReplaceField:
    """Another value for the field of this name with this number: 1 is the first from the top, -1 the last. Where there
    is none, nothing happens."""

    name: str
    number: int
    value: str


@attrs.frozen
class RemoveField:
    """The field of this name with this number goes, counted as in `ReplaceField`; 0 means all of them."""

    name: str
    number: int


@attrs.frozen
class InsertField:
    """A field between others: above the one that has so many before it, below all where there are not so many. 0 is
    above all, as `AddField` has it; -1 below all."""

    name: str
    value: str
    place: int


HeaderEdit = AddField | ReplaceField | RemoveField | InsertField


def check(edit: HeaderEdit) -> None:
    """Raises ValueError for an edit after which a header would not be what was meant."""
    if not isinstance(edit.name, str) or not _NAME.fullmatch(edit.name):
        raise ValueError(f"{edit.name!r:.80} is no name of a field")
    if isinstance(edit, InsertField):
        _check_number(edit.place)
        if edit.place < -1:
            raise ValueError("places are counted from 0, and -1 is the last")
    elif not isinstance(edit, AddField):
        _check_number(edit.number)
    if isinstance(edit, ReplaceField) and edit.number == 0:
        raise ValueError("fields are numbered from 1")
    if not isinstance(edit, RemoveField):
        field_octets(edit.name, edit.value)


def _check_number(number: object) -> None:
    if not isinstance(number, int) or isinstance(number, bool):
        raise ValueError(f"{number!r:.80} is no number of a field")


def field_octets(name: str, value: str) -> bytes:
    """The whole field with its line end. Raises ValueError as `check`."""
    if not isinstance(value, str):
        raise ValueError(f"the value of {name} is not text")
    try:
        octets = f"{name}: {value}\r\n".encode()
    except UnicodeEncodeError:
        raise ValueError(f"the value of {name} is no Unicode text") from None
    if len(octets) > FIELD_LIMIT:
        raise ValueError(f"the field {name} is longer than {FIELD_LIMIT} octets")
    first, *folded = octets[:-2].split(b"\r\n")
    if any(line[:1] not in (b" ", b"\t") or not line.strip() for line in folded):
        raise ValueError(f"the value of {name} has a line end that is no folding")
    for line in (first, *folded):
        if b"\r" in line or b"\n" in line or b"\0" in line:
            raise ValueError(f"the value of {name} has a line end or NUL in it")
        if len(line) > _LINE_LIMIT:
            raise ValueError(f"a line of {name} is longer than {_LINE_LIMIT} octets")
    return octets
