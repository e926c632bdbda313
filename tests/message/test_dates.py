"""Dates as header fields have them and as IMAP shows them."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta, timezone
from email.utils import format_datetime, parsedate_to_datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mailhub.message import dates

_NOON = int(datetime(2026, 11, 23, 12, 30, tzinfo=UTC).timestamp())


@pytest.mark.parametrize(
    ("text", "offset"),  # seconds from _NOON
    [
        ("Mon, 23 Nov 2026 12:30:00 +0000", 0),
        ("23 Nov 2026 12:30 +0000", 0),
        ("Mon, 23 Nov 2026 12:30:00 GMT", 0),
        ("Mon, 23 Nov 2026 12:30:00", 0),
        ("Mon, 23 Nov 2026 12:30:00 -0000 (a comment)", 0),
        ("mon, 23 nov 2026 12:30:59 +0000", 59),
        ("Mon, 23 Nov 2026 12:30:60 +0000", 60),
        ("Mon, 23 Nov 2026 14:30:00 +0200", 0),
        ("Mon, 23 Nov 2026 14:30:00 +02:00", 0),
        ("Mon, 23 Nov 2026 07:00:00 -0530", 0),
        ("Mon, 23 Nov 2026 07:30:00 EST", 0),
        ("Mon, 23 Nov 2026 05:30:00 PDT", 0),
        ("Mon, 23 Nov 2026 12:30:00 Z", 0),
        ("Mon, 23 Nov 2026 12:30:00 UT", 0),
        ("Mon, 23 Nov 2026 12:30:00 A", 0),
        ("Monday, 23-Nov-26 12:30:00 GMT", 0),
        ("23 November 2026 12.30.00 +0000", 0),
        ("Mon, 23 Nov 126 12:30:00 +0000", 0),
        ("Mon Nov 23 12:30:00 2026", 0),
        (", 23 Nov 2026 12:30:00 +0000", 0),
        ("  Mon ,  23  Nov  2026  12 : 30 : 00  +0000", 0),
        ("Sun, 23 Nov 2026 12:30:00 +0000", 0),  # a wrong day of the week
        ("Mon,23 Nov 2026 12:30:00 +0000", 0),
        ("Mon,23Nov2026 12:30:00+0000", 0),
        ("(x) Mon (y), 23 (z (of \\) it)) Nov (a) 2026 12 (b) : 30 (c) :00 (d) +0000 (e", 0),
        ("Mo., 23 Nov. 2026 13:30:00 +0100 (MEZ)", 0),
        ("lun., 23 nov. 2026 12:30 (heure d\ufffdt\xe9)", 0),
        ("Mon, 23 Nov 26 12:30 GMT", 0),
        ("Mon, 23 Nov 2026 04:30:00 Pacific Standard Time", 0),
        ("Mon, 23 Nov 2026 13:30:00 CET", 0),
        ("Mon, 23 Nov 2026 13:30:00 GMT+1", 0),
        ("Mon, 23 Nov 2026 12:30:00 Nowhere Standard Time", 0),
        ("Mon, 23 Nov 2026 12:30:0 +0000", 0),
        ("Mon, 23 Nov 2026 12:30:00 PM", 0),
        ("Monday, November 23, 2026 12:30 PM", 0),
        ("Mon Nov 23 07:30:00 EST 2026", 0),
        ("2026-11-23T12:30:00Z", 0),
        ("2026-11-23 14:30:00 +0200", 0),
        ("Mon,23 Nov 2026", -12 * 3600 - 30 * 60),
    ],
)
def test_parse_date(text: str, offset: int) -> None:
    assert dates.parse_date(text) == _NOON + offset


@pytest.mark.parametrize(
    "text",
    [
        "", "yesterday", "Mon, 31 Feb 2026 12:30:00 +0000", "Mon, 0 Nov 2026 12:30:00 +0000",
        "23 Nox 2026 12:30:00 +0000", "23 Nov 2026 24:30:00 +0000", "23 Nov 2026 12:60:00 +0000",
        "23 Nov 2026 12:30:61 +0000",
        "11/23/2026 12:30:00", "23 Nov 0000 12:30:00 +0000", "٢٣ Nov 2026 12:30:00 +0000",
        " " * 100_000, "1" * 100_000, "Mon, " * 30_000,
    ],
)  # fmt: skip
def test_no_date(text: str) -> None:
    assert dates.parse_date(text) is None


@pytest.mark.parametrize(
    ("text", "month"),
    [
        ("5 Mai 2020", 5),
        ("5. Dez. 2020", 12),
        ("5 d\xe9c. 2020", 12),
        ("5 set 2020", 9),
        ("5 okt 2020", 10),
        ("5 M\xe4rz 2020", 3),
    ],
)
def test_months_of_other_languages(text: str, month: int) -> None:
    assert dates.written_day(f"di, {text} 10:00:00 +0200") == date(2020, month, 5)


def test_the_written_day_does_not_depend_on_the_zone() -> None:
    for zone in ("-1100", "+1400", "", "PST", "(PST)", "Pacific Daylight Time"):
        assert dates.written_day(f"Wed,17 Jul 2002 23:41:00 {zone}") == date(2002, 7, 17)
    assert dates.written_day("today") is None


def test_two_digit_years() -> None:
    assert dates.parse_date("1 Jan 49 00:00:00 +0000") == datetime(2049, 1, 1, tzinfo=UTC).timestamp()
    assert dates.parse_date("1 Jan 50 00:00:00 +0000") == datetime(1950, 1, 1, tzinfo=UTC).timestamp()


_INSTANTS = st.integers(-(10**9), 10**11)
_ZONES = st.integers(-14 * 60, 14 * 60)


@given(_INSTANTS, _ZONES)
@settings(deadline=None, max_examples=150)
def test_formatted_dates_are_those_of_the_standard_library_and_are_read_back(instant: int, zone: int) -> None:
    written = dates.format_date(instant, zone)
    then = datetime.fromtimestamp(instant, timezone(timedelta(minutes=zone)))
    assert written.replace(", ", ", 0" if then.day < 10 else ", ") == format_datetime(then)
    assert dates.parse_date(written) == instant
    assert parsedate_to_datetime(written) == then


@given(_INSTANTS, _ZONES)
@settings(deadline=None, max_examples=100)
def test_imap_date_times_are_read_back(instant: int, zone: int) -> None:
    read = datetime.strptime(dates.format_imap(instant, zone).lstrip(), "%d-%b-%Y %H:%M:%S %z")
    assert (read.timestamp(), read.utcoffset()) == (instant, timedelta(minutes=zone))


def test_an_imap_day_has_two_places() -> None:
    assert dates.format_imap(_NOON - 20 * 86400, 90) == " 3-Nov-2026 14:00:00 +0130"


def test_instants_out_of_reach_are_written_as_the_nearest_day() -> None:
    assert dates.format_date(10**15).endswith("31 Dec 9999 01:46:40 +0000")
    assert dates.format_imap(-(10**15)).startswith(" 1-Jan-0001")
