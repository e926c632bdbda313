"""Edits of a header, by table and by property."""

from __future__ import annotations

from email import message_from_bytes
from email.policy import compat32
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailhub.message.edits import (
    FIELD_LIMIT,
    AddField,
    HeaderEdit,
    InsertField,
    RemoveField,
    ReplaceField,
    check,
)
from mailhub.message.header_editing import apply

HEADER = b"Received: one\r\nSubject: a\r\n b\r\nreceived: two\r\nX-Odd :three\r\nReceived:\tlast\r\n"


@pytest.mark.parametrize(
    ("edits", "expected"),
    [
        ([], HEADER),
        ([AddField("X", "1")], b"X: 1\r\n" + HEADER),
        ([AddField("X", "1"), AddField("Y", "2")], b"Y: 2\r\nX: 1\r\n" + HEADER),
        ([AddField("X", "ü\r\n\tfolded")], "X: ü\r\n\tfolded\r\n".encode() + HEADER),
        ([RemoveField("RECEIVED", 0)], b"Subject: a\r\n b\r\nX-Odd :three\r\n"),
        ([RemoveField("Received", 1)], HEADER.replace(b"Received: one\r\n", b"")),
        ([RemoveField("Received", 3)], HEADER.replace(b"Received:\tlast\r\n", b"")),
        ([RemoveField("Received", -1)], HEADER.replace(b"Received:\tlast\r\n", b"")),
        ([RemoveField("Received", -3)], HEADER.replace(b"Received: one\r\n", b"")),
        ([RemoveField("Received", 4), RemoveField("Received", -4), RemoveField("To", 1), RemoveField("To", 0)], HEADER),
        ([RemoveField("Received", 1)] * 2, b"Subject: a\r\n b\r\nX-Odd :three\r\nReceived:\tlast\r\n"),
        ([ReplaceField("subject", 1, "c")], HEADER.replace(b"Subject: a\r\n b", b"subject: c")),
        ([ReplaceField("x-odd", -1, "")], HEADER.replace(b"X-Odd :three", b"x-odd: ")),
        ([ReplaceField("Subject", 2, "c")], HEADER),
        ([AddField("Received", "top"), RemoveField("Received", 1)], HEADER),
    ],
)  # fmt: skip
def test_fields_are_edited_by_name_and_number(edits: list[HeaderEdit], expected: bytes) -> None:
    assert apply(HEADER, edits) == expected


