"""The octet buffer and the transparency of message data."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mailhub.wire.stream import BareLines, DataDecoder, DotStuffer, LineBuffer, LineTooLong, Violation

quick = settings(deadline=None, max_examples=150)

# Octets of which every border case is made.
fragments = st.lists(
    st.sampled_from([b"\r", b"\n", b".", b"\r\n", b"\r\n.", b"\r\n..", b"x", b"\0", b"\n.\n", b"\xff"]), max_size=30
).map(b"".join)
clean_lines = st.lists(
    st.lists(st.sampled_from([b".", b"x", b"..", b"\xc3\xa4"]), max_size=4).map(b"".join), max_size=12
).map(lambda lines: b"".join(line + b"\r\n" for line in lines))
cuts = st.lists(st.integers(1, 7), max_size=60)


def split(octets: bytes, sizes: list[int]) -> list[bytes]:
    """Cut octets into pieces of these sizes; the remainder is the last piece."""
    pieces = []
    for size in sizes:
        pieces.append(octets[:size])
        octets = octets[size:]
    return [*pieces, octets]


def read_lines(buffer: LineBuffer) -> list[bytes | None]:
    """All complete lines; None stands for one that was too long."""
    lines: list[bytes | None] = []
    while True:
        try:
            line = buffer.next_line()
        except LineTooLong:
            lines.append(None)
            continue
        if line is None:
            return lines
        lines.append(line)


def decode(pieces: list[bytes], policy: BareLines = BareLines.REJECT) -> tuple[bytes, bytes, Violation | None, bool]:
    """Body, octets after the end, first offence, and whether the end was found."""
    decoder = DataDecoder(policy)
    body, rest = b"", b""
    for piece in pieces:
        if decoder.ended:
            rest += piece
        else:
            body += decoder.feed(piece)
            rest += decoder.rest
    return body, rest, decoder.violation, decoder.ended


@pytest.mark.parametrize(
    ("octets", "lines"),
    [
        (b"", []),
        (b"NOOP", []),
        (b"NOOP\r\n", [b"NOOP"]),
        (b"NOOP\n", [b"NOOP"]),
        (b"\r\n\n", [b"", b""]),
        (b"a\r\r\n", [b"a\r"]),
        (b"a\rb\r\nc", [b"a\rb"]),
        (b"x" * 62 + b"\r\n", [b"x" * 62]),
        (b"x" * 63 + b"\r\n", [None]),
        (b"x" * 63 + b"\n", [b"x" * 63]),
        (b"x" * 500 + b"\r\nNOOP\r\n", [None, b"NOOP"]),
    ],
)
def test_lines(octets: bytes, lines: list[bytes | None]) -> None:
    buffer = LineBuffer(64)
    buffer.feed(octets)
    assert read_lines(buffer) == lines


@quick
@given(st.lists(st.sampled_from([b"\r\n", b"\n", b"\r", b"abc", b"x" * 60, b"y" * 200]), max_size=25), cuts)
def test_lines_do_not_depend_on_the_split(parts: list[bytes], sizes: list[int]) -> None:
    octets = b"".join(parts)
    whole, pieces = LineBuffer(64), LineBuffer(64)
    whole.feed(octets)
    expected = read_lines(whole)
    lines: list[bytes | None] = []
    for piece in split(octets, sizes):
        pieces.feed(piece)
        lines += read_lines(pieces)
        assert len(pieces) < 64
    assert lines == expected


def test_an_endless_line_is_not_held_and_reported_once_with_its_head() -> None:
    buffer = LineBuffer(100)
    for number in range(1000):
        buffer.feed(b"A%04d " % number * 20)
        assert buffer.next_line() is None
        assert len(buffer) < 100
    assert buffer.discarded == 120 * 1000
    buffer.feed(b"\r\nNOOP\r\n")
    with pytest.raises(LineTooLong) as caught:
        buffer.next_line()
    assert caught.value.head == (b"A0000 " * 20)[:64]
    assert buffer.discarded == 0
    assert buffer.next_line() == b"NOOP"


def test_counted_octets_between_lines() -> None:
    buffer = LineBuffer(64)
    buffer.feed(b"a {5}\r\n12")
    assert buffer.next_line() == b"a {5}"
    assert buffer.take(5) == b"12"
    buffer.feed(b"345 rest\r\nmore")
    assert buffer.take(3) == b"345"
    assert buffer.next_line() == b" rest"
    assert buffer.take_all() == b"more"
    assert len(buffer) == 0


def test_taking_after_a_half_scanned_line_forgets_the_scan() -> None:
    buffer = LineBuffer(64)
    buffer.feed(b"abcdef")
    assert buffer.next_line() is None
    assert buffer.take(6) == b"abcdef"
    buffer.feed(b"b\r\n")
    assert buffer.next_line() == b"b"


def test_drop_forgets_octets_and_a_half_discarded_line() -> None:
    buffer = LineBuffer(64)
    buffer.feed(b"x" * 100)
    assert buffer.next_line() is None
    buffer.drop()
    buffer.feed(b"EHLO a\r\n")
    assert buffer.next_line() == b"EHLO a"


@pytest.mark.parametrize(
    ("wire", "body", "rest"),
    [
        (b".\r\n", b"", b""),
        (b"\r\n.\r\n", b"\r\n", b""),
        (b"a\r\n.\r\nQUIT\r\n", b"a\r\n", b"QUIT\r\n"),
        (b"..\r\n.\r\n", b".\r\n", b""),
        (b"..a\r\n...\r\n.\r\n", b".a\r\n..\r\n", b""),
        (b".a\r\n.\r\n", b"a\r\n", b""),
        (b"a\r\n..\r\n..\r\n.\r\n.\r\n", b"a\r\n.\r\n.\r\n", b".\r\n"),
    ],
)
def test_decoding(wire: bytes, body: bytes, rest: bytes) -> None:
    assert decode([wire]) == (body, rest, None, True)
    assert decode([wire[i : i + 1] for i in range(len(wire))]) == (body, rest, None, True)


SMUGGLING = [b"\n.\n", b"\n.\r\n", b"\r.\r", b"\r.\r\n", b"\r\n.\n", b"\r\n.\r", b"\n.\r"]
SMUGGLING += [b"\r\n\0.\r\n", b"\r\0\n.\r\n", b"\r\n.\0\r\n"]


@pytest.mark.parametrize("false_end", SMUGGLING)
@pytest.mark.parametrize("policy", BareLines)
def test_nothing_but_crlf_dot_crlf_ends_data(false_end: bytes, policy: BareLines) -> None:
    wire = b"a" + false_end + b"MAIL FROM:<x@example>\r\n.\r\nQUIT\r\n"
    body, rest, violation, ended = decode([wire], policy)
    assert ended
    assert rest == b"QUIT\r\n"
    assert violation is not None
    assert (b"MAIL" in body) is (policy is BareLines.NORMALISE)


@pytest.mark.parametrize(
    ("wire", "body", "violation"),
    [
        (b"a\nb\r\n.\r\n", b"a\r\nb\r\n", Violation.BARE_LF),
        (b"a\rb\r\n.\r\n", b"a\r\nb\r\n", Violation.BARE_CR),
        (b"a\r\r\nb\r\n.\r\n", b"a\r\n\r\nb\r\n", Violation.BARE_CR),
        (b"a\0b\r\n.\r\n", b"ab\r\n", Violation.NUL),
        (b"\n.\n\r\n.\r\n", b"\r\n.\r\n\r\n", Violation.BARE_LF),
        (b"a\0b\nc\r\n.\r\n", b"ab\r\nc\r\n", Violation.NUL),
    ],
)
def test_normalising(wire: bytes, body: bytes, violation: Violation) -> None:
    assert decode([wire], BareLines.NORMALISE) == (body, b"", violation, True)


@quick
@given(fragments, cuts, st.sampled_from(BareLines))
def test_decoding_does_not_depend_on_the_split(octets: bytes, sizes: list[int], policy: BareLines) -> None:
    wire = octets + b"\r\n.\r\n" + octets
    assert decode(split(wire, sizes), policy) == decode([wire], policy)


@quick
@given(fragments, cuts)
def test_no_bare_line_ending_is_given_out(octets: bytes, sizes: list[int]) -> None:
    for policy in BareLines:
        body, _, violation, _ = decode(split(octets + b"\r\n.\r\n", sizes), policy)
        stripped = body.replace(b"\r\n", b"")
        assert not {b"\r", b"\n", b"\0"} & {stripped[i : i + 1] for i in range(len(stripped))}
        if policy is BareLines.NORMALISE or violation is None:
            assert body == b"" or body.endswith(b"\r\n")


@quick
@given(clean_lines, cuts, cuts)
def test_decoder_undoes_stuffer(message: bytes, sizes: list[int], again: list[int]) -> None:
    stuffer = DotStuffer()
    wire = b"".join(stuffer.feed(piece) for piece in split(message, sizes)) + stuffer.finish()
    assert decode(split(wire + b"QUIT", again)) == (message, b"QUIT", None, True)


@quick
@given(fragments, cuts)
def test_normalising_stuffer_sends_nothing_ambiguous(octets: bytes, sizes: list[int]) -> None:
    stuffer = DotStuffer(normalise=True)
    wire = b"".join(stuffer.feed(piece) for piece in split(octets, sizes)) + stuffer.finish()
    body, rest, violation, ended = decode([wire])
    assert (rest, violation, ended) == (b"", None, True)
    plain = octets.replace(b"\r\n", b"\n").replace(b"\r", b"\n").replace(b"\n", b"\r\n").replace(b"\0", b"")
    assert body in (plain, plain + b"\r\n")


@pytest.mark.parametrize(
    ("message", "wire"),
    [
        (b"", b".\r\n"),
        (b".", b"..\r\n.\r\n"),
        (b"a", b"a\r\n.\r\n"),
        (b"a\r\n", b"a\r\n.\r\n"),
        (b"a\r", b"a\r\n.\r\n"),
        (b"a\r\n.b", b"a\r\n..b\r\n.\r\n"),
        (b"a\n.b", b"a\n.b\r\n.\r\n"),
    ],
)
def test_stuffing(message: bytes, wire: bytes) -> None:
    for pieces in ([message], [message[i : i + 1] for i in range(len(message))]):
        stuffer = DotStuffer()
        assert b"".join(map(stuffer.feed, pieces)) + stuffer.finish() == wire


def test_feeding_after_the_end_is_a_programming_error() -> None:
    decoder = DataDecoder(BareLines.REJECT)
    decoder.feed(b".\r\n")
    with pytest.raises(RuntimeError):
        decoder.feed(b"x")
