"""What a store says about its mailboxes and messages: plain values that cross floors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple, TypedDict

import attrs

from mailhub.message.flags import DELETED, SEEN, Flags, difference, union

# What may be done with a mailbox: letters of RFC 4314 2.1 (`r` read, `s` \Seen, `w` other flags, `t` \Deleted,
# `e` expunge, `i` add messages).
Rights = frozenset[str]
ALL_RIGHTS: Rights = frozenset("lrswipkxtea")
READ_ONLY: Rights = frozenset("lr")
WRITING: Rights = frozenset("swtie")  # without any of these a mailbox is read-only (RFC 4314 4)
_RIGHT_FOR = {SEEN: "s", DELETED: "t"}


def storable(flags: Flags, rights: Rights) -> Flags:
    """Those of `flags` that these rights let be set and taken off."""
    if rights >= _ALL_FLAGS:
        return flags
    return frozenset(flag for flag in flags if _RIGHT_FOR.get(flag, "w") in rights)


_ALL_FLAGS: Rights = frozenset("swt")

LAST_UID = 2**32 - 1  # a unique identifier has 32 bits (RFC 9051 2.3.1.1)


class Entry(NamedTuple):
    """The index row of one message, kept in memory. `size` in octets; `internal_date` in seconds since the epoch.

    `growth`: octets that come to it where each line has to end in CRLF (`line_ends.growth`), 0 where it is not known.
    """

    uid: int
    flags: Flags
    modseq: int
    size: int
    internal_date: int
    growth: int = 0


@attrs.frozen
class MailboxInfo:
    """One line of LIST. `special_use` is "" or an RFC 6154 attribute such as `\\\\Sent`."""

    name: str
    special_use: str = ""


@attrs.frozen
class MailboxStatus:
    """The counters of a mailbox (RFC 9051 7.3.4). `size` in octets; `uid_next` is a promise: no later UID is lower."""

    messages: int
    unseen: int
    size: int
    uid_next: int
    uid_validity: int
    highest_modseq: int


@attrs.frozen
class Quota:
    """Capacity of an account. `limit` in octets, 0 for none."""

    used: int
    limit: int
    messages: int


FlagMode = Literal["add", "remove", "replace"]


@attrs.frozen
class FlagChange:
    """STORE: what to do with `flags`; the case of keywords does not matter."""

    mode: FlagMode
    flags: Flags

    def apply(self, old: Flags) -> Flags:
        """The flags a message has afterwards."""
        if self.mode == "add":
            return union(old, self.flags)
        if self.mode == "remove":
            return difference(old, self.flags)
        return self.flags


@attrs.frozen
class FlagResult:
    """`changed`: the new rows of all messages whose flags differ now.

    `failed`: UIDs that changed after `unchanged_since` (RFC 7162 3.1.3).
    """

    changed: tuple[Entry, ...]
    failed: tuple[int, ...] = ()


@attrs.frozen
class CopyResult:
    """COPYUID (RFC 4315 3): `source[i]` became `target[i]`. UIDs that are gone are left out."""

    uid_validity: int
    source: tuple[int, ...]
    target: tuple[int, ...]


# Changes are hints: they tell watchers at once what is new, and who holds rows whether something before it was missed.
# `previous` is the mailbox's mod-sequence before the change; None stands for the one before its own.


@attrs.frozen
class Added:
    """New messages, in UID order."""

    entries: tuple[Entry, ...]
    previous: int | None = attrs.field(default=None, eq=False)

    @property
    def modseq(self) -> int:
        """The mailbox's mod-sequence after it."""
        return self.entries[-1].modseq


@attrs.frozen
class FlagsChanged:
    """Rows as they are now."""

    entries: tuple[Entry, ...]
    previous: int | None = attrs.field(default=None, eq=False)

    @property
    def modseq(self) -> int:
        """The mailbox's mod-sequence after it."""
        return self.entries[-1].modseq


@attrs.frozen
class Expunged:
    """Messages that are gone, in UID order, and the mod-sequence of their going."""

    uids: tuple[int, ...]
    modseq: int
    previous: int | None = attrs.field(default=None, eq=False)


@attrs.frozen
class MailboxGone:
    """The mailbox itself was deleted (by another session or the operator)."""


@attrs.frozen
class News:
    """What happened to a mailbox after some mod-sequence, read in one snapshot: the rows changed since then, the UIDs
    expunged since then, both in UID order, and the highest mod-sequence."""

    entries: Sequence[Entry]
    vanished: Sequence[int]
    modseq: int


Change = Added | FlagsChanged | Expunged | MailboxGone


@attrs.frozen
class Digest:
    """What the store keeps with a message.

    `size` and `header_size` in octets (the empty line is part of the header). `envelope` and `bodystructure` are
    IMAP octets (see structure.without_extensions for BODY). `parts` is the tree (mime.decode). `fields` are the raw
    digest.USUAL_FIELDS in the order of the message. `sent` is the Date in seconds since the epoch, 0 when unknown.
    `subject` is decoded; `sender` is the first From address; `message_id` has its angle brackets. Of a longer subject
    the beginning is kept, of the other two nothing. `growth` is line_ends.growth.
    """

    size: int
    header_size: int
    envelope: bytes
    bodystructure: bytes
    parts: bytes
    fields: bytes
    sent: int
    subject: str
    sender: str
    message_id: str
    preview: str
    growth: int = 0


DigestName = Literal[
    "size", "header_size", "envelope", "bodystructure", "parts", "fields", "sent", "subject", "sender", "message_id",
    "preview",
]  # fmt: skip


class DigestColumns(TypedDict, total=False):
    """Some attributes of the digests of several messages, each of them by UID."""

    size: Mapping[int, int]
    header_size: Mapping[int, int]
    envelope: Mapping[int, bytes]
    bodystructure: Mapping[int, bytes]
    parts: Mapping[int, bytes]
    fields: Mapping[int, bytes]
    sent: Mapping[int, int]
    subject: Mapping[int, str]
    sender: Mapping[int, str]
    message_id: Mapping[int, str]
    preview: Mapping[int, str]
