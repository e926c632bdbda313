"""Require-Recipient-Valid-Since (RFC 7293 4): RRVS where a server on the way has not known that."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping

from mailhub.message.address import Address
from mailhub.message.dates import parse_date
from mailhub.message.header import raw_fields, unfold, without_field

_NAME = b"require-recipient-valid-since"
# Field = addr-spec ";" date-time, with comments and white space around; a quoted local part may have semicolons.
_FIELD = re.compile(r'((?:"(?:[^"\\]|\\.)*"|[^";])+);(.*)')
_COMMENT = re.compile(r"\([^()]*\)")

# RFC 2142 3 to 5: mailboxes of these names are of whoever has the task, so that no date counts for them.
TASKS = frozenset(
    {
        *("info", "marketing", "sales", "support"),
        *("abuse", "noc", "security"),
        *("postmaster", "hostmaster", "usenet", "news", "webmaster", "www", "uucp", "ftp"),
    }
)


def names_owners(header: bytes) -> bool:
    """Whether there may be such a field."""
    return _NAME in header.lower()


def valid_since(header: bytes) -> Mapping[str, int]:
    """Since when which addresses (`Address.key`) are known to the sender, in seconds since the epoch. What cannot be
    read says nothing; of several dates for one address the earliest counts."""
    found: dict[str, int] = {}
    for name, octets in raw_fields(header):
        read = _read(octets) if name == _NAME else None
        if read is not None:
            key, instant = read
            found[key] = min(instant, found.get(key, instant))
    return found


def without_dates(header: bytes, named: Collection[str] | None = None) -> bytes:
    """The header without the fields of whom it names (`Address.key`); of anybody, and those that cannot be read, where
    that is None."""
    if named is None:
        return without_field(header, _NAME)
    return b"".join([octets for name, octets in raw_fields(header) if name != _NAME or not _is_of(octets, named)])


def _is_of(octets: bytes, named: Collection[str]) -> bool:
    read = _read(octets)
    return read is not None and read[0] in named


def _read(octets: bytes) -> tuple[str, int] | None:
    """Whom a field names (`Address.key`), and the date."""
    text = unfold(octets.partition(b":")[2]).decode("utf-8", "replace")
    field = _FIELD.fullmatch(_COMMENT.sub("", text))
    if field is None:
        return None
    instant = parse_date(field[2].strip())
    try:
        address = Address.parse(field[1].strip().strip("<>"))
    except ValueError:
        return None
    return None if instant is None else (address.key, instant)
