"""The words of the grammar, and where errors are said to be."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta, timezone

import pytest

from mailhub.wire.imap.tokens import BadSyntax, Incomplete, Tokens


@pytest.mark.parametrize(
    ("read", "octets", "value", "rest"),
    [
        (Tokens.tag, b"A1.x] X", "A1.x]", b" X"),
        (Tokens.atom, b"AbC[x]", b"AbC[x", b"]"),
        (Tokens.word, b"body.peek[", "BODY.PEEK[", b""),
        (Tokens.astring, b"a]b c", b"a]b", b" c"),
        (Tokens.astring, b'"a b" c', b"a b", b" c"),
        (Tokens.astring, b"{3}\r\na\r\n c", b"a\r\n", b" c"),
        (Tokens.astring, b"{3+}\r\na b", b"a b", b""),
        (Tokens.astring, b"{0}\r\n)", b"", b")"),
        (Tokens.astring, b"NIL", b"NIL", b""),
        (Tokens.astring, b"a%*/\\b\xc3\xa9 c", b"a%*/\\b\xc3\xa9", b" c"),
        (Tokens.astring, b"a(b", b"a", b"(b"),
        (Tokens.string, rb'"a\"b\\c"', rb'a"b\c', b""),
        (Tokens.string, b'""', b"", b""),
        (Tokens.string, b'"caf\xc3\xa9"', b"caf\xc3\xa9", b""),
        (Tokens.string, b"{2}\r\n\xff\x80", b"\xff\x80", b""),
        (Tokens.nstring, b"nil)", None, b")"),
        (Tokens.nstring, b'"nil"', b"nil", b""),
        (Tokens.number, b"0)", 0, b")"),
        (Tokens.number, b"4294967295", 4294967295, b""),
        (Tokens.nz_number, b"10<", 10, b"<"),
        (Tokens.sequence_set, b"1:*,3 x", b"1:*,3", b" x"),
        (Tokens.date, b"1-Feb-1994 x", date(1994, 2, 1), b" x"),
        (Tokens.date, b'"29-feb-2024"', date(2024, 2, 29), b""),
        (Tokens.flag_list, b"() x", frozenset(), b" x"),
        (Tokens.flag_list, b"( ) x", frozenset(), b" x"),
        (Tokens.flag_list, b"( \\Seen  x )", frozenset({"\\Seen", "x"}), b""),
        (Tokens.sequence_set, b'"1:*" x', b"1:*", b" x"),
        (Tokens.space, b"\t  x", None, b"x"),
        (Tokens.flag_list, b"(\\seen $Work)", frozenset({"\\Seen", "$Work"}), b""),
        (Tokens.flags, b"\\Deleted x", frozenset({"\\Deleted", "x"}), b""),
        (Tokens.rest, b"a b", b"a b", b""),
    ],
)
def test_reads(read: Callable[[Tokens], object], octets: bytes, value: object, rest: bytes) -> None:
    tokens = Tokens(b"> " + octets, 2)
    assert read(tokens) == value
    assert octets[tokens.position - 2 :] == rest


@pytest.mark.parametrize(
    ("read", "octets"),
    [
        (Tokens.tag, b""),
        (Tokens.tag, b"+1"),
        (Tokens.tag, b"\xff"),
        (Tokens.atom, b"]"),
        (Tokens.atom, b'"a"'),
        (Tokens.atom, b"\x7f"),
        (Tokens.string, b"a"),
        (Tokens.string, b'"a'),
        (Tokens.string, b'"a\\x"'),
        (Tokens.string, b'"a\r\nb"'),
        (Tokens.string, b'"a\0b"'),
        (Tokens.string, b"{1}a"),
        (Tokens.string, b"{1}\r\n\0"),
        (Tokens.string, b"{+}\r\n"),
        (Tokens.string, b"{-1}\r\n"),
        (Tokens.string, b"{99999999999999999999999}\r\n"),
        (Tokens.nstring, b"NI"),
        (Tokens.number, b"-1"),
        (Tokens.nz_number, b"0"),
        (Tokens.sequence_set, b"x"),
        (Tokens.date, b"30-Feb-2024"),
        (Tokens.date, b"0-Jan-2024"),
        (Tokens.date, b"1-Foo-2024"),
        (Tokens.date, b"1-Jan-0000"),
        (Tokens.date, b"1-Jan-24"),
        (Tokens.date, b'"1-Jan-2024'),
        (Tokens.flag_list, b"(\\Seen"),
        (Tokens.flag_list, b"(\\Recent)"),
        (Tokens.flag_list, b"(\\Unknown)"),
        (Tokens.flag_list, b"(\\*)"),
        (Tokens.flags, b"a " * 100 + b"a"),
        (Tokens.end, b"x"),
    ],
)
def test_refuses(read: Callable[[Tokens], object], octets: bytes) -> None:
    with pytest.raises(BadSyntax):
        read(Tokens(octets))


_TIMES = [
    (b'" 1-Feb-1994 21:52:25 -0800"', datetime(1994, 2, 1, 21, 52, 25, tzinfo=timezone(timedelta(hours=-8)))),
    (b'"17-jul-1996 02:44:25 +0530"', datetime(1996, 7, 17, 2, 44, 25, tzinfo=timezone(timedelta(hours=5.5)))),
    (b'"31-Dec-2016 23:59:60 +0000"', datetime(2016, 12, 31, 23, 59, 59, tzinfo=timezone(timedelta(0)))),
]


# 3 February 2025, 18:08:07 UTC, as programs write it and as they might.
_LOOSE_TIMES = [
    b'"3-Feb-2025 18:08:07 +0000"',
    b'"03-feb-2025 18:8:7 +0000"',
    b'"  3-FEB-2025  18:08:07  +0000 "',
    b'"3-February-2025 18:08:07 +00:00"',
    b'"3-Feb-2025 19:08:07+0100"',
    b'"3-Feb-2025 18:08:07"',
    b'"3-Feb-2025 18:08:07.250 GMT"',
    b'"3-Feb-2025 13:08:07 est"',
    b'"Mon, 3 Feb 2025 18:08:07 +0000"',
    b'"Mon 3-Feb-2025 18:08:07 Z"',
    b'"Mon, 3 Feb 2025 18:08:07 +0000 (UTC)"',
]


@pytest.mark.parametrize("octets", _LOOSE_TIMES)
def test_date_times_that_are_loose_but_clear(octets: bytes) -> None:
    assert Tokens(octets).date_time() == datetime(2025, 2, 3, 18, 8, 7, tzinfo=UTC)


def test_a_time_without_seconds() -> None:
    assert Tokens(b'"3-Feb-2025 9:05 +0000"').date_time() == datetime(2025, 2, 3, 9, 5, tzinfo=UTC)


@pytest.mark.parametrize(
    "octets", [b"3-Feb-2025", b'" 3-feb-2025 "', b"{10}\r\n3-FEB-2025", b'"Mon, 3 Feb 2025"', b"03-February-2025"]
)
def test_dates_that_are_loose_but_clear(octets: bytes) -> None:
    assert Tokens(octets).date() == date(2025, 2, 3)


@pytest.mark.parametrize(("octets", "moment"), _TIMES)
def test_date_time(octets: bytes, moment: datetime) -> None:
    assert Tokens(octets).date_time() == moment


@pytest.mark.parametrize(
    "octets",
    [
        b'"1-Feb-94 21:52:25 -0800"',
        b'"1-F-1994 21:52:25 -0800"',
        b'"1-Februaryy-1994 21:52:25 -0800"',
        b'"1-Feb-1994 21:52:25 CES"',
        b'"1-Feb-1994 21:52:25 -08"',
        b'"1-Feb-1994 21 -0800"',
        b'"1-Feb-1994T21:52:25 x"',
        b'" 1-Feb-1994 24:00:00 +0000"',
        b'" 1-Feb-1994 23:59:61 +0000"',
        b'" 1-Feb-1994 23:60:00 +0000"',
        b'" 1-Feb-1994 21:52:25 +2400"',
        b'" 1-Feb-1994 21:52:25 +0060"',
        b'"30-Feb-1994 21:52:25 +0000"',
        b'" 1-Xyz-1994 21:52:25 +0000"',
        b'" 1-Feb-0000 21:52:25 +0000"',
        b'" 1-Feb-1994 21:52:25 -0800',
    ],
)
def test_bad_date_time(octets: bytes) -> None:
    with pytest.raises(BadSyntax):
        Tokens(octets).date_time()


def test_first_and_last_instants_have_a_timestamp() -> None:
    # The store counts in seconds since the epoch: a moment it cannot count is refused here.
    for octets in (b'" 1-Jan-0001 00:00:00 +2359"', b'"31-Dec-9999 23:59:59 -2359"'):
        assert isinstance(Tokens(octets).date_time().timestamp(), float)


def test_an_error_names_its_place() -> None:
    tokens = Tokens(b"a (b")
    tokens.atom()
    tokens.space()
    with pytest.raises(BadSyntax, match="Expected an atom") as caught:
        tokens.atom()
    assert caught.value.position == 2


def test_a_literal_beyond_the_end_is_told_apart() -> None:
    with pytest.raises(Incomplete):
        Tokens(b"{3}\r\nab").string()


@pytest.mark.parametrize(
    "octets", [b"9223372036854775807", b"9223372036854775808", b"9" * 60000, b"0" * 60000 + b"9" * 19]
)
def test_large_numbers_up_to_63_bits(octets: bytes) -> None:
    assert Tokens(octets).number() == 2**63 - 1


def test_a_word_is_taken_only_as_a_whole() -> None:
    tokens = Tokens(b"charset2 charset")
    assert not tokens.accept_word(b"CHARSET")
    tokens.position = 9
    assert tokens.accept_word(b"CHARSET")
    assert tokens.at_end()
