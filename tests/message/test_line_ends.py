"""How many octets POP3 sends, against what its stuffer gives out."""

from __future__ import annotations

import mmap
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailhub.message import line_ends
from mailhub.message.line_ends import LineEnds, growth
from mailhub.wire.stream import DotStuffer


@pytest.mark.parametrize(
    ("octets", "more"),
    [
        (b"", 0),
        (b"a: b\r\n\r\nc\r\n", 0),
        (b"a: b\n\nc\n", 3),
        (b"a: b\r\n\r\nc", 2),
        (b"a: b\r\rc\r", 3),
        (b"a\r\r\n", 1),
        (b"a\n\r\n\r", 2),
        (b"a\0b\r\n", -1),
        (b"a\r\n\0\0", -2),
        (b"a\0", 1),
        (b"\0", -1),
    ],
)
def test_growth(octets: bytes, more: int) -> None:
    assert growth(octets) == more


def _sent(octets: bytes) -> int:
    """The octets of a RETR without the dot at its end and the dots before others; nothing here has such lines."""
    stuffer = DotStuffer(normalise=True)
    sent = stuffer.feed(octets) + stuffer.finish()
    return len(sent.removesuffix(b".\r\n"))


@given(st.text("ab\r\n\0", max_size=30))
def test_it_is_what_pop3_sends(text: str) -> None:
    octets = text.encode()
    assert len(octets) + growth(octets) == _sent(octets)
    assert growth(bytes(3) + octets, 3) == growth(octets)


@given(st.text("ab\r\n\0", max_size=30), st.integers(1, 5))
def test_line_ends_do_not_depend_on_the_split(text: str, size: int) -> None:
    octets, pieces = text.encode(), LineEnds()
    clean = [pieces.clean(octets[at : at + size], last=False) for at in range(0, len(octets), size)]
    assert (all(clean) and pieces.clean(b"")) == LineEnds().clean(octets)
    assert LineEnds().clean(octets) == (re.search(r"\r(?!\n)|(?<!\r)\n|\0", text) is None)


@pytest.mark.parametrize("ending", [b"", b"\r", b"\n", b"\r\n", b"\0" * 9])
def test_a_file_gives_the_same(monkeypatch: pytest.MonkeyPatch, ending: bytes) -> None:
    monkeypatch.setattr(line_ends, "_BLOCK", 4)
    octets = b"abc\r\ndef\n\rghi\r\n\r\nj\0kl\r\n\0\r\n" + ending
    with mmap.mmap(-1, len(octets)) as file:
        file[:] = octets
        assert growth(file) == growth(octets)
    with mmap.mmap(-1, 7 + len(octets)) as file:
        file[7:] = octets
        assert growth(file, 7) == growth(octets)
