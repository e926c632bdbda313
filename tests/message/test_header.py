"""The header index: what is a field, where the header ends, and that nothing is lost."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mailhub.message import header
from mailhub.message.header import Header, header_end, omit, raw_fields, select, unfold


@pytest.mark.parametrize(
    ("octets", "end"),
    [
        (b"A: 1\r\n\r\nbody", 8),
        (b"\r\nbody", 2),
        (b"\nbody", 1),
        (b"A: 1\n\nbody", 6),
        (b"A: 1\n\nb\r\n\r\n", 6),
        (b"A: 1\r\n\nbody\r\n\r\n", 7),
        (b"A: 1\n\r\nbody", 7),
        (b"A: 1\r\nB: 2\r\n", 12),
        (b"A: 1", 4),
        (b"", 0),
        (b"A: 1\r\n \r\nB: 2\r\n\r\n", 17),  # a line of white space is a continuation
        (b"A: 1\r\ntext\r\n\r\nmore", 6),
        (b"A: 1\r\n:\r\n\r\n", 6),
        (b"A: 1\r\nOdd Name: 2\r\n\r\n", 6),
        (b"A: 1\r\nB : 2\r\n\r\n", 15),
        (b"A: 1\r\ntext", 6),
        (b"text\r\nA: 1\r\n\r\n", 0),
        (b" text\r\nA: 1\r\n\r\n", 0),
        (b"From me Tue\r\nA: 1\r\n\r\nx", 21),
        (b">From me Tue\nA: 1\n\nx", 19),
        (b"From me\r\nto you\r\n\r\n", 0),
        (b"\xef\xbb\xbfA: 1\r\n\r\nx", 11),
        (b"A: 1\r\nFrom me\r\nB: 2\r\n\r\n", 6),
    ],
)
def test_header_end(octets: bytes, end: int) -> None:
    assert header_end(octets, 0, len(octets)) == end


def test_header_end_stays_inside_its_range() -> None:
    assert header_end(b"xxA: 1\r\n\r\nbody", 2, 6) == 6
    assert header_end(b"xx\r\n", 2, 3) == 3


def test_fields_and_bodies() -> None:
    raw = (
        b"Subject: one\r\n two\r\n\tthree\r\nno field\r\n: no name\r\nOdd Name: x\r\nSpace : y\r\nTAB\t: z\r\n"
        b"subject: second\r\nEmpty:\r\n\r\n"
    )
    index = Header(raw)
    assert [field.name for field in index.fields] == [b"subject", b"space", b"tab", b"subject", b"empty"]
    assert index.first(b"subject") == b"one two three"
    assert index.first(b"space") == b"y"
    assert index.first(b"empty") == b""
    assert index.first(b"absent") is None
    assert index.count(b"subject") == 2
    assert (index.count(b"tab"), index.count(b"absent")) == (1, 0)
    assert len(index) == 9
    assert index.joined(b"subject") == b"one two three, second"
    assert index.joined(b"tab") == b"z"
    assert index.joined(b"absent") is None
    assert index.octets({b"tab", b"subject"}) == (b"Subject: one\r\n two\r\n\tthree\r\nTAB\t: z\r\nsubject: second\r\n")


def test_white_space_at_the_start_continues_nothing() -> None:
    index = Header(b" continuation: of nothing\r\nA: 1\r\n")
    assert [field.name for field in index.fields] == [b"a"]


def test_eight_bit_and_bare_carriage_returns_stay_in_the_body() -> None:
    assert Header(b"A: \xe4\rB: 2\r\n").first(b"a") == b"\xe4\rB: 2"


@pytest.mark.parametrize(
    ("body", "value"),
    [
        (b" x ", b"x"),
        (b" a\r\n b", b"a b"),
        (b"\ta\n\tb", b"a b"),
        (b"a \t\r\n \t b\r\n \r\n\t c  d\te", b"a b c  d\te"),
        (b"", b""),
        (b"\r\n \r\n ", b""),
    ],
)
def test_unfold(body: bytes, value: bytes) -> None:
    assert unfold(body) == value


def test_limits() -> None:
    many = b"a:\n" * 100_000
    assert len(Header(many).fields) == header.FIELD_LIMIT
    assert len(Header(b"line\n" * 100_000)) == header.FIELD_LIMIT
    assert len(Header(many, 7).fields) == 7
    assert len(Header(b"A: " + b"x" * 5_000_000).first(b"a") or b"") == header.VALUE_LIMIT
    assert len(Header(b"A: 1\r\n" * 11_000).octets({b"a"})) == 6 * header.FIELD_LIMIT


def test_select_and_omit_divide_the_fields() -> None:
    raw = b"To: a\r\n b\r\njunk\r\nFrom: c\r\nto: d\r\n\r\n"
    assert select(raw, {b"to"}) == b"To: a\r\n b\r\nto: d\r\n\r\n"
    assert omit(raw, {b"to"}) == b"From: c\r\n\r\n"
    assert select(raw, {b"cc"}) == b"\r\n"
    assert select(b"", {b"to"}) == b"\r\n"


_HEADERS = st.lists(
    st.sampled_from(
        [b"A: 1\r\n", b"A:\r\n", b" x\r\n", b"\t\n", b"junk\r\n", b"b : 2\n", b"\xff: 3\r\n", b":\r", b"\r", b"C:x"]
    )
).map(b"".join)


@given(_HEADERS | st.binary(max_size=60))
@settings(deadline=None, max_examples=200)
def test_raw_fields_lose_nothing(raw: bytes) -> None:
    pieces = list(raw_fields(raw))
    assert b"".join(octets for _, octets in pieces) == raw
    assert [name for name, _ in pieces if name] == [field.name for field in Header(raw).fields]


@given(_HEADERS)
@settings(deadline=None, max_examples=100)
def test_large_headers_are_indexed_like_small_ones(raw: bytes) -> None:
    padding = b"X-Pad: " + b"x" * header._SMALL + b"\r\n"
    small, large = Header(b"Z: 0\r\n" + raw), Header(padding + raw)
    assert small.fields[1:] == large.fields[1:]


def test_what_a_limit_cuts_is_left_out_as_a_word() -> None:
    words = b"word " * (header.VALUE_LIMIT // 5 + 10)
    assert header.unfold(b" " + words).split() == [b"word"] * ((header.VALUE_LIMIT + 1) // 5)
    assert (
        header.unfold(b"x" + "\u20ac".encode() * header.VALUE_LIMIT).decode().count("\u20ac") == header.VALUE_LIMIT // 3
    )


@pytest.mark.parametrize("end", [b"\r\n", b"\n"])
def test_a_header_over_the_limit_ends_with_a_whole_field(end: bytes) -> None:
    raw = (b"A: 1" + end + b" 2" + end) * 20
    for limit in range(len(raw)):
        cut = header.whole_fields(raw, limit)
        assert raw.startswith(cut)
        assert len(cut) <= limit
        assert len(cut) % (len(raw) // 20) == 0
    assert header.whole_fields(raw) == raw


def test_the_first_field_after_a_byte_order_mark_is_read() -> None:
    raw = b"\xef\xbb\xbfA: 1\r\nB: 2\r\n\r\n"
    assert Header(raw).first(b"a") == b"1"
    assert select(raw, {b"a"}) == b"A: 1\r\n\r\n"
    assert b"".join(octets for _, octets in raw_fields(raw)) == raw


@pytest.mark.parametrize(
    ("raw", "fields"),
    [
        (b"A: 1\r\n\r\n", b"A: 1\r\n\r\n"),
        (
            b"From joe Mon Jan  1 00:00:00 2024\r\nA: 1\r\n",
            b"X-Mailbox-Line: From joe Mon Jan  1 00:00:00 2024\r\nA: 1\r\n",
        ),
        (b"\xef\xbb\xbfA: 1\r\n", b"A: 1\r\n"),
        (b"", b""),
    ],
)
def test_a_header_below_others_begins_with_a_field(raw: bytes, fields: bytes) -> None:
    assert header.without_mailbox_line(raw) == fields


def test_fields_of_a_name_are_taken_out_whole() -> None:
    raw = b"Bcc: a,\r\n b\r\nTo: bcc: x\r\nBCC:c\r\n\r\n"
    assert header.without_field(raw, b"bcc") == b"To: bcc: x\r\n\r\n"
    assert header.without_field(raw, b"cc") == raw
    assert header.without_field(raw, b"sender") == raw
