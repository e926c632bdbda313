"""Trace header, mended header, counted hops, however the octets are split."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mailhub.delivery.intake import HEADER_SHARE, Intake, IntakeWriter
from mailhub.errors import Busy, MessageTooLarge, PermanentError
from mailhub.message.header import header_end
from mailhub.message.needs import BINARY, BODY_8BIT, HEADER_LIMIT, HEADER_UTF8, LONG_LINE
from mailhub.testing.waiting import result_of
from mailhub.wire.budget import Budget
from tests.delivery.doubles import OctetsWriter

MESSAGE = b"Received: one\r\nBcc: x\r\nSubject: s\r\nreceived : two\r\n\r\nReceived: not a field\r\n\r\nbody\r\n"


def taken_in(pieces: list[bytes], mend: Any = None, **options: Any) -> tuple[Any, OctetsWriter]:
    inner = OctetsWriter()
    writer = IntakeWriter(inner, b"Return-Path: <>\r\n", b"Received: us\r\n", mend, **options)
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


@pytest.mark.parametrize(
    ("message", "stored"),
    [
        (b"Subject: x\r\nThe disk is full.\r\nA: b\r\n", b"Subject: x\r\n\r\nThe disk is full.\r\nA: b\r\n"),
        (b"Subject: x\r\n y\r\nfull\r\n\r\nA: b\r\n", b"Subject: x\r\n y\r\n\r\nfull\r\n\r\nA: b\r\n"),
        (b"no header\r\n", b"\r\nno header\r\n"),
        (b" no header\r\nA: b\r\n", b"\r\n no header\r\nA: b\r\n"),
        (b"From here\r\nto there\r\n", b"\r\nFrom here\r\nto there\r\n"),
        (b"From a@b Tue\r\nSubject: x\r\n\r\ny\r\n", b"X-Mailbox-Line: From a@b Tue\r\nSubject: x\r\n\r\ny\r\n"),
        (b"\xef\xbb\xbfSubject: x\r\n\r\ny\r\n", b"Subject: x\r\n\r\ny\r\n"),
        (b"Subject : x\r\nOdd Name: y\r\n", b"Subject : x\r\n\r\nOdd Name: y\r\n"),
        (b"Subject: x\r\n", b"Subject: x\r\n"),
        (b"Subject: x\r\n \r\nA: b\r\n\r\n", b"Subject: x\r\n \r\nA: b\r\n\r\n"),
    ],
)
def test_an_empty_line_is_put_in_where_none_ends_the_header(message: bytes, stored: bytes) -> None:
    top = b"Return-Path: <>\r\nReceived: us\r\n"
    for step in (1, 2, 7, len(message)):
        for mend in (None, without_bcc):
            intake, _ = taken_in([message[start : start + step] for start in range(0, len(message), step)], mend)
            assert result_of(intake.open().read()) == top + stored
    size = header_end(top + stored, 0, len(top + stored))
    assert (top + stored)[:size].endswith(b"\r\n\r\n") or size == len(top + stored)


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


def test_a_binary_message_has_no_lines_that_could_be_too_long() -> None:
    message = b"Subject: x\r\n\r\n" + b"\n\r" * 600 + b"x" * 2000
    intake, _ = taken_in([message], lambda header: header, long_lines="reject", needs=True, binary=True)
    assert intake.needs == LONG_LINE | BINARY
    assert result_of(intake.open().read()).endswith(message)
    intake, _ = taken_in([b"Subject: x\r\n\r\nplain\r\n"], needs=True, binary=True)
    assert intake.needs == BINARY


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


def test_large_headers_share_what_there_is() -> None:
    budget = Budget(HEADER_SHARE)
    line = b"A: " + b"x" * (HEADER_SHARE - 5) + b"\r\n"

    def begun() -> IntakeWriter:
        return IntakeWriter(OctetsWriter(), b"", b"", budget=budget)

    first, second, third = begun(), begun(), begun()
    for writer in (first, second):
        result_of(writer.write(line))
    assert budget.left == HEADER_SHARE
    result_of(first.write(line))
    assert budget.left == 0
    with pytest.raises(Busy, match=r"4\.3\.1"):
        result_of(second.write(b"B"))
    second.abort()
    # Who holds no more than a usual header is not concerned.
    result_of(third.write(line))
    result_of(first.write(b"\r\n"))
    assert budget.left == HEADER_SHARE
    result_of(third.write(line))
    third.abort()
    assert budget.left == HEADER_SHARE


@pytest.mark.parametrize("mend", [None, without_bcc])
def test_return_path_fields_of_the_client_go(mend: Any) -> None:
    message = b"RETURN-PATH: <x@y>\r\nSubject: s\r\nReturn-Path :\r\n <forged@z>\r\n\r\nReturn-Path: <text>\r\n"
    intake, _ = taken_in([message[:10], message[10:]], mend)
    assert result_of(intake.open().read()) == (
        b"Return-Path: <>\r\nReceived: us\r\nSubject: s\r\n\r\nReturn-Path: <text>\r\n"
    )


_LONG = b"word " * 400 + b"\r\n"


def lines_of(intake: Any) -> list[bytes]:
    octets: bytes = result_of(intake.open().read())
    return octets.split(b"\r\n")


def test_long_lines_are_wrapped_where_that_is_asked_for() -> None:
    message = b"Subject: " + _LONG + b"\r\n" + b"x" * 3000 + b"\r\n" + _LONG
    intake, _ = taken_in([message[:1500], message[1500:]], without_bcc, long_lines="wrap")
    assert max(map(len, lines_of(intake))) <= 998
    assert b"".join(lines_of(intake)).replace(b" ", b"").endswith(b"x" * 3000 + b"word" * 400)
    intake, _ = taken_in([message])
    assert result_of(intake.open().read()).endswith(message)


@pytest.mark.parametrize(
    ("message", "policy"),
    [
        (b"Subject: s\r\n\r\n" + _LONG, "reject"),
        (b"Subject: " + _LONG + b"\r\n", "reject"),
        (b"Subject: " + b"x" * 1000 + b"\r\n\r\n", "wrap"),
        (b"Content-Type: Multipart/Signed; boundary=b\r\n\r\n" + _LONG, "wrap"),
    ],
)
def test_long_lines_that_may_not_be_wrapped_are_refused(message: bytes, policy: str) -> None:
    with pytest.raises(PermanentError) as caught:
        taken_in([message], without_bcc, long_lines=policy)
    assert caught.value.status == "5.6.0"


@pytest.mark.parametrize("size", [1, 7, 1000])
@pytest.mark.parametrize(
    ("message", "needs"),
    [
        (b"Subject: x\r\n\r\ny\r\n", 0),
        (b"Subject: \xc3\xbc\r\n\r\ny\r\n", HEADER_UTF8),
        (b"Subject: x\r\nno field \xc3\xbc\r\n", BODY_8BIT),
        (b"Return-Path: <\xc3\xbc@xx.example>\r\nSubject: x\r\n\r\ny\r\n", 0),
    ],
)
def test_what_a_next_hop_gets_is_looked_at(message: bytes, needs: int, size: int) -> None:
    pieces = [message[start : start + size] for start in range(0, len(message), size)]
    inner = OctetsWriter()
    writer = IntakeWriter(inner, "Return-Path: <ü@xx.example>\r\n".encode(), b"Received: us\r\n", needs=True)
    for piece in pieces:
        result_of(writer.write(piece))
    intake = result_of(writer.finish())
    assert intake.needs == needs
    assert taken_in(pieces)[0].needs is None


def test_what_was_broken_needs_no_long_lines() -> None:
    message = b"Subject: x\r\n\r\n" + b"word " * 300
    assert taken_in([message], needs=True, long_lines="wrap")[0].needs == 0
    assert taken_in([message], needs=True)[0].needs == LONG_LINE
