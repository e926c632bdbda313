"""What an IMAP client may say, as values: a class a command, the items of FETCH, the keys of SEARCH, other events.

`Command` subclasses carry the client's tag and wait for a tagged answer (`machine.ok`, `no` or `bad`, or what the
class says). The other events (`BodyChunk`, `IdleDone`, ...) say themselves whether anything is owed. Mailbox names
are decoded (RFC 3501 5.1.3), INBOX in capitals, a last "/" removed; a name that cannot be decoded is empty, which
no mailbox's is. Chapters are RFC 3501's unless another one is named.
"""

from __future__ import annotations

from datetime import date, datetime
from enum import Enum
from typing import Literal

import attrs

from mailhub.credentials import PlainCredentials
from mailhub.message.flags import Flags
from mailhub.wire.imap.sets import SequenceSet


@attrs.frozen
class Command:
    """A complete command in a state that allows it. The machine gives no further command before it is answered."""

    tag: str


# --- any state (6.1) -------------------------------------------------------------------------------------------------
# CAPABILITY and ENABLE the machine answers alone.


@attrs.frozen
class Noop(Command):
    """NOOP (6.1.2): a chance to send untagged responses; `ok`."""


@attrs.frozen
class Logout(Command):
    """LOGOUT (6.1.3): answer with `machine.ok(tag)`, which puts BYE in front and closes."""


# --- not authenticated (6.2) -----------------------------------------------------------------------------------------


@attrs.frozen
class StartTls(Command):
    """STARTTLS (6.2.1): `ok` writes the last plaintext reply; then flush, start TLS, `machine.tls_started()`.

    `no` refuses.
    """


@attrs.frozen
class Login(Command):
    """LOGIN (6.2.3), or a finished AUTHENTICATE (6.2.2). `ok` enters the authenticated state, with a CAPABILITY code.

    `mechanism` is "LOGIN" for the command, else "SASL " and the mechanism's name.
    """

    credentials: PlainCredentials
    mechanism: str = "LOGIN"


# --- authenticated (6.3) ---------------------------------------------------------------------------------------------


@attrs.frozen
class Select(Command):
    """SELECT (6.3.1) and EXAMINE (6.3.2, `read_only`). `ok` enters the selected state; `no` leaves none selected.

    A mailbox selected before is to be given up first, whatever comes of this one.
    """

    mailbox: str
    read_only: bool


@attrs.frozen
class Create(Command):
    """CREATE (6.3.3); the name obeys `mailbox_names.check`.

    `special_use`: attributes of RFC 6154 2 such as `\\Sent`, written as in that RFC.
    """

    mailbox: str
    special_use: frozenset[str] = frozenset()


@attrs.frozen
class Delete(Command):
    """DELETE (6.3.4)."""

    mailbox: str


@attrs.frozen
class Rename(Command):
    """RENAME (6.3.5); the new name obeys `mailbox_names.check`. INBOX stays, empty: its messages move."""

    mailbox: str
    new_name: str


@attrs.frozen
class Subscribe(Command):
    """SUBSCRIBE (6.3.6); the name obeys `mailbox_names.check`."""

    mailbox: str


@attrs.frozen
class Unsubscribe(Command):
    """UNSUBSCRIBE (6.3.7)."""

    mailbox: str


ListSelection = Literal["SUBSCRIBED", "REMOTE", "RECURSIVEMATCH", "SPECIAL-USE"]
ListReturn = Literal["SUBSCRIBED", "CHILDREN", "SPECIAL-USE"]


@attrs.frozen
class List(Command):
    """LIST (6.3.8; selection and return options of RFC 5258 and RFC 6154).

    Patterns that no name can match, since they are in no modified UTF-7, are left out: there may be none.
    `reference` and `patterns` are decoded; match with `names.Pattern(reference, patterns)`. `extended` is true if the
    command used the syntax of RFC 5258. One empty pattern asks for the delimiter and the root of `reference`.
    """

    reference: str
    patterns: tuple[str, ...]
    selection: frozenset[ListSelection] = frozenset()
    returns: frozenset[ListReturn] = frozenset()
    extended: bool = False


