"""Dates as clients write them in SEARCH and APPEND (RFC 3501 9 date, date-time), in strict form and in looser ones.

Days and clock parts of one digit, months in full and in any case, no seconds or fractions of them, no zone (UTC) or one
by its letters, the name of the day in front, that of the zone behind: what programs send, as far as it can mean one
moment only.
"""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, timedelta, timezone

_MONTHS = (
    b"january", b"february", b"march", b"april", b"may", b"june", b"july", b"august", b"september", b"october",
    b"november", b"december",
)  # fmt: skip
_DAY = rb"[ \t]*(?:[A-Za-z]{3,9},?[ \t]+)?([0-9]{1,2})[- ]([A-Za-z]{3,9})[- ]([0-9]{4})"
_DATE = re.compile(_DAY + rb"[ \t]*")
_DATE_TIME = re.compile(
    _DAY + rb"[ \t]+([0-9]{1,2}):([0-9]{1,2})(?::([0-9]{1,2})(?:\.[0-9]{1,9})?)?"
    rb"(?:[ \t]*(?:([+-])([0-9]{2}):?([0-9]{2})|([A-Za-z]{1,3})))?[ \t]*(?:\([A-Za-z ]{0,40}\)[ \t]*)?"
)
# RFC 5322 4.3 obs-zone, in minutes east of UTC.
_ZONES = {
    b"Z": 0, b"UT": 0, b"UTC": 0, b"GMT": 0, b"EDT": -240, b"EST": -300, b"CDT": -300, b"CST": -360, b"MDT": -360,
    b"MST": -420, b"PDT": -420, b"PST": -480,
}  # fmt: skip


class NoDate(ValueError):
    """The text is for the client."""


def read_date(octets: bytes) -> date:
    """`1-Feb-1994`; a time after it says nothing. Raises NoDate."""
    match = _DATE.fullmatch(octets) or _DATE_TIME.fullmatch(octets)
    if match is None:
        raise NoDate("Expected a date such as 1-Feb-1994")
    day, month, year = match.group(1, 2, 3)
    try:
        return date(int(year), _month(month), int(day))
    except ValueError:
        raise NoDate("No such date") from None


def read_date_time(octets: bytes) -> datetime:
    """` 1-Feb-1994 21:52:25 -0800`. Raises NoDate, also for a moment that no clock of ours can tell."""
    match = _DATE_TIME.fullmatch(octets)
    if match is None:
        raise NoDate('Expected a date-time such as "01-Feb-1994 21:52:25 -0800"')
    day, month, year, hour, minute, second, sign, hours, minutes, name = match.groups()
    try:
        zone = _zone(sign, hours, minutes) if sign else _named_zone(name)
        # A leap second is written :60, which datetime does not know.
        seconds = min(int(second or b"0"), 59) if second == b"60" else int(second or b"0")
        moment = datetime(int(year), _month(month), int(day), int(hour), int(minute), seconds, tzinfo=zone)
        moment.timestamp()
    except (ValueError, OverflowError):
        raise NoDate("No such date or time") from None
    return moment


def _month(name: bytes) -> int:
    for number, full in enumerate(_MONTHS, 1):
        if full.startswith(name.lower()):
            return number
    raise ValueError("no such month")


def _zone(sign: bytes, hours: bytes, minutes: bytes) -> timezone:
    if int(minutes) > 59:
        raise ValueError("no such zone")
    offset = timedelta(hours=int(hours), minutes=int(minutes))
    return timezone(-offset if sign == b"-" else offset)


def _named_zone(name: bytes | None) -> timezone:
    if name is None:
        return UTC
    if name.upper() not in _ZONES:
        raise ValueError("no such zone")
    return timezone(timedelta(minutes=_ZONES[name.upper()]))
