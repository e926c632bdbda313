"""Fields of an answer."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailhub.message.answering import answering


@pytest.mark.parametrize(
    ("header", "references"),
    [
        (b"Message-ID: <a@b>\r\n", [b"<a@b>"]),
        (b"Message-ID: <c@b>\r\nReferences: <a@b>\r\n <b@b>\r\nIn-Reply-To: <x@b>\r\n", [b"<a@b>", b"<b@b>", b"<c@b>"]),
        (b"Message-ID: <c@b>\r\nIn-Reply-To: <b@b> (of Monday)\r\n", [b"<b@b>", b"<c@b>"]),
        (b"Message-ID: <c@b>\r\nIn-Reply-To: <a@b> <b@b>\r\n", [b"<c@b>"]),
        (b"Message-ID: <c@b>\r\nReferences: nonsense <\r\n", [b"<c@b>"]),
        (b"Message-ID: c@b\r\n", []),
        (b"Message-ID: <a b@c>\r\n", []),
        (b"Subject: x\r\n", []),
    ],
)
def test_an_answer_stands_in_the_thread_of_what_it_answers(header: bytes, references: list[bytes]) -> None:
    expected = b""
    if references:
        expected = b"In-Reply-To: %b\r\nReferences: %b\r\n" % (references[-1], b"\r\n ".join(references))
    assert answering(header) == expected


def test_a_long_thread_is_not_repeated_as_a_whole() -> None:
    ids = b" ".join([b"<%d@b>" % number for number in range(100)])
    found = answering(b"Message-ID: <x@b>\r\nReferences: " + ids + b"\r\n").split()
    assert found[:1] + found[3:5] + found[-2:] == [b"In-Reply-To:", b"<0@b>", b"<81@b>", b"<99@b>", b"<x@b>"]
    assert len(found) == 2 + 1 + 20 + 1


@given(st.binary(max_size=300), st.binary(max_size=300))
def test_nothing_gets_out_of_its_field(own: bytes, references: bytes) -> None:
    found = answering(b"Message-ID: <a@b>\r\nX: " + own + b"\r\nReferences: " + references + b"\r\n\r\n")
    for line in found.split(b"\r\n")[:-1]:
        assert line.startswith((b"In-Reply-To: <", b"References: <", b" <"))
        assert line.isascii()
