"""Trace header, mended header, counted hops, however the octets are split."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mailhub.delivery.intake import HEADER_LIMIT, Intake, IntakeWriter, header_end
from mailhub.errors import MessageTooLarge
from mailhub.testing.waiting import result_of
from tests.delivery.doubles import OctetsWriter

MESSAGE = b"Received: one\r\nBcc: x\r\nSubject: s\r\nreceived : two\r\n\r\nReceived: not a field\r\n\r\nbody\r\n"


def taken_in(pieces: list[bytes], mend: Any = None) -> tuple[Any, OctetsWriter]:
    inner = OctetsWriter()
    writer = IntakeWriter(inner, b"Return-Path: <>\r\n", b"Received: us\r\n", mend)
    for piece in pieces:
        result_of(writer.write(piece))
    return result_of(writer.finish()), inner


def without_bcc(header: bytes) -> bytes:
    return header.replace(b"Bcc: x\r\n", b"")


@given(st.lists(st.integers(0, len(MESSAGE)), max_size=8))
@settings(deadline=None)
def test_any_split_gives_the_same(cuts: list[int]) -> None:
    edges = [0, *sorted(cuts), len(MESSAGE)]
    intake, _ = taken_in([MESSAGE[a:b] for a, b in pairwise(edges)], without_bcc)
    assert isinstance(intake, Intake)
    assert intake.hops == 2
    assert intake.relay_offset == len(b"Return-Path: <>\r\n")
    wanted = b"Return-Path: <>\r\nReceived: us\r\n" + without_bcc(MESSAGE)
    assert result_of(intake.open().read()) == wanted
    assert intake.size == len(wanted)


@pytest.mark.parametrize(("octets", "end"), [(b"\r\nbody", 0), (b"A: b\r\n\r\n", 6), (b"A: b\r\n", -1), (b"", -1)])
def test_where_a_header_ends(octets: bytes, end: int) -> None:
    assert header_end(octets) == end


@pytest.mark.parametrize("message", [b"", b"\r\nbody\r\n", b"Subject: only a header\r\n"])
def test_a_message_without_header_or_without_body_is_mended_too(message: bytes) -> None:
    intake, _ = taken_in([message], lambda header: b"Date: now\r\n" + header)
    assert result_of(intake.open().read()).endswith(b"Received: us\r\nDate: now\r\n" + message)


def test_a_header_over_the_limit_passes_as_it_is_and_is_not_held() -> None:
    line = b"X: " + b"x" * 995 + b"\r\n"
    huge = line * (HEADER_LIMIT // len(line) + 2)
    inner = OctetsWriter()
    writer = IntakeWriter(inner, b"", b"")
    for start in range(0, len(huge), 8192):
        result_of(writer.write(huge[start : start + 8192]))
    assert sum(map(len, inner.pieces)) == len(huge)
    assert b"".join(inner.pieces) == huge


def test_a_header_that_cannot_be_mended_is_refused() -> None:
    inner = OctetsWriter()
    writer = IntakeWriter(inner, b"", b"", without_bcc)
    with pytest.raises(MessageTooLarge) as caught:
        result_of(writer.write(b"Bcc: x\r\nX: " + b"x" * HEADER_LIMIT))
    assert caught.value.status == "5.3.4"
    assert inner.pieces == []


def test_giving_up_reaches_the_inner_writer() -> None:
    inner = OctetsWriter()
    IntakeWriter(inner, b"", b"").abort()
    assert inner.aborted
