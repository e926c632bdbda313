"""Require-Recipient-Valid-Since (RFC 7293 4): RRVS where a server on the way has not known that."""

from __future__ import annotations

import re
from collections.abc import Mapping

from mailhub.message.address import Address
from mailhub.message.dates import parse_date
from mailhub.message.header import raw_fields, unfold

_NAME = b"require-recipient-valid-since"
# Field = addr-spec ";" date-time, with comments and white space around; a quoted local part may have semicolons.
_FIELD = re.compile(r'((?:"(?:[^"\\]|\\.)*"|[^";])+);(.*)')
_COMMENT = re.compile(r"\([^()]*\)")


def names_owners(header: bytes) -> bool:
    """Whether there may be such a field."""
    return _NAME in header.lower()


def valid_since(header: bytes) -> Mapping[str, int]:
    """Since when which addresses (`Address.key`) are known to the sender, in seconds since the epoch. What cannot be
    read says nothing; of several dates for one address the earliest counts."""
    found: dict[str, int] = {}
    for name, octets in raw_fields(header):
        if name != _NAME:
            continue
        text = unfold(octets.partition(b":")[2]).decode("utf-8", "replace")
        field = _FIELD.fullmatch(_COMMENT.sub("", text))
        if field is None:
            continue
        instant = parse_date(field[2].strip())
        try:
            address = Address.parse(field[1].strip().strip("<>"))
        except ValueError:
            continue
        if instant is not None:
            found[address.key] = min(instant, found.get(address.key, instant))
    return found