@attrs.frozen
class Lsub(Command):
    """LSUB (6.3.9). `pattern` is None where no name can match it."""

    reference: str
    pattern: str | None


StatusItem = Literal["MESSAGES", "RECENT", "UIDNEXT", "UIDVALIDITY", "UNSEEN"]


@attrs.frozen
class Status(Command):
    """STATUS (6.3.10); `items` in the client's order, each once."""

    mailbox: str
    items: tuple[StatusItem, ...]


@attrs.frozen
class Append(Command):
    """APPEND (6.3.11) up to its literal: `machine.accept_append()` or `no`, before any octet of the message is read.

    After acceptance come `BodyChunk`s and then `AppendEnd`, which `ok`/`no` answers, or `AppendAborted`. `no` is also
    allowed between two chunks: the rest is then discarded. `size` in octets. Without a date `internal_date` is None.
    """

    mailbox: str
    flags: Flags
    internal_date: datetime | None
    size: int


@attrs.frozen
class Namespace(Command):
    """NAMESPACE (RFC 2342)."""


@attrs.frozen
class Idle(Command):
    """IDLE (RFC 2177), `+ idling` is already written. Nothing to answer now: `untagged` at will until `IdleDone`.

    The tagged answer is owed for `IdleDone`.
    """


# --- selected (6.4) --------------------------------------------------------------------------------------------------


@attrs.frozen
class Check(Command):
    """CHECK (6.4.1)."""


@attrs.frozen
class Close(Command):
    """CLOSE (6.4.2): expunges silently (not if read-only); `ok` enters the authenticated state."""


@attrs.frozen
class Unselect(Command):
    """UNSELECT (RFC 3691): CLOSE without expunging."""


@attrs.frozen
class Expunge(Command):
    """EXPUNGE (6.4.3), or UID EXPUNGE (RFC 4315 2.1) with `uids`."""

    uids: SequenceSet | None = None


@attrs.frozen
class Search(Command):
    """SEARCH and UID SEARCH (6.4.4). The key is bounded in size and depth; its texts are decoded from the charset."""

    uid: bool
    key: SearchKey


@attrs.frozen
class Fetch(Command):
    """FETCH and UID FETCH (6.4.5).

    Macros are expanded, every item stands once, and with `uid` the item UID is always among them.
    """

    uid: bool
    numbers: SequenceSet
    items: tuple[FetchItem, ...]


class StoreMode(Enum):
    """What STORE does with its flags (6.4.6)."""

    REPLACE = "FLAGS"
    ADD = "+FLAGS"
    REMOVE = "-FLAGS"


@attrs.frozen
class Store(Command):
    """STORE and UID STORE (6.4.6). With `uid` the untagged FETCH responses carry the UID."""

    uid: bool
    numbers: SequenceSet
    mode: StoreMode
    silent: bool
    flags: Flags


@attrs.frozen
class Copy(Command):
    """COPY and UID COPY (6.4.7)."""

    uid: bool
    numbers: SequenceSet
    mailbox: str


@attrs.frozen
class Move(Command):
    """MOVE and UID MOVE (RFC 6851)."""

    uid: bool
    numbers: SequenceSet
    mailbox: str


# --- items of FETCH --------------------------------------------------------------------------------------------------


class FetchAttribute(Enum):
    """The items of FETCH that are one word. The value is the label of the response."""

    FLAGS = b"FLAGS"
    UID = b"UID"
    INTERNALDATE = b"INTERNALDATE"
    RFC822_SIZE = b"RFC822.SIZE"
    ENVELOPE = b"ENVELOPE"
    BODY = b"BODY"
    BODYSTRUCTURE = b"BODYSTRUCTURE"


SectionText = Literal["", "HEADER", "HEADER.FIELDS", "HEADER.FIELDS.NOT", "TEXT", "MIME"]


@attrs.frozen
class Section:
    """`BODY[...]`, `BODY.PEEK[...]`, `RFC822`, `RFC822.HEADER` or `RFC822.TEXT`.

    `path` are the part numbers, empty for the whole message; `text` is empty for the whole of the part. `fields` are
    lower case. `partial` is offset and count in octets. `label` stands in front of the value in the response, complete:
    `BODY[1.MIME]<0>`. Unless `peek`, \\Seen is set.
    """

    path: tuple[int, ...]
    text: SectionText
    label: bytes
    fields: tuple[bytes, ...] = ()
    peek: bool = False
    partial: tuple[int, int] | None = None


