"""Results as Authentication-Results has them: an oracle reads what was meant, whatever a sender has written."""

from __future__ import annotations

import pytest
from authres import AuthenticationResultsHeader  # type: ignore[import-untyped]
from hypothesis import given
from hypothesis import strategies as st

from mailhub.checks.results import Result, pvalue
from mailhub.delivery.editing import Editing
from mailhub.interfaces import NoteResult


def test_a_result() -> None:
    result = Result("spf", "pass", (("smtp.mailfrom", "a.b@c.example"), ("smtp.helo", "")), "it's all right")
    assert str(result) == 'spf=pass reason="it\'s all right" smtp.mailfrom=a.b@c.example'


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("a.example", "a.example"),
        ("@a.example", "@a.example"),
        ('"a) dmarc=pass (b"@evil.example', '"\\"a) dmarc=pass (b\\"@evil.example"'),
        ("a b", '"a b"'),
        ("a\r\nb", '"a??b"'),
        ("", '""'),
        ("x" * 300, '"' + "x" * 255 + '"'),
        ("\u00fc@x.example", '"\u00fc@x.example"'),
    ],
)
def test_a_value(text: str, written: str) -> None:
    assert pvalue(text) == written


@given(st.text(st.characters(max_codepoint=127), max_size=60))  # of UTF-8 (RFC 8601 5) the oracle knows nothing
def test_nothing_ends_a_value(text: str) -> None:
    field = "Authentication-Results: mx.example; " + str(Result("spf", "fail", (("smtp.mailfrom", text),), text))
    found = AuthenticationResultsHeader.parse(field).results
    assert [(each.method, each.result) for each in found] == [("spf", "fail")]


@given(st.text(max_size=300), st.text(max_size=300), st.text(max_size=300))
def test_a_result_fits_a_line_of_the_field_that_it_is_noted_in(first: str, second: str, third: str) -> None:
    result = Result("dkim", "fail", (("header.d", "a.example"), ("header.i", first), ("header.s", second)), third)
    editing = Editing()
    editing.take([NoteResult(str(result))] * 12)
    assert max(map(len, editing.field("mx.example").split(b"\r\n"))) <= 998
    assert str(result).startswith("dkim=fail ")


def test_what_has_no_room_is_left_out() -> None:
    long = "\u00fc" * 255
    result = Result("dkim", "pass", (("header.i", long), ("header.s", long), ("header.a", "rsa-sha256")))
    assert str(result) == f'dkim=pass header.i="{long}" header.a=rsa-sha256'
