"""Canonical forms: the examples of RFC 6376 3.4.5, an oracle, any split, and what nobody may fill memory with."""

from __future__ import annotations

from hashlib import sha256

import pytest
from dkim.canonicalization import Relaxed, Simple  # type: ignore[import-untyped]
from hypothesis import given
from hypothesis import strategies as st

from mailhub.checks.canonical import BodyHash, Form, field_in_form, signed_fields, without_signature

_ODD = st.lists(st.sampled_from([b" ", b"\t", b"\r\n", b"\r", b"\n", b"a", b"xyz", b"\r\n\r\n", b"   "]), max_size=30)
_LINES = st.lists(st.sampled_from([b" ", b"\t", b"\r\n", b"a", b"xyz", b"\r\n\r\n", b"   "]), max_size=30)


def hashed(form: Form, *pieces: bytes, limit: int | None = None) -> tuple[bytes, int]:
    body = BodyHash(form, limit)
    for piece in pieces:
        body.update(piece)
    return body.digest(), body.length


@pytest.mark.parametrize(
    ("form", "body", "canonical"),
    [
        ("relaxed", b" C \r\nD \t E\r\n\r\n\r\n", b" C\r\nD E\r\n"),
        ("simple", b" C \r\nD \t E\r\n\r\n\r\n", b" C \r\nD \t E\r\n"),
        ("simple", b"", b"\r\n"),
        ("simple", b"\r\n\r\n", b"\r\n"),
        ("relaxed", b"", b""),
        ("relaxed", b"\r\n \r\n\t", b""),
        ("relaxed", b"a", b"a\r\n"),
        ("relaxed", b"a \t", b"a\r\n"),
        ("simple", b"a ", b"a \r\n"),
        ("relaxed", b"a\r\n \r\nb", b"a\r\n\r\nb\r\n"),
    ],
)
def test_of_a_body(form: Form, body: bytes, canonical: bytes) -> None:
    assert hashed(form, body) == (sha256(canonical).digest(), len(canonical))


@given(st.lists(_LINES.map(b"".join), max_size=6))
def test_a_body_is_as_an_oracle_has_it(pieces: list[bytes]) -> None:
    whole = b"".join(pieces)
    assert hashed("simple", *pieces)[0] == sha256(Simple.canonicalize_body(whole)).digest()
    if whole.strip(b" \t\r\n"):  # the oracle takes lines with white space alone for a body
        expected = Relaxed.canonicalize_body(whole.rstrip(b" \t") if not whole.endswith(b"\n") else whole)
        assert hashed("relaxed", *pieces)[0] == sha256(expected).digest()


@given(st.lists(_ODD.map(b"".join), max_size=8), st.none() | st.integers(0, 40), st.sampled_from(["simple", "relaxed"]))
def test_any_split_gives_the_same(pieces: list[bytes], limit: int | None, form: Form) -> None:
    whole = b"".join(pieces)
    assert hashed(form, *pieces, limit=limit) == hashed(form, whole, limit=limit)
    assert hashed(form, *[bytes([octet]) for octet in whole], limit=limit) == hashed(form, whole, limit=limit)


def test_no_more_than_the_limit_counts() -> None:
    assert hashed("simple", b"abc\r\n", b"more\r\n", limit=5)[0] == sha256(b"abc\r\n").digest()
    assert hashed("simple", b"abc\r\n", limit=500) == (sha256(b"abc\r\n").digest(), 5)


@pytest.mark.parametrize("bomb", [b" " * 1000, b"\r\n" * 500, b"\t \r\n" * 250, b"\r" * 1000])
def test_what_is_held_back_is_little(bomb: bytes) -> None:
    body = BodyHash("relaxed")
    for _ in range(1000):
        body.update(bomb)
        assert len(body._tail) <= 2
    body.digest()


@pytest.mark.parametrize(
    ("field", "canonical"),
    [
        (b"A: X\r\n", b"a:X\r\n"),
        (b"B : Y\t\r\n\tZ  \r\n", b"b:Y Z\r\n"),
        (b"Subject:\r\n \r\n", b"subject:\r\n"),
        (b"X:a:b  c\r\n", b"x:a:b c\r\n"),
    ],
)
def test_of_a_field(field: bytes, canonical: bytes) -> None:
    assert field_in_form(field, "relaxed") == canonical
    assert field_in_form(field, "simple") == field


def test_fields_are_taken_from_the_bottom() -> None:
    fields = [(b"a", b"A: 1\r\n"), (b"b", b"B: 2\r\n"), (b"a", b"A: 3\r\n")]
    assert signed_fields(fields, [b"a", b"b", b"a", b"a", b"c"], "relaxed") == b"a:3\r\nb:2\r\na:1\r\n"


@pytest.mark.parametrize(
    ("field", "signed"),
    [
        (b"S: v=1; b=abc\r\n def\r\n", b"S: v=1; b="),
        (b"S: b=\r\n abc ; bh=xyz=; d=b\r\n", b"S: b=; bh=xyz=; d=b"),
        (b"S: bh=b=; b\t= abc;\r\n", b"S: bh=b=; b\t=;"),
        (b"S: x=1; bb=2; b=;\r\n", b"S: x=1; bb=2; b=;"),
    ],
)
def test_the_value_of_b_goes(field: bytes, signed: bytes) -> None:
    assert without_signature(field) == signed
