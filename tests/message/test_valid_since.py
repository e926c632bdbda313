"""The field by which RRVS goes through servers that do not know it."""

from __future__ import annotations

import pytest

from mailhub.message.address import Address
from mailhub.message.valid_since import valid_since, without_dates

FIELD = b"Require-Recipient-Valid-Since: "
DATE = b"Sat, 1 Jun 2013 09:23:01 -0700"
INSTANT = 1370103781


@pytest.mark.parametrize(
    ("header", "found"),
    [
        (FIELD + b"ann@xx.example; " + DATE + b"\r\n", {"ann@xx.example": INSTANT}),
        (FIELD.lower() + b"\r\n Ann@XX.example (Ann; me)\r\n ;\r\n\t" + DATE + b"\r\n", {"ann@xx.example": INSTANT}),
        (FIELD + b'"a;b"@xx.example;' + DATE + b" (PDT)\r\n", {'"a;b"@xx.example': INSTANT}),
        (
            FIELD + b"a@xx.example; " + DATE + b"\r\n" + FIELD + b"b@xx.example; Sat, 1 Jun 2013 00:00:00 +0000\r\n",
            {"a@xx.example": INSTANT, "b@xx.example": 1370044800},
        ),
        (
            FIELD + b"a@x.example; Sun, 2 Jun 2013 00:00:00 +0000\r\n" + FIELD + b"a@x.example; " + DATE,
            {"a@x.example": INSTANT},
        ),
        (b"Subject: require-recipient-valid-since: a@x.example; " + DATE + b"\r\n", {}),
        (FIELD + b"ann@xx.example\r\n", {}),
        (FIELD + b"ann; " + DATE + b"\r\n", {}),
        (FIELD + b"ann@xx.example; yesterday\r\n", {}),
        (FIELD + b";;;\r\n", {}),
        (FIELD + b'"' * 50_000 + b"\r\n", {}),
        (b"", {}),
    ],
)
def test_what_the_field_says(header: bytes, found: dict[str, int]) -> None:
    assert valid_since(header) == {Address.parse(address).key: instant for address, instant in found.items()}


def test_fields_are_taken_out_of_those_who_are_named() -> None:
    ann = FIELD.lower() + b"\r\n Ann@XX.example (Ann) ;\r\n\t" + DATE + b"\r\n"
    ben, odd = FIELD + b"ben@xx.example; " + DATE + b"\r\n", FIELD + b"nonsense\r\n"
    header = ann + b"Subject: x\r\n" + odd + ben
    assert without_dates(header, {"ann@xx.example"}) == b"Subject: x\r\n" + odd + ben
    assert without_dates(header, ()) == header
    assert without_dates(header) == b"Subject: x\r\n"
