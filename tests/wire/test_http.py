"""Answers of web servers, good and bad, in pieces of any size."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailhub.wire.http import Answer, AnswerReader, BadAnswer, request

CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n"
TEXT = b"Content-Type: Text/Plain; charset=utf-8\r\n"


def read(octets: bytes, piece: int = 7, limit: int = 100) -> Answer:
    reader = AnswerReader(limit)
    for start in range(0, len(octets), piece):
        answer = reader.feed(octets[start : start + piece])
        if answer is not None:
            return answer
    return reader.end()


@pytest.mark.parametrize("piece", [1, 2, 7, 1000])
@pytest.mark.parametrize(
    ("octets", "answer"),
    [
        (
            b"HTTP/1.1 200 OK\r\n" + TEXT + b"Content-Length: 5\r\n\r\nhello, and more",
            Answer(200, "text/plain", b"hello"),
        ),
        (b"HTTP/1.1 200 OK\n" + TEXT + b"content-length:0\n\n", Answer(200, "text/plain", b"")),
        (b"HTTP/1.0 200\r\n\r\nto the end", Answer(200, "", b"to the end")),
        (
            CHUNKED + b"5;x=y\r\nhello\r\n0a\r\n, and\r\nmor\r\n0\r\nA: b\r\n\r\n",
            Answer(200, "", b"hello, and\r\nmor"),
        ),
        (
            b"HTTP/1.1 100 C\r\n\r\nHTTP/1.1 301 M\r\nLocation: /\r\nContent-Length: 1\r\n\r\nx",
            Answer(301, "", b"x"),
        ),
        (b"HTTP/1.1 204 None\r\nContent-Length: 9\r\n\r\n", Answer(204, "", b"")),
    ],
)
def test_answers(octets: bytes, answer: Answer, piece: int) -> None:
    assert read(octets, piece) == answer


@pytest.mark.parametrize("piece", [1, 1000])
@pytest.mark.parametrize(
    "octets",
    [
        b"",
        b"220 mx.example ESMTP\r\n",
        b"HTTP/1.1 20 OK\r\n\r\n",
        b"HTTP/2 200\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhell",
        b"HTTP/1.1 200 OK\r\nContent-Length: 101\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: " + b"9" * 30 + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 101,
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n65\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"10\r\n0123456789abcdef\r\n" * 7,
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello!\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\nx",
        b"HTTP/1.1 200 OK\r\nX: " + b"x" * 40_000 + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 10_000 + b"\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n" + b"X: y\r\n" * 10_000 + b"\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\n" * 10,
        b"HTTP/1.1 101 Switching\r\n\r\n",
    ],
)
def test_what_is_no_answer_or_too_much(octets: bytes, piece: int) -> None:
    with pytest.raises(BadAnswer):
        read(octets, piece)


@given(st.binary(max_size=200), st.integers(1, 50))
def test_anything_gives_an_answer_or_is_bad(octets: bytes, piece: int) -> None:
    for begin in (b"", b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"):
        with contextlib.suppress(BadAnswer):
            assert len(read(begin + octets, piece).body) <= 100


def test_requests() -> None:
    assert request("GET", "a.example", "/x") == (
        b"GET /x HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\nUser-Agent: mailhub\r\n\r\n"
    )
    assert request("POST", "a.example", "/", (("Content-Type", "text/plain"),), b"hello").endswith(
        b"Content-Type: text/plain\r\nContent-Length: 5\r\n\r\nhello"
    )
    for path in ("/a b", "/a\r\nX: y", "x", "", "/\u00e9"):
        with pytest.raises(ValueError, match="cannot be asked for"):
            request("GET", "a.example", path)
