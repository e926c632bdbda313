from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mailhub.wire.pop3.top import Topmost

MESSAGE = b"A: b\r\nC: d\r\n\r\none\r\n\r\nthree\r\nlast without end"


def header_size(message: bytes) -> int:
    """Up to the first empty line and with it."""
    rows = message.splitlines(keepends=True)
    header = next((i + 1 for i, row in enumerate(rows) if row in (b"\r\n", b"\n")), len(rows))
    return sum(map(len, rows[:header]))


def expected(message: bytes, lines: int) -> bytes:
    """By the definition: the header and so many lines."""
    size = header_size(message)
    return message[:size] + b"".join(message[size:].splitlines(keepends=True)[:lines])


def cut(message: bytes, lines: int, edges: list[int]) -> bytes:
    top = Topmost(lines, header_size(message))
    cuts = [0, *sorted(edges), len(message)]
    return b"".join(top.feed(message[a:b]) for a, b in pairwise(cuts))


@pytest.mark.parametrize("lines", [0, 1, 2, 3, 4, 5, 999_999_999])
def test_lines(lines: int) -> None:
    assert cut(MESSAGE, lines, []) == expected(MESSAGE, lines)


@pytest.mark.parametrize(
    "message",
    [
        b"",
        b"\r\n",
        b"\r\nbody\r\n",
        b"A: b\r\n",
        b"A: b",
        b"\n\nx\n",
        b"A: b\n\nx\ny\n",
        b"A: b\n\nx\ry\r",
        b"\n\r\r\n",
    ],
)
def test_odd_messages(message: bytes) -> None:
    assert cut(message, 1, []) == expected(message, 1)


@settings(deadline=None, max_examples=150)
@given(
    st.lists(st.sampled_from([b"\r\n", b"a: b\r\n", b"x", b"\n", b"line\r\n", b"mac\r"]), max_size=12).map(b"".join),
    st.integers(0, 5),
    st.lists(st.integers(0, 60), max_size=6),
)
def test_any_split_gives_the_same(message: bytes, lines: int, edges: list[int]) -> None:
    assert cut(message, lines, [min(edge, len(message)) for edge in edges]) == expected(message, lines)


def test_says_when_no_more_need_be_read() -> None:
    top = Topmost(1, 8)
    top.feed(b"A: b\r\n\r\none")
    assert not top.done
    top.feed(b"\r\n")
    assert top.done
    assert top.feed(b"two\r\n") == b""


@pytest.mark.parametrize(("after", "given"), [(b"b\r\nc", b"a\r"), (b"\nb\r\nc", b"a\r\n")])
def test_what_comes_after_a_cr_says_whether_it_has_ended_a_line(after: bytes, given: bytes) -> None:
    top = Topmost(1, 0)
    assert top.feed(b"a\r") + top.feed(after) == given
    assert top.done
