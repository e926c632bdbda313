"""docs/rfc-index.rst says what the code says: no standard that is named here or there alone."""

from __future__ import annotations

import re
from pathlib import Path

import attrs
import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "mailhub"
_REFERENCE = re.compile(r"\bRFCs? ?(?!822\b)(\d{3,4})\b((?:(?:,| and|,? or) \d{3,4}(?!\.?\d))*)")


def named(text: str) -> set[int]:
    """The RFCs that a text names: "RFC 5321 4.5.3", "RFC 6409, 2033 and 4954"."""
    return {int(number) for match in _REFERENCE.finditer(text) for number in re.findall(r"\d+", match[0])}


@attrs.frozen
class Row:
    number: int
    title: str
    here: str
    how_much: str
    where: tuple[str, ...]


def read(page: str) -> list[Row]:
    rows = []
    for line in page.splitlines():
        if re.match(r" +\d+ \|", line):
            number, title, here, how_much, where = (field.strip() for field in line.split("|"))
            rows.append(Row(int(number), title, here, how_much, tuple(re.findall(r"``([^`]+)``", where))))
    return rows


ROWS = read((ROOT / "docs" / "rfc-index.rst").read_text())
NAMED_IN = {str(path.relative_to(PACKAGE)): named(path.read_text()) for path in sorted(PACKAGE.rglob("*.py"))}
NAMED = set().union(*NAMED_IN.values())


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("(RFC 5321 4.5.3, RFC 1870)", {5321, 1870}),
        ("(RFC 5321, 6409, 2033)", {5321, 6409, 2033}),
        ("RFC 6186 and RFC 8314 5.1", {6186, 8314}),
        ("RFC 1123 2.1 and 2.2 and RFC 952", {1123, 952}),
        ("RFC 3501 and 9051 say", {3501, 9051}),
        ("RFC3030's BDAT", {3030}),
        ("BODY[], RFC822.SIZE, RFC822", set()),
    ],
)
def test_references_are_found(text: str, numbers: set[int]) -> None:
    assert named(text) == numbers


def test_the_page_is_read() -> None:
    assert {row.number for row in ROWS} >= {5321, 3501, 1939, 5228}


def test_rows_are_sorted_and_none_stands_twice() -> None:
    numbers = [row.number for row in ROWS]
    assert numbers == sorted(set(numbers))


def test_every_standard_that_the_code_names_is_in_the_index() -> None:
    assert NAMED - {row.number for row in ROWS} == set()


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"RFC {row.number}")
def test_a_row_says_what_the_code_says(row: Row) -> None:
    assert row.title
    assert row.here in ("Yes", "Partly", "No")
    assert row.here != "Partly" or row.how_much, "what of it is here?"
    assert not [file for file in row.where if file not in NAMED_IN], "no such file"
    assert not [file for file in row.where if row.number not in NAMED_IN[file]], "the file does not name the RFC"
    # What is not here may be named only where the code says so; anything else has a place.
    assert bool(row.where) == (row.number in NAMED)
    if row.here == "No" and row.where:
        others = {file for file, numbers in NAMED_IN.items() if row.number in numbers} - set(row.where)
        assert not others, "more than a remark"
