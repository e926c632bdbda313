"""Dates of mail: header fields (RFC 5322 3.3 and 4.3), and what IMAP shows (RFC 3501 9 date-time).

An instant is seconds since the epoch; a zone is minutes east of UTC.
"""

from __future__ import annotations

import re
from datetime import date
from functools import lru_cache

_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_EPOCH = date(1970, 1, 1).toordinal()
_DAY = 86400  # seconds

_NUMBER_OF = {name.lower(): number for number, name in enumerate(_MONTHS, 1)}
# Months by their first letters, as clients write them that speak the user's language into Date.
_NUMBER_OF |= {
    "jän": 1, "ene": 1, "gen": 1, "fév": 2, "fev": 2, "mär": 3, "mrz": 3, "mrt": 3, "maa": 3, "avr": 4, "abr": 4,
    "mai": 5, "mei": 5, "mag": 5, "maj": 5, "giu": 6, "lug": 7, "aoû": 8, "aou": 8, "ago": 8, "set": 9, "okt": 10,
    "ott": 10, "out": 10, "dez": 12, "dic": 12, "déc": 12,
}  # fmt: skip

# Zones by their names: RFC 5322 4.3, and those of a meaning only. The letters of the military zones say nothing
# reliable (RFC 5322 4.3), and so do names that several zones share: they mean UTC, as no zone does.
_ZONES = {
    "edt": -240, "est": -300, "cdt": -300, "cst": -360, "mdt": -360, "mst": -420, "pdt": -420, "pst": -480,
    "akdt": -480, "akst": -540, "hst": -600, "wet": 0, "west": 60, "cet": 60, "mez": 60, "cest": 120, "mesz": 120,
    "eet": 120, "eest": 180, "msk": 180, "jst": 540, "kst": 540, "aest": 600, "aedt": 660, "nzst": 720, "nzdt": 780,
    "eastern standard time": -300, "eastern daylight time": -240, "central standard time": -360,
    "central daylight time": -300, "mountain standard time": -420, "mountain daylight time": -360,
    "pacific standard time": -480, "pacific daylight time": -420,
}  # fmt: skip

_CLOCK = r"(\d{1,2})\s*[:.]\s*(\d{1,2})(?:\s*[:.]\s*(\d{1,2}))?(?:[.,]\d{1,9})?(?:\s*([AaPp])\.?[Mm]\b\.?)?"
_ZONE = r"\s*(?:(?:GMT|UTC?)?\s*([+-])\s*(\d{1,2}):?(\d{2})?(?!\d)|((?=[^\W\d_])[^\d+:-]{1,40}))?"
# What nearly all mail has.
_WELL_FORMED = re.compile(
    r"(?a)(?:[A-Z][a-z][a-z], )?(\d\d? [A-Z][a-z][a-z] \d\d\d\d) (\d\d):(\d\d):(\d\d) ([+-])(\d\d)(\d\d)(?!\d)"
)
# RFC 5322 3.3, where no space is needed before the day; with what is often sent besides: no clock, no seconds, full
# month names, dots or hyphens, no zone.
_DATE_TIME = re.compile(
    r"(?a:\s*(?:[^\s\d,]{1,20}\s*,?\s*)?(\d{1,2})(?:st|nd|rd|th)?[\s.,-]*)([^\W\d_]{3})[^\W\d_]{0,9}"
    rf"(?ai:[\s.,-]*(\d{{2,4}})(?!\d)(?:[\s,]*(?:at\b|T)?\s*{_CLOCK}{_ZONE})?)"
)
# C's asctime, which some programs write into Date: Mon Nov 23 06:30:00 2026, with or without a zone before the year.
_MONTH_WORD = r"(?a:\s*(?:[A-Za-z]{3,9}[\s,]\s*)?)([^\W\d_]{3})[^\W\d_]{0,9}"
_ASCTIME = re.compile(
    rf"{_MONTH_WORD}(?ai:\.?\s+(\d{{1,2}}),?\s+{_CLOCK}(?:\s+([+-])(\d{{2}})(\d{{2}})|\s+([A-Z]{{1,5}}))?\s+(\d{{4}})(?!\d))"
)
# July 17, 2002 3:41 PM
_MONTH_FIRST = re.compile(
    rf"{_MONTH_WORD}(?ai:\.?\s+(\d{{1,2}})(?:st|nd|rd|th)?[\s,]+(\d{{4}})(?!\d)(?:[\s,]*(?:at\b)?\s*{_CLOCK}{_ZONE})?)"
)
# ISO 8601, which can mean nothing else.
_ISO = re.compile(rf"(?ai)\s*(\d{{4}})-(\d{{2}})-(\d{{2}})(?:(?:T|\s+){_CLOCK}{_ZONE})?")
_LONGEST = 200  # characters of a field that are looked at
_IN_COMMENT = re.compile(r"[()]|\\.")


def parse_date(text: str) -> int | None:
    """The instant of an unfolded Date field; None for what is no date. A date without a clock is its midnight."""
    found = _read(text)
    return None if found is None else found[0] - found[1] * 60


