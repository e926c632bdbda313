"""Fields that claim to be ours, in every spelling that somebody might read so."""

from __future__ import annotations

import pytest
from authres import AuthenticationResultsHeader  # type: ignore[import-untyped]
from authres.core import AuthResError  # type: ignore[import-untyped]
from hypothesis import assume, given
from hypothesis import strategies as st

from mailhub.message.authentication_results import without_results_of

OURS = "mx.xx.example"
REST = b"; dmarc=pass header.from=bank.example\r\n"


@pytest.mark.parametrize(
    "value",
    [
        b" mx.xx.example",
        b"mx.xx.example",
        b" MX.Xx.EXAMPLE",
        b" mx.xx.example.",
        b" mx.xx.example 1",
        b" mx.xx.example(1)1(2) ",
        b"\r\n\tmx.xx.example\r\n 1",
        b" (a(b(c)\\)d)) mx.xx.example",
        b" (\r\n\tfolded) mx.xx.example",
        b' "mx.xx.example"',
        b' "mx\\.xx.ex\\ample"',
        b' "mx.xx.example" 1',
        b" mx.xx.(here)example",
        b" mx . xx . example",
        b" =?utf-8?q?mx=2Exx=2Eexample?=",
        " mx。xx．example".encode(),
        b" mx.xx.example/1",
        b" ",
        b" (never closed mx.xx.example",
        b" " + b"(" * 30 + b")" * 30 + b"mx.zz.example",
        b' "mx.xx.example;',
    ],
)
@pytest.mark.parametrize("name", [b"Authentication-Results:", b"authentication-RESULTS \t:"])
def test_what_says_that_it_is_ours_goes(name: bytes, value: bytes) -> None:
    others = b"Authentication-Results: mx.zz.example; spf=pass\r\n", b"Subject: x\r\n"
    assert without_results_of(others[0] + name + value + REST + others[1], OURS) == b"".join(others)


@pytest.mark.parametrize(
    "field",
    [
        b"Authentication-Results: mx.zz.example; dmarc=pass\r\n",
        b"Authentication-Results: mx.zz.example (mx.xx.example); dmarc=pass\r\n",
        b"Authentication-Results: amx.xx.example; dmarc=pass\r\n",
        b"Authentication-Results: mx.xx.example.net; dmarc=pass\r\n",
        b"Authentication-Results: xx.example; dmarc=pass policy=mx.xx.example\r\n",
        b"X-Authentication-Results: mx.xx.example; dmarc=pass\r\n",
        b"Subject: Authentication-Results: mx.xx.example; dmarc=pass\r\n",
    ],
)
def test_what_others_say_stays(field: bytes) -> None:
    assert without_results_of(field, OURS) == field


def test_a_name_has_one_form() -> None:
    for ours in ("mx.bücher.example", "mx.xn--bcher-kva.example"):
        for written in ("mx.bücher.example", "MX.BÜCHER.example", "mx.xn--bcher-kva.example"):
            assert not without_results_of(f"Authentication-Results: {written}; spf=pass\r\n".encode(), ours)


def test_a_field_that_is_cut_may_be_ours() -> None:
    for end in range(len(b"mx.xx.example")):
        cut = b"Authentication-Results: mx.xx.example"[: -end or None]
        assert not without_results_of(cut, OURS)


def test_what_is_hostile_is_no_work() -> None:
    for bomb in (b"(" * 200_000, b"()" * 100_000, b"(" * 1000 + b"()" * 90_000, b'"' * 200_000, b"\\" * 200_000):
        without_results_of(b"Authentication-Results: " + bomb + b"\r\n", OURS)


SPACE = st.lists(st.sampled_from([" ", "\r\n ", "(a)", "(b(c)\\))", '(")', "(;)"]), max_size=3).map("".join)
NAME = st.sampled_from([OURS, "MX.xx.Example", f'"{OURS}"', '"mx\\.xx.example"'])
VERSION = st.sampled_from(["", " 1", "(v) 1"])


@given(SPACE, NAME, VERSION, SPACE)
def test_what_an_oracle_reads_as_ours_goes(before: str, name: str, version: str, after: str) -> None:
    value = f"{before}{name}{version}{after}; dmarc=pass"
    try:
        found = AuthenticationResultsHeader.parse(f"Authentication-Results: {value}".replace("\r\n", ""))
    except AuthResError:
        assume(False)
    assert found.authserv_id.lower() == OURS
    assert not without_results_of(f"Authentication-Results: {value}\r\n".encode(), OURS)
