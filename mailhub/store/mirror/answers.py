"""What methods of a `SimpleStore` may give: looked at before it counts, for it is written by somebody in a hurry."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime
from itertools import islice
from math import isfinite
from typing import Any, NamedTuple

from mailhub.message import flags as flag_names
from mailhub.message.address import Address
from mailhub.message.flags import RECENT, Flags
from mailhub.message.mailbox_names import is_allowed, normalise
from mailhub.store.mirror.source import Key, Listed
from mailhub.store.nonsense import Nonsense, listed, shown

MESSAGES = 1_000_000  # in a folder, and
USERS = 1_000_000  # of a store: more is taken for a list without end
KEY_LENGTH = 1000  # characters
_LAST_DATE = 253_402_300_800  # seconds: with the year 10000 dates cannot be written any more (RFC 5322 3.3)
_INTEGER = 1 << 63

Say = Callable[[str], object]
"""Names what is wrong with a part of an answer, of which the rest is good."""


class Message(NamedTuple):
    """What `SimpleStore.messages` may give in the place of a key, where more is known at once.

    `key`: what the message is read by, the same for good, and never another message's. `flags`: those that it has,
    such as {"\\\\Seen"}; None where the store does not keep them. `date`: when it came (INTERNALDATE), in seconds since
    the epoch or a datetime with its time zone; where there is none, the message's own Date counts. `size` in octets,
    exactly those of what `read` gives: with it a folder can be listed before its messages are read.
    """

    key: Key
    flags: Iterable[str] | None = None
    date: float | datetime | None = None
    size: int | None = None


def users(given: Any, say: Say) -> dict[str, str]:
    """Canonical addresses, and how the store writes each."""
    found: dict[str, str] = {}
    for each in listed(given, USERS):
        try:
            found.setdefault(Address.parse(each).key, each)
        except (ValueError, TypeError, AttributeError):
            say(f"{shown(each)} is no address")
    return found


def folders(given: Any, limit: int, say: Say) -> dict[str, str]:
    """Names as they are here, and how the store writes each. What cannot be a mailbox's name is left out."""
    found: dict[str, str] = {}
    for each in listed(given, limit):
        name = normalise(each) if isinstance(each, str) else ""
        if not name or not is_allowed(name):
            say(f"{shown(each)} cannot be the name of a folder")
        elif name in found:
            say(f"{shown(each)} and {shown(found[name])} are one folder")
        else:
            found[name] = each
    return found


def key(given: Any) -> Key | None:
    """A key, or None for what is none."""
    if isinstance(given, str):
        return str(given) if 0 < len(given) <= KEY_LENGTH else None
    if isinstance(given, int) and not isinstance(given, bool) and -_INTEGER <= given < _INTEGER:
        return int(given)
    return None


class Listing(NamedTuple):
    """What was made of an answer of `messages`. `raw` is kept where it is made of things that do not change."""

    raw: list[Any] | None
    messages: tuple[Listed, ...]


def messages(given: Any, size_limit: int, say: Say, before: Listing | None = None) -> Listing:
    """The messages of a folder; `before` itself when nothing is new."""
    raw = listed(given, MESSAGES)
    if before is not None and raw == before.raw:
        return before
    found: dict[Key, Listed] = {}
    lasting = True
    for each in raw:
        message = each if isinstance(each, Message) else Message(each)
        known = key(message.key)
        if known is None:
            say(f"{shown(message.key)} is no key, which is a str or an int, not empty and not too long")
            continue
        if known in found:
            say(f"{shown(known)} is listed twice")
            continue
        lasting = lasting and isinstance(message.flags, frozenset | None)
        size = _size(message, say)
        if size is not None and size > size_limit:
            say(f"{shown(known)} has {size} octets, and {size_limit} are allowed (limits.message_size_bytes)")
            continue
        found[known] = Listed(known, _flags(message, say), _date(message, say), size)
    return Listing(raw if lasting else None, tuple(found.values()))


def _flags(message: Message, say: Say) -> Flags | None:
    given = message.flags
    if given is None:
        return None
    if isinstance(given, str) or not hasattr(given, "__iter__"):
        say(f"flags of {shown(message.key)} are {shown(given)}, no set")
        return None
    found = []
    for flag in islice(given, 1000):
        try:
            found.append(flag_names.parse(flag))
        except (ValueError, AttributeError, TypeError):
            if flag != RECENT:
                say(f"{shown(flag)} of {shown(message.key)} is no flag")
    return flag_names.each_once(found)


def _date(message: Message, say: Say) -> int | None:
    given = message.date
    if given is None:
        return None
    try:
        if isinstance(given, datetime):
            seconds = given.timestamp() if given.utcoffset() is not None else None
        else:
            seconds = given if isinstance(given, int | float) and not isinstance(given, bool) else None
        if seconds is not None and isfinite(seconds) and 0 <= seconds < _LAST_DATE:
            return int(seconds)
    except (ValueError, OverflowError):
        pass
    say(f"the date of {shown(message.key)}, {shown(given)}, is neither seconds since 1970 nor has it a time zone")
    return None


def _size(message: Message, say: Say) -> int | None:
    given = message.size
    if given is None or (isinstance(given, int) and not isinstance(given, bool) and given >= 0):
        return given
    say(f"the size of {shown(message.key)} is {shown(given)}")
    return None


def octets(given: Any, size_limit: int) -> bytes:
    """A message. Raises Nonsense."""
    if not isinstance(given, bytes | bytearray | memoryview):
        raise Nonsense(f"gave {shown(given)}, not bytes")
    if len(given) > size_limit:
        raise Nonsense(f"gave {len(given)} octets, and {size_limit} are allowed (limits.message_size_bytes)")
    return bytes(given)


def quota(given: Any) -> int:
    """Octets. Raises Nonsense."""
    if given is None:
        return 0
    if not isinstance(given, int) or isinstance(given, bool) or given < 0:
        raise Nonsense(f"gave {shown(given)}, not a number of octets")
    return given