FetchItem = FetchAttribute | Section


# --- keys of SEARCH --------------------------------------------------------------------------------------------------


@attrs.frozen
class All:
    """ALL: every message."""


@attrs.frozen
class HasFlag:
    """ANSWERED, DELETED, DRAFT, FLAGGED, SEEN, KEYWORD. UNSEEN and its like are `Not(HasFlag(...))`."""

    flag: str


@attrs.frozen
class IsRecent:
    """RECENT. NEW is `And(IsRecent, Not(HasFlag(\\Seen)))`, OLD is `Not(IsRecent)`."""


@attrs.frozen
class EnvelopeContains:
    """FROM, TO, CC, BCC, SUBJECT: what ENVELOPE has of the field `name` (lower case) contains `text`, any case."""

    name: str
    text: str


@attrs.frozen
class HeaderContains:
    """HEADER: a field `name` (lower case) contains `text`, any case.

    An empty text asks whether there is such a field.
    """

    name: str
    text: str


@attrs.frozen
class BodyContains:
    """BODY: the body contains `text`, any case."""

    text: str


@attrs.frozen
class TextContains:
    """TEXT: header or body contain `text`, any case."""

    text: str


class DateRelation(Enum):
    """BEFORE: earlier than the day. ON: that day. SINCE: that day or later."""

    BEFORE = "BEFORE"
    ON = "ON"
    SINCE = "SINCE"


@attrs.frozen
class InternalDateIs:
    """BEFORE, ON, SINCE: the day of the internal date, disregarding time and zone."""

    relation: DateRelation
    day: date


@attrs.frozen
class SentDateIs:
    """SENTBEFORE, SENTON, SENTSINCE: the day of the Date field, disregarding time and zone."""

    relation: DateRelation
    day: date


@attrs.frozen
class Larger:
    """LARGER: more than `size` octets."""

    size: int


@attrs.frozen
class Smaller:
    """SMALLER: fewer than `size` octets."""

    size: int


@attrs.frozen
class NumberIn:
    """A sequence set: the message sequence number is one of these."""

    numbers: SequenceSet


@attrs.frozen
class UidIn:
    """UID: the unique identifier is one of these."""

    uids: SequenceSet


@attrs.frozen
class And:
    """All of `keys` (two or more; never an `And` directly inside)."""

    keys: tuple[SearchKey, ...]


@attrs.frozen
class Or:
    """Any of `keys` (two or more; chains of OR are one `Or`)."""

    keys: tuple[SearchKey, ...]


@attrs.frozen
class Not:
    """NOT (never a `Not` directly inside)."""

    key: SearchKey


SearchKey = (
    All
    | HasFlag
    | IsRecent
    | EnvelopeContains
    | HeaderContains
    | BodyContains
    | TextContains
    | InternalDateIs
    | SentDateIs
    | Larger
    | Smaller
    | NumberIn
    | UidIn
    | And
    | Or
    | Not
)


# --- events that are no commands -------------------------------------------------------------------------------------


@attrs.frozen
class Identified:
    """The client sent ID (RFC 2971); the machine has answered. For the log; values of fields without one are None."""

    fields: tuple[tuple[str, str | None], ...]


@attrs.frozen
class BodyChunk:
    """Octets of an accepted APPEND, in order."""

    octets: bytes = attrs.field(repr=False)


@attrs.frozen
class AppendEnd:
    """The message of APPEND is complete: `ok` with APPENDUID, or `no`."""

    tag: str


@attrs.frozen
class AppendAborted:
    """The command broke off or went on wrongly after its message; the machine has answered. Drop what was received."""

    tag: str


@attrs.frozen
class IdleDone:
    """The client ended IDLE: pending untagged responses, then `ok`."""

    tag: str


Event = Command | Identified | BodyChunk | AppendEnd | AppendAborted | IdleDone
