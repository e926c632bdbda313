"""What methods of a store may give. Each function returns an answer that counts, or raises Nonsense."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, get_args, get_type_hints

from mailhub.message import flags as flag_names
from mailhub.message.flags import Flags
from mailhub.message.mailbox_names import is_allowed, normalise
from mailhub.message.record import (
    LAST_UID,
    Added,
    Change,
    CopyResult,
    DigestColumns,
    DigestName,
    Entry,
    Expunged,
    FlagResult,
    FlagsChanged,
    MailboxGone,
    MailboxInfo,
    MailboxStatus,
    Quota,
    Rights,
)
from mailhub.store.nonsense import Nonsense, shown

NAMES = 100_000  # of mailboxes
OCTETS = 2**63  # more than any message or account has
MODSEQ = 2**63  # RFC 7162 7: mod-sequence-value has 63 bits

_COLUMNS: Mapping[str, type] = {
    name: get_args(hint)[1] for name, hint in get_type_hints(DigestColumns).items()
}  # the type of a column's values, by its name


def nothing(given: object) -> None:
    """Of methods that promise nothing."""


def answer(given: Any) -> bool:
    """Yes or no."""
    if not isinstance(given, bool):
        raise Nonsense(f"it gave {shown(given)}, not True or False")
    return given


def number(given: object, least: int, bound: int, what: str) -> int:
    """A whole number from `least` on, below `bound`."""
    if type(given) is not int or not least <= given < bound:
        raise Nonsense(f"{what} is {shown(given)}")
    return given


def uid(given: object) -> int:
    """RFC 9051 2.3.1.1."""
    return number(given, 1, LAST_UID + 1, "a UID")


def uid_validity(given: object) -> int:
    """RFC 9051 2.3.1.1."""
    return number(given, 1, LAST_UID + 1, "uid_validity")


def _instance(given: Any, kind: type, what: str) -> Any:
    if not isinstance(given, kind):
        raise Nonsense(f"it gave {shown(given)}, not {what}")
    return given


def _sequence(given: Any, what: str) -> Sequence[Any]:
    if isinstance(given, str | bytes) or not isinstance(given, Sequence):
        raise Nonsense(f"it gave {shown(given)}, not a sequence of {what}")
    return given


def uids(given: Any) -> Sequence[int]:
    """In ascending order."""
    found = _sequence(given, "UIDs")
    before = 0
    for each in found:
        if uid(each) <= before:
            raise Nonsense(f"UID {each} comes after {before}")
        before = each
    return found


def flags(given: Any) -> Flags:
    """System flags and keywords (RFC 9051 2.3.2)."""
    if not isinstance(given, frozenset):
        raise Nonsense(f"flags are {shown(given)}, not a frozenset")
    for flag in given:
        try:
            flag_names.parse(flag)
        except (ValueError, TypeError, AttributeError):
            raise Nonsense(f"{shown(flag)} is no flag") from None
    return given


def entries(given: Any) -> Sequence[Entry]:
    """In UID order."""
    found = _sequence(given, "entries")
    before = 0
    for each in found:
        if not isinstance(each, Entry):
            raise Nonsense(f"{shown(each)} is no Entry")
        if uid(each.uid) <= before:
            raise Nonsense(f"UID {each.uid} comes after {before}")
        before = each.uid
        number(each.modseq, 1, MODSEQ, f"modseq of {before}")
        number(each.size, 0, OCTETS, f"size of {before}")
        number(each.internal_date, -OCTETS, OCTETS, f"internal_date of {before}")
        number(each.growth, 0, OCTETS, f"growth of {before}")
    for different in {_hashed(each.flags) for each in found}:
        flags(different)
    return found


def _hashed(given: Any) -> Any:
    """What is no frozenset might have no hash, and is named by `flags` then."""
    return given if isinstance(given, frozenset) else flags(given)


def rights(given: Any) -> Rights:
    """Letters of RFC 4314."""
    if not isinstance(given, str | frozenset | set) or not all(isinstance(each, str) for each in given):
        raise Nonsense(f"rights are {shown(given)}, no letters")
    return frozenset(given)


def status(given: Any) -> MailboxStatus:
    """Counters."""
    found: MailboxStatus = _instance(given, MailboxStatus, "a MailboxStatus")
    for name, least, bound in (
        ("messages", 0, LAST_UID),
        ("unseen", 0, LAST_UID),
        ("size", 0, OCTETS),
        ("uid_next", 1, LAST_UID + 2),
        ("uid_validity", 1, LAST_UID + 1),
        ("highest_modseq", 0, MODSEQ),
    ):
        number(getattr(found, name), least, bound, name)
    return found


def quota(given: Any) -> Quota:
    """Use and limit."""
    found: Quota = _instance(given, Quota, "a Quota")
    for name in ("used", "limit", "messages"):
        number(getattr(found, name), 0, OCTETS, name)
    return found


def names(given: Any) -> Sequence[str]:
    """Of mailboxes. Those that could not be made are left out: nobody could select them."""
    found = _bounded(given, "names")
    for each in found:
        if not isinstance(each, str):
            raise Nonsense(f"{shown(each)} is no name")
    return [each for each in found if is_allowed(each)]


def mailboxes(given: Any) -> Sequence[MailboxInfo]:
    """As `names`."""
    found = _bounded(given, "MailboxInfo")
    for each in found:
        if not isinstance(each, MailboxInfo):
            raise Nonsense(f"{shown(each)} is no MailboxInfo")
        if not isinstance(each.name, str) or not isinstance(each.special_use, str):
            raise Nonsense(f"{shown(each)} has parts that are no text")
        if each.special_use and not (each.special_use.isascii() and each.special_use.lstrip("\\").isalnum()):
            raise Nonsense(f"{shown(each.special_use)} is no special use")
    return [each for each in found if normalise(each.name) == each.name and is_allowed(each.name)]


def _bounded(given: Any, what: str) -> Sequence[Any]:
    found = _sequence(given, what)
    if len(found) > NAMES:
        raise Nonsense(f"it gave {len(found)} {what}, and {NAMES} are allowed")
    return found


def digests(asked: Collection[int], wanted: Collection[DigestName]) -> Callable[[Any], DigestColumns]:
    """The columns that were asked for, of no other messages."""

    def looked_at(given: Any) -> DigestColumns:
        found = _instance(given, Mapping, "columns by name")
        known = frozenset(asked)
        made: dict[str, Mapping[int, object]] = {}
        for name in wanted:
            column, kind = _instance(found.get(name), Mapping, f"a column {name!r} by UID"), _COLUMNS[name]
            for each, value in column.items():
                if type(value) is not kind or (isinstance(value, int) and value < 0):
                    raise Nonsense(f"{name} of {shown(each)} is {shown(value)}")
            made[name] = column if column.keys() <= known else {one: column[one] for one in known & column.keys()}
        return made  # type: ignore[return-value]

    return looked_at


def bodies(asked: Collection[int]) -> Callable[[Any], Mapping[int, bytes]]:
    """Octets, of no other messages."""

    def looked_at(given: Any) -> Mapping[int, bytes]:
        found = _instance(given, Mapping, "octets by UID")
        known = frozenset(asked)
        for each, octets in found.items():
            if type(octets) is not bytes:
                raise Nonsense(f"the octets of {shown(each)} are {shown(octets)}")
        return {each: octets for each, octets in found.items() if each in known}

    return looked_at


def unique_ids(given: Any) -> Mapping[int, str]:
    """Text by UID; POP3 takes those that it can write."""
    found: Mapping[int, str] = _instance(given, Mapping, "unique-ids by UID")
    for each, own in found.items():
        if type(own) is not str:
            raise Nonsense(f"the unique-id of {shown(each)} is {shown(own)}")
    return found


def flag_result(given: Any) -> FlagResult:
    """Rows, and those that were not changed."""
    found: FlagResult = _instance(given, FlagResult, "a FlagResult")
    return FlagResult(tuple(entries(found.changed)), tuple(uids(found.failed)))


def copy_result(asked: Collection[int]) -> Callable[[Any], CopyResult]:
    """What became of the messages, of which others cannot be."""

    def looked_at(given: Any) -> CopyResult:
        found: CopyResult = _instance(given, CopyResult, "a CopyResult")
        uid_validity(found.uid_validity)
        source, target = tuple(map(uid, _sequence(found.source, "UIDs"))), tuple(map(uid, found.target))
        if len(source) != len(target) or not frozenset(asked) >= set(source):
            raise Nonsense(f"{shown(source)} cannot have become {shown(target)}")
        return CopyResult(found.uid_validity, source, target)

    return looked_at


def change(given: Any) -> Change:
    """What is announced."""
    match given:
        case MailboxGone():
            return given
        case Expunged():
            number(given.modseq, 1, MODSEQ, "modseq")
            if uids(given.uids):
                return given
        case Added() | FlagsChanged():
            if entries(given.entries):
                return given
    raise Nonsense(f"it announced {shown(given)}")
