"""Carrying out edits of a message's header."""

from __future__ import annotations

from collections.abc import Sequence

from mailhub.message.edits import (
    AddField,
    HeaderEdit,
    InsertField,
    RemoveField,
    ReplaceField,
    check,
    field_octets,
)
from mailhub.message.header import raw_fields


def apply(header: bytes, edits: Sequence[HeaderEdit]) -> bytes:
    """The header (without the empty line at its end) after these edits, in their order; fields that nobody named stay
    octet for octet. Raises ValueError as `check`."""
    fields = list(raw_fields(header))
    for edit in edits:
        check(edit)
        name = edit.name.lower().encode("ascii")
        if isinstance(edit, AddField):
            fields.insert(0, (name, field_octets(edit.name, edit.value)))
            continue
        if isinstance(edit, InsertField):
            _insert(fields, (name, field_octets(edit.name, edit.value)), edit.place)
            continue
        places = [place for place, (other, _) in enumerate(fields) if other == name]
        if isinstance(edit, RemoveField) and edit.number == 0:
            fields = [field for field in fields if field[0] != name]
            continue
        place = _place(places, edit.number)
        if place is None:
            continue
        if isinstance(edit, ReplaceField):
            fields[place] = (name, field_octets(edit.name, edit.value))
        else:
            del fields[place]
    return b"".join([_ended(octets) for _, octets in fields])


def _insert(fields: list[tuple[bytes, bytes]], field: tuple[bytes, bytes], place: int) -> None:
    """Among the fields; a line that is none counts for nothing."""
    known = [number for number, (name, _) in enumerate(fields) if name]
    if 0 <= place < len(known):
        fields.insert(known[place], field)
        return
    end = known[-1] + 1 if known else 0
    fields[:end] = [(name, _ended(octets)) for name, octets in fields[:end]]
    fields.insert(end, field)


def _place(places: Sequence[int], number: int) -> int | None:
    index = number - 1 if number > 0 else number
    return places[index] if -len(places) <= index < len(places) else None


def _ended(octets: bytes) -> bytes:
    """A header that was cut off, or whose lines end in LF alone, may be followed by nothing as it stands."""
    return octets if octets.endswith(b"\n") else octets + b"\r\n"
