"""Dates of mail: header fields (RFC 5322 3.3 and 4.3), and what IMAP shows (RFC 3501 9 date-time).

An instant is seconds since the epoch; a zone is minutes east of UTC.
"""

from __future__ import annotations

import re
from datetime import date
from functools import lru_cache

_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_NUMBER_OF = {name.lower(): number for number, name in enumerate(_MONTHS, 1)}
_EPOCH = date(1970, 1, 1).toordinal()
_DAY = 86400  # seconds

# RFC 5322 4.3 obs-zone; the letters of the military zones say nothing reliable and mean UTC.
_OBSOLETE_ZONES = {
    "EDT": -240,
    "EST": -300,
    "CDT": -300,
    "CST": -360,
    "MDT": -360,
    "MST": -420,
    "PDT": -420,
    "PST": -480,
}

# RFC 5322 3.3, with what is often sent: no seconds, full month names, dots or hyphens, no zone.
_DATE_TIME = re.compile(
    r"(?a)\s*(?:[A-Za-z]{1,12}\.?\s*,?\s+)?(\d{1,2})[\s-]+([A-Za-z]{3})[a-z]{0,7}\.?[\s-]+(\d{2,4})\s*,?\s+"
    r"(\d{1,2})\s*[:.]\s*(\d{2})(?:\s*[:.]\s*(\d{2}))?(?:\.\d{1,9})?(?:\s*(?:([+-])(\d{2}):?(\d{2})|([A-Za-z]{1,5})))?"
)
# C's asctime, which some programs write into Date: Mon Nov 23 06:30:00 2026.
_ASCTIME = re.compile(r"(?a)\s*[A-Za-z]{3}\s+([A-Za-z]{3})\s+(\d{1,2})\s+(\d{2}):(\d{2}):(\d{2})\s+(\d{4})")
_LONGEST = 100  # characters of a field that are looked at


def parse_date(text: str) -> int | None:
    """The instant of an unfolded Date field; None for what is no date. Comments may only follow it."""
    text = text[:_LONGEST]
    if match := _DATE_TIME.match(text):
        day, month, year, hour, minute, second, sign, zone_hour, zone_minute, name = match.groups()
        zone = _zone(sign, zone_hour, zone_minute) if sign else _OBSOLETE_ZONES.get((name or "").upper(), 0)
        return _instant(_full_year(year), month, day, hour, minute, second or "0", zone)
    if match := _ASCTIME.match(text):
        month, day, hour, minute, second, year = match.groups()
        return _instant(int(year), month, day, hour, minute, second, 0)
    return None


@lru_cache(maxsize=16)  # a busy server writes the same second into many messages
def format_date(instant: int, zone: int = 0) -> str:
    """RFC 5322 3.3 date-time: `Mon, 23 Nov 2026 06:30:00 +0000`."""
    day, clock = _local(instant, zone)
    return f"{_DAYS[day.weekday()]}, {day.day} {_MONTHS[day.month - 1]} {day.year:04} {clock} {_zone_text(zone)}"


def format_imap(instant: int, zone: int = 0) -> str:
    """INTERNALDATE without its quotes: ` 3-Nov-2026 06:30:00 +0000` (the day has two places)."""
    day, clock = _local(instant, zone)
    return f"{day.day:2}-{_MONTHS[day.month - 1]}-{day.year:04} {clock} {_zone_text(zone)}"


def _date(year: int, month: str, day: str) -> date | None:
    try:
        return date(year, _NUMBER_OF.get(month.lower(), 0), int(day))
    except ValueError:
        return None


def _instant(year: int, month: str, day: str, hour: str, minute: str, second: str, zone: int) -> int | None:
    on = _date(year, month, day)
    # A leap second (60) is the first second of the next minute.
    if on is None or int(hour) > 23 or int(minute) > 59 or int(second) > 60:
        return None
    clock = int(hour) * 3600 + int(minute) * 60 + int(second)
    return (on.toordinal() - _EPOCH) * _DAY + clock - zone * 60


def _full_year(year: str) -> int:
    """RFC 5322 4.3: two digits below 50 are 20xx; two above and three digits count from 1900."""
    number = int(year)
    if len(year) == 2:
        return number + (2000 if number < 50 else 1900)
    return number + 1900 if len(year) == 3 else number


def _zone(sign: str, hours: str, minutes: str) -> int:
    size = int(hours) * 60 + int(minutes)
    return -size if sign == "-" else size


def _zone_text(zone: int) -> str:
    return f"{'-' if zone < 0 else '+'}{abs(zone) // 60:02}{abs(zone) % 60:02}"


def _local(instant: int, zone: int) -> tuple[date, str]:
    days, seconds = divmod(instant + zone * 60, _DAY)
    # Instants outside of the years 1 to 9999 cannot be written; they become the nearest day that can.
    day = date.fromordinal(min(max(_EPOCH + days, 1), date.max.toordinal()))
    return day, f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}"
