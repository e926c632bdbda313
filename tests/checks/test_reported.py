"""What others have found, as they write it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailhub.checks.reported import Reported, read_results
from mailhub.checks.results import Result


def one(octets: bytes) -> Reported | None:
    found = read_results(octets)
    assert len(found) <= 1
    return found[0] if found else None


@pytest.mark.parametrize(
    ("octets", "method", "value", "properties"),
    [
        (b" mx.a.example; spf=pass smtp.mailfrom=a@b.example", "spf", "pass", {"smtp.mailfrom": "a@b.example"}),
        (b"mx.a.example 1; SPF/1 = Pass\r\n\tsmtp.Mailfrom = a", "spf", "pass", {"smtp.mailfrom": "a"}),
        (
            b"mx.google.com;\r\n       spf=pass (google.com: domain of a=b@x.example (for; me) designates 192.0.2.1)"
            b' smtp.mailfrom="a=b@x.example"',
            "spf",
            "pass",
            {"smtp.mailfrom": "a=b@x.example"},
        ),
        (
            b"x; spf=pass smtp.mailfrom=SRS0=ab=cd=x@y.example",
            "spf",
            "pass",
            {"smtp.mailfrom": "SRS0=ab=cd=x@y.example"},
        ),
        (
            b"mx.microsoft.com 1; dmarc=pass action=none header.from=x.example;",
            "dmarc",
            "pass",
            {"action": "none", "header.from": "x.example"},
        ),
        (b'x; spf (a) (b) = (c) pass reason="\\"; dmarc=pass"', "spf", "pass", {"reason": '"; dmarc=pass'}),
    ],
)
def test_a_result(octets: bytes, method: str, value: str, properties: dict[str, str]) -> None:
    assert one(octets) == Reported(method, value, properties)


@pytest.mark.parametrize(
    "octets",
    [
        b"",
        b"x",
        b"x; none",
        b"x; dmarc",
        b'x; "dmarc=pass"',
        b'x; "dmarc"=pass',
        b"x; (dmarc=pass)",
        b"x; (dmarc=pass",
        b'x; spf=fail "; dmarc=pass',
        b"x; dmarc=pass header.from=a.example header.from=b.example",
        b"x; dmarc=pass )",
        b"x; dmarc=pass \xff",
        b"dmarc=pass",
        b"x; dmarc=pass" + b" " * 70_000,
    ],
)
def test_what_is_none(octets: bytes) -> None:
    assert [each for each in read_results(octets) if each.method == "dmarc"] == []


def test_domains_are_compared_in_one_form() -> None:
    found = one("x; dmarc=pass header.from=Bücher.example".encode())
    assert found is not None
    assert found.domain("header.from") == "xn--bcher-kva.example"
    assert found.domain("header.d") == ""


@given(st.text(), st.text(min_size=1))
def test_what_we_write_is_read_as_it_was_meant(reason: str, address: str) -> None:
    written = str(Result("spf", "fail", (("smtp.mailfrom", address),), reason))
    other = "dmarc=none"
    assert [each.method for each in read_results(f"mx; {written}; {other}".encode(errors="replace"))] == [
        "spf",
        "dmarc",
    ]


@given(st.binary())
def test_whatever_comes_is_read_somehow(octets: bytes) -> None:
    read_results(octets)