def written_day(text: str) -> date | None:
    """The day that stands in an unfolded Date field, whatever its zone (RFC 3501 6.4.4 SENTON)."""
    found = _read(text)
    return None if found is None else date.fromordinal(_EPOCH + found[0] // _DAY)


def _read(text: str) -> tuple[int, int] | None:
    """What the clock on the sender's wall said, in seconds, and the zone it hangs in."""
    text = text[:_LONGEST].lstrip(" \t,")
    if match := _WELL_FORMED.match(text):
        day, hour, minute, second, sign, hours, minutes = match.groups()
        midnight = _midnight(day)
        clock = _clock(int(hour), int(minute), int(second))
        if midnight is None or clock is None:
            return None
        offset = int(hours) * 60 + int(minutes)
        return midnight + clock, -offset if sign == "-" else offset
    if "(" in text:
        text = _without_comments(text)
    if match := _DATE_TIME.match(text):
        day, month, year, hour, minute, second, half, *zone = match.groups()
        return _wall(_full_year(year), _month(month), day, (hour, minute, second, half), _zone(*zone))
    if match := _ASCTIME.match(text):
        month, day, hour, minute, second, half, *zone, year = match.groups()
        return _wall(int(year), _month(month), day, (hour, minute, second, half), _zone(*zone))
    if match := _MONTH_FIRST.match(text):
        month, day, year, hour, minute, second, half, *zone = match.groups()
        return _wall(int(year), _month(month), day, (hour, minute, second, half), _zone(*zone))
    if match := _ISO.match(text):
        year, month, day, hour, minute, second, half, *zone = match.groups()
        return _wall(int(year), int(month), day, (hour, minute, second, half), _zone(*zone))
    return None


def _without_comments(text: str) -> str:
    """RFC 5322 3.2.2: a comment may stand wherever white space may."""
    kept = ""
    depth = position = 0
    for match in _IN_COMMENT.finditer(text):
        if not depth:
            kept += text[position : match.start()]
        position = match.end()
        if match[0] == "(":
            depth += 1
            kept += " "
        elif match[0] == ")" and depth:
            depth -= 1
    return kept if depth else kept + text[position:]


@lru_cache(maxsize=16)  # a busy server writes the same second into many messages
def format_date(instant: int, zone: int = 0) -> str:
    """RFC 5322 3.3 date-time: `Mon, 23 Nov 2026 06:30:00 +0000`."""
    day, clock = _local(instant, zone)
    return f"{_DAYS[day.weekday()]}, {day.day} {_MONTHS[day.month - 1]} {day.year:04} {clock} {_zone_text(zone)}"


def format_imap(instant: int, zone: int = 0) -> str:
    """INTERNALDATE without its quotes: ` 3-Nov-2026 06:30:00 +0000` (the day has two places)."""
    day, clock = _local(instant, zone)
    return f"{day.day:2}-{_MONTHS[day.month - 1]}-{day.year:04} {clock} {_zone_text(zone)}"


@lru_cache(maxsize=64)  # most mail is of today
def _midnight(day: str) -> int | None:
    """When a day like `23 Nov 2026` begins."""
    number, month, year = day.split(" ")
    return _day(int(year), _month(month), int(number))


def _month(name: str) -> int:
    return _NUMBER_OF.get(name.lower(), 0)


def _wall(
    year: int, month: int, day: str, clock: tuple[str | None, str | None, str | None, str | None], zone: int
) -> tuple[int, int] | None:
    hour, minute, second = [int(part or 0) for part in clock[:3]]
    if clock[3]:  # a clock of twelve hours
        if not 1 <= hour <= 12:
            return None
        hour = hour % 12 + (12 if clock[3] in "Pp" else 0)
    midnight = _day(year, month, int(day))
    seconds = _clock(hour, minute, second)
    return None if midnight is None or seconds is None else (midnight + seconds, zone)


def _day(year: int, month: int, day: int) -> int | None:
    try:
        return (date(year, month, day).toordinal() - _EPOCH) * _DAY
    except ValueError:
        return None


def _clock(hour: int, minute: int, second: int) -> int | None:
    """A leap second (60) is the first second of the next minute."""
    if hour > 23 or minute > 59 or second > 60:
        return None
    return hour * 3600 + minute * 60 + second


def _full_year(year: str) -> int:
    """RFC 5322 4.3: two digits below 50 are 20xx; two above and three digits count from 1900."""
    number = int(year)
    if len(year) == 2:
        return number + (2000 if number < 50 else 1900)
    return number + 1900 if len(year) == 3 else number


def _zone(sign: str | None, hours: str | None, minutes: str | None, name: str | None = None) -> int:
    if not sign:
        return _ZONES.get(" ".join((name or "").lower().split()), 0)
    size = int(hours or 0) * 60 + int(minutes or 0)
    return -size if sign == "-" else size


def _zone_text(zone: int) -> str:
    return f"{'-' if zone < 0 else '+'}{abs(zone) // 60:02}{abs(zone) % 60:02}"


def _local(instant: int, zone: int) -> tuple[date, str]:
    days, seconds = divmod(instant + zone * 60, _DAY)
    # Instants outside of the years 1 to 9999 cannot be written; they become the nearest day that can.
    day = date.fromordinal(min(max(_EPOCH + days, 1), date.max.toordinal()))
    return day, f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}"