@pytest.mark.parametrize(
    "edit",
    [
        AddField("", "x"),
        AddField("Two words", "x"),
        AddField("Colon:", "x"),
        AddField("Ümlaut", "x"),
        AddField("X" * 201, "x"),
        AddField("X", "a\r\nEvil: b"),
        AddField("X", "a\r\n\r\nbody"),
        AddField("X", "a\r\n \r\n b"),
        AddField("X", "a\nEvil: b"),
        AddField("X", "a\n b"),
        AddField("X", "a\rb"),
        AddField("X", "a\0b"),
        AddField("X", "\ud800"),
        AddField("X", "a" * 999),
        AddField("X", "a\r\n" + " b\r\n" * (FIELD_LIMIT // 4) + " c"),
        ReplaceField("X", 0, "x"),
        ReplaceField("X", 1, "x\n"),
        RemoveField("X:", 1),
        RemoveField("X", True),
        InsertField("X", "1", -2),
        InsertField("X", "1", True),
        InsertField("X", "a\nb", 0),
    ],
)
def test_what_would_break_a_message_is_refused(edit: HeaderEdit) -> None:
    with pytest.raises(ValueError, match=r"name|number|value|long|line|places"):
        check(edit)
    with pytest.raises(ValueError, match=r"name|number|value|long|line|places"):
        apply(HEADER, [edit])


@pytest.mark.parametrize("wrong", [AddField(1, "x"), AddField("X", b"x"), RemoveField("X", "1"), AddField("X", None)])  # type: ignore[arg-type]
def test_what_is_of_another_type_is_refused(wrong: Any) -> None:
    with pytest.raises(ValueError, match=r"name|number|text"):
        check(wrong)


@pytest.mark.parametrize(
    ("header", "place", "expected"),
    [
        (b"A: 1\r\nB: 2\r\n", 0, b"X: 1\r\nA: 1\r\nB: 2\r\n"),
        (b"A: 1\r\n 1\r\nB: 2\r\n", 1, b"A: 1\r\n 1\r\nX: 1\r\nB: 2\r\n"),
        (b"A: 1\r\nB: 2\r\n", 2, b"A: 1\r\nB: 2\r\nX: 1\r\n"),
        (b"A: 1\r\nB: 2\r\n", 99, b"A: 1\r\nB: 2\r\nX: 1\r\n"),
        (b"A: 1\r\nB: 2\r\n", -1, b"A: 1\r\nB: 2\r\nX: 1\r\n"),
        (b"A: cut", -1, b"A: cut\r\nX: 1\r\n"),
        (b"", 3, b"X: 1\r\n"),
    ],
)
def test_a_field_is_put_between_others(header: bytes, place: int, expected: bytes) -> None:
    assert apply(header, [InsertField("X", "1", place)]) == expected


def test_a_header_that_was_cut_off_is_ended() -> None:
    assert apply(b"Subject: cut", [AddField("X", "1")]) == b"X: 1\r\nSubject: cut\r\n"
    assert apply(b"", [AddField("X", "1")]) == b"X: 1\r\n"
    assert apply(b"A: 1\nB: 2\n", [RemoveField("A", 1)]) == b"B: 2\n"


names = st.sampled_from(["Subject", "Received", "X-A", "To", "x-a"])
values = st.text(st.characters(codec="utf-8", exclude_characters="\r\n\0"), max_size=40).map(lambda text: text + ".")
edits = st.lists(
    st.one_of(
        st.builds(AddField, names, values),
        st.builds(ReplaceField, names, st.integers(-3, 3).filter(bool), values),
        st.builds(RemoveField, names, st.integers(-3, 3)),
        st.builds(InsertField, names, values, st.integers(-1, 6)),
    ),
    max_size=8,
)
headers = st.lists(st.tuples(names, values), max_size=6).map(
    lambda fields: "".join(f"{name}: {value}\r\n" for name, value in fields).encode()
)


@given(headers, edits)
def test_the_body_stays_and_the_header_can_be_read(header: bytes, wanted: list[HeaderEdit]) -> None:
    edited = apply(header, wanted)
    parsed = message_from_bytes(edited + b"\r\nbody\r\n", policy=compat32)
    assert parsed.get_payload() == "body\r\n"
    expected = [(name, value.strip(" \t")) for name, value in reference(header, wanted)]
    found = [tuple(line.split(b": ", 1)) for line in edited.split(b"\r\n")[:-1]]
    assert [(name.decode(), value.decode().strip(" \t")) for name, value in found] == expected
    assert len(parsed.keys()) == len(expected)


def reference(header: bytes, wanted: list[HeaderEdit]) -> list[tuple[str, str]]:
    """The same in the plainest way."""
    fields = [tuple(line.split(": ", 1)) for line in header.decode().split("\r\n")[:-1]]
    for edit in wanted:
        if isinstance(edit, AddField):
            fields = [(edit.name, edit.value), *fields]
            continue
        if isinstance(edit, InsertField):
            place = edit.place if edit.place >= 0 else len(fields)
            fields = [*fields[:place], (edit.name, edit.value), *fields[place:]]
            continue
        places = [index for index, (name, _) in enumerate(fields) if name.lower() == edit.name.lower()]
        number = edit.number - 1 if edit.number > 0 else edit.number
        if isinstance(edit, RemoveField) and edit.number == 0:
            fields = [field for index, field in enumerate(fields) if index not in places]
        elif -len(places) <= number < len(places):
            if isinstance(edit, ReplaceField):
                fields[places[number]] = (edit.name, edit.value)
            else:
                del fields[places[number]]
    return fields  # type: ignore[return-value]
