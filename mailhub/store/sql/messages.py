"""What is done to the messages of a mailbox, as units of work for the writer. Sets are worked on as sets."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from mailhub.errors import NoSuchMailbox, OverQuota, PermanentError
from mailhub.interfaces import IBlobReader
from mailhub.message import flags as flag_names
from mailhub.message.flags import FREE_OCTETS, SEEN, SYSTEM_FLAGS, Decoder, Flags, decode, decode_short, encode, excess
from mailhub.message.record import (
    LAST_UID,
    Added,
    CopyResult,
    Entry,
    Expunged,
    FlagChange,
    FlagResult,
    FlagsChanged,
    MailboxStatus,
    News,
)
from mailhub.store.held import Hold
from mailhub.store.index import MailboxIndex
from mailhub.store.limits import DELIVERY_ID_SECONDS
from mailhub.store.sql import content as contents
from mailhub.store.sql.content import among, release
from mailhub.store.sql.keywords import Spelling, admit, check_number, spelling
from mailhub.store.sql.transaction import Snapshot, StoredBody, Transaction

_DELETED = f"'{flag_names.DELETED}'"


class MailboxRow(NamedTuple):
    """The mailbox and its account, as a change finds them."""

    mailbox: int
    account: int
    uid_validity: int
    uid_next: int
    modseq: int
    quota: int
    used: int  # octets; 0 where there is no quota


MAILBOX_COLUMNS = """
m.id, m.account, m.uid_validity, m.uid_next, m.highest_modseq, a.quota,
       CASE WHEN a.quota <> 0 THEN (SELECT sum(size + flag_octets) FROM mailbox WHERE account = a.id) ELSE 0 END
"""
MAILBOXES = "FROM mailbox m JOIN account a ON a.id = m.account"
"""Where the columns of a `MailboxRow` come from."""

_ROW = f"SELECT {MAILBOX_COLUMNS} {MAILBOXES} "


def row_of(transaction: Transaction, mailbox: int) -> MailboxRow:
    """Raises NoSuchMailbox."""
    row = transaction.row(_ROW + "WHERE m.id = ?", (mailbox,))
    if row is None:
        raise NoSuchMailbox
    return MailboxRow._make(row)


def check_room(row: MailboxRow, size: int) -> None:
    """Raises OverQuota when `size` more octets do not fit."""
    if row.quota and row.used + size > row.quota:
        raise OverQuota


def _allot(row: MailboxRow, count: int) -> None:
    if row.uid_next + count > LAST_UID:
        raise PermanentError("Mailbox has used up its UIDs")


def _count(
    transaction: Transaction,
    row: MailboxRow,
    *,
    modseq: int,
    added: int = 0,
    messages: int = 0,
    unseen: int = 0,
    size: int = 0,
    flag_octets: int = 0,
) -> None:
    transaction.execute(
        "UPDATE mailbox SET uid_next = uid_next + ?, highest_modseq = ?, messages = messages + ?, unseen = unseen + ?,"
        " size = size + ?, flag_octets = flag_octets + ? WHERE id = ?",
        (added, modseq, messages, unseen, size, flag_octets, row.mailbox),
    )


# --- adding ----------------------------------------------------------------------------------------------------------


def append(
    transaction: Transaction,
    mailbox: int,
    number: int,
    body: StoredBody,
    flags: Flags,
    internal_date: int,
    delivery_id: str,
    now: int,
) -> int:
    """Add a message unless `delivery_id` was seen before; its content is to have this number. Returns its UID."""
    row = row_of(transaction, mailbox)
    if delivery_id:
        known = transaction.row("SELECT uid FROM delivery WHERE mailbox = ? AND id = ?", (mailbox, delivery_id))
        if known is not None:
            return int(known[0])
    size, growth = body.digest.size, body.digest.growth
    check_room(row, size + excess(encode(flags)))
    _allot(row, 1)
    flags = admit(transaction, mailbox, flags)
    uid, modseq, text = row.uid_next, row.modseq + 1, encode(flags)
    number = contents.insert(transaction, number, body)
    transaction.kept.append(body)
    transaction.execute(
        "INSERT INTO message (mailbox, uid, content, flags, modseq, size, internal_date, growth)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        (mailbox, uid, number, text, modseq, size, internal_date, growth),
    )
    _count(
        transaction,
        row,
        modseq=modseq,
        added=1,
        messages=1,
        unseen=int(SEEN not in flags),
        size=size,
        flag_octets=excess(text),
    )
    transaction.announce(mailbox, Added((Entry(uid, flags, modseq, size, internal_date, growth),), row.modseq))
    if delivery_id:
        transaction.execute("INSERT INTO delivery VALUES (?, ?, ?, ?)", (mailbox, delivery_id, uid, now))
    return uid


def forget(transaction: Transaction, now: int) -> None:
    """Delivery ids that nobody repeats any more."""
    transaction.execute("DELETE FROM delivery WHERE at < ?", (now - DELIVERY_ID_SECONDS,))


# --- flags -----------------------------------------------------------------------------------------------------------


def change_flags(
    transaction: Transaction, mailbox: int, uids: Sequence[int], change: FlagChange, unchanged_since: int | None
) -> FlagResult:
    """STORE for a set of messages: one mod-sequence for all that change."""
    row = row_of(transaction, mailbox)
    spelt = Spelling()
    if change.mode != "remove":
        spelt = spelling(transaction, mailbox, (change.flags,))
        change = FlagChange(change.mode, spelt.of(change.flags))
    modseq = row.modseq + 1
    failed: list[int] = []
    changed: list[Entry] = []
    unseen = flag_octets = 0
    after: dict[str, _After | None] = {}  # by the flags before; few in number
    condition, parameters = among(transaction, uids)
    for uid, text, old_modseq, *others in transaction.execute(
        "SELECT uid, flags, modseq, size, internal_date, growth FROM message"
        f" WHERE mailbox = ? AND {condition} ORDER BY uid",
        (mailbox, *parameters),
    ):
        if unchanged_since is not None and old_modseq > unchanged_since:
            failed.append(uid)
            continue
        if text not in after:
            after[text] = _changed(transaction, text, change)
        result = after[text]
        if result is not None:
            changed.append(Entry(uid, result.flags, modseq, *others))
            unseen += result.unseen
            flag_octets += result.octets
    if changed:
        if flag_octets > 0 and not change.flags <= SYSTEM_FLAGS:  # those always find room
            check_room(row, flag_octets)
        spelt.register(transaction, mailbox)
        _write_flags(transaction, mailbox, changed, modseq)
        _count(transaction, row, modseq=modseq, unseen=unseen, flag_octets=flag_octets)
        transaction.announce(mailbox, FlagsChanged(tuple(changed), row.modseq))
    return FlagResult(tuple(changed), tuple(failed))


def _write_flags(transaction: Transaction, mailbox: int, changed: Sequence[Entry], modseq: int) -> None:
    """One statement for all messages that have the same flags now."""
    uids: dict[Flags, list[int]] = {}
    for entry in changed:
        uids.setdefault(entry.flags, []).append(entry.uid)
    for flags, group in uids.items():
        condition, parameters = among(transaction, group)
        transaction.execute(
            f"UPDATE message SET flags = ?, modseq = ? WHERE mailbox = ? AND {condition}",
            (encode(flags), modseq, mailbox, *parameters),
        )


class _After(NamedTuple):
    """The flags after a change, and by how much it changes the mailbox's counters."""

    flags: Flags
    unseen: int
    octets: int


def _changed(transaction: Transaction, text: str, change: FlagChange) -> _After | None:
    """None for a change that changes nothing. Raises TooManyKeywords."""
    old = decode(text)
    new = change.apply(old)
    if new == old:
        return None
    if len(new) > len(old):
        check_number(transaction, new)
    return _After(new, (SEEN in old) - (SEEN in new), excess(encode(new)) - excess(text))


# --- copying, moving, removing ---------------------------------------------------------------------------------------


class Message(NamedTuple):
    """A row of `message` that is copied or removed."""

    uid: int
    content: int
    flags: str
    size: int
    internal_date: int
    growth: int


def _messages(transaction: Transaction, mailbox: int, uids: Sequence[int] | None, also: str = "") -> list[Message]:
    condition, parameters = ("TRUE", ()) if uids is None else among(transaction, uids)
    cursor = transaction.execute(
        f"SELECT uid, content, flags, size, internal_date, growth FROM message WHERE mailbox = ? AND {condition}{also}"
        " ORDER BY uid",
        (mailbox, *parameters),
    )
    return list(map(Message._make, cursor))


def copy(transaction: Transaction, mailbox: int, uids: Sequence[int], target: int) -> CopyResult:
    """COPY: new rows for the same contents."""
    row_of(transaction, mailbox)
    row = row_of(transaction, target)
    messages = _messages(transaction, mailbox, uids)
    check_room(row, sum(message.size for message in messages) + _flag_octets(messages))
    return _copy_rows(transaction, mailbox, messages, row)


def move(
    transaction: Transaction,
    mailbox: int,
    uids: Sequence[int],
    target: int,
    hold: Hold | None = None,
) -> CopyResult:
    """MOVE: copy, then remove from the source. `hold` is the one of the session that does it."""
    source, row = row_of(transaction, mailbox), row_of(transaction, target)
    messages = _messages(transaction, mailbox, uids)
    if source.account != row.account:
        check_room(row, sum(message.size for message in messages) + _flag_octets(messages))
    result = _copy_rows(transaction, mailbox, messages, row)
    # Read again: source and target may be the same mailbox.
    _remove_rows(transaction, row_of(transaction, mailbox), messages, hold)
    return result


def _copy_rows(transaction: Transaction, mailbox: int, messages: Sequence[Message], row: MailboxRow) -> CopyResult:
    if not messages:
        return CopyResult(row.uid_validity, (), ())
    _allot(row, len(messages))
    first, modseq = row.uid_next, row.modseq + 1
    condition, parameters = among(transaction, [message.uid for message in messages])
    flags = _as_spelled(transaction, row.mailbox, {message.flags for message in messages})
    transaction.execute(
        "INSERT INTO message (mailbox, uid, content, flags, modseq, size, internal_date, growth)"
        " SELECT ?, ? + row_number() OVER (ORDER BY uid) - 1, content, flags, ?, size, internal_date, growth"
        f" FROM message WHERE mailbox = ? AND {condition} ORDER BY uid",
        (row.mailbox, first, modseq, mailbox, *parameters),
    )
    entries = tuple(
        Entry(uid, flags[message.flags], modseq, message.size, message.internal_date, message.growth)
        for uid, message in enumerate(messages, first)
    )
    respelt = {text for text, spelt in flags.items() if encode(spelt) != text}
    if respelt:
        pairs = zip(entries, messages, strict=True)
        _write_flags(transaction, row.mailbox, [entry for entry, message in pairs if message.flags in respelt], modseq)
    size = sum(message.size for message in messages)
    _count(
        transaction,
        row,
        modseq=modseq,
        added=len(messages),
        messages=len(messages),
        unseen=_unseen(messages),
        size=size,
        flag_octets=_flag_octets(messages),
    )
    transaction.announce(row.mailbox, Added(entries, row.modseq))
    return CopyResult(
        row.uid_validity, tuple(message.uid for message in messages), tuple(range(first, first + len(messages)))
    )


def _as_spelled(transaction: Transaction, mailbox: int, texts: set[str]) -> dict[str, Flags]:
    """The flags of messages that come to a mailbox, by what they were: its keywords may have other spellings."""
    flags = {text: decode(text) for text in texts}
    found = spelling(transaction, mailbox, flags.values())
    found.register(transaction, mailbox)
    return {text: found.of(each) for text, each in flags.items()}


def _unseen(messages: Iterable[Message]) -> int:
    return sum(SEEN not in decode(message.flags) for message in messages)


def _flag_octets(messages: Iterable[Message]) -> int:
    return sum(excess(message.flags) for message in messages)


def _remove_rows(transaction: Transaction, row: MailboxRow, messages: Sequence[Message], hold: Hold | None) -> None:
    if not messages:
        return
    transaction.held.note(row.mailbox, ((message.uid, message.content, message.size) for message in messages), hold)
    modseq = row.modseq + 1
    uids = [message.uid for message in messages]
    condition, parameters = among(transaction, uids)
    transaction.execute(f"DELETE FROM message WHERE mailbox = ? AND {condition}", (row.mailbox, *parameters))
    transaction.execute_many(
        "INSERT INTO vanished (mailbox, modseq, first, last) VALUES (?, ?, ?, ?)",
        [(row.mailbox, modseq, first, last) for first, last in runs(uids)],
    )
    size = sum(message.size for message in messages)
    _count(
        transaction,
        row,
        modseq=modseq,
        messages=-len(messages),
        unseen=-_unseen(messages),
        size=-size,
        flag_octets=-_flag_octets(messages),
    )
    transaction.announce(row.mailbox, Expunged(tuple(uids), modseq, row.modseq))


def runs(uids: Sequence[int]) -> list[tuple[int, int]]:
    """Ascending numbers as runs of successive ones."""
    found: list[tuple[int, int]] = []
    start = previous = -1
    for uid in uids:
        if uid != previous + 1:
            if start >= 0:
                found.append((start, previous))
            start = uid
        previous = uid
    if start >= 0:
        found.append((start, previous))
    return found


def expunge(
    transaction: Transaction,
    mailbox: int,
    uids: Sequence[int] | None,
    deleted_only: bool,
    hold: Hold | None = None,
) -> Sequence[int]:
    """Remove messages for good; returns the UIDs that are gone. `hold` is the one of the session that does it."""
    row = row_of(transaction, mailbox)
    # A backslash begins system flags alone, so nothing else contains this text.
    marked = f" AND {transaction.dialect.contains('flags', _DELETED)}" if deleted_only else ""
    messages = _messages(transaction, mailbox, uids, marked)
    _remove_rows(transaction, row, messages, hold)
    release(transaction, [message.content for message in messages])
    return [message.uid for message in messages]


# --- reading ---------------------------------------------------------------------------------------------------------


def load_index(snapshot: Snapshot, mailbox: int) -> MailboxIndex:
    """All rows of a mailbox. Raises NoSuchMailbox."""
    modseq = highest_modseq(snapshot, mailbox)
    return MailboxIndex(entries(snapshot, mailbox), modseq)


def entries(snapshot: Snapshot, mailbox: int, since_modseq: int = 0) -> list[Entry]:
    """The rows changed after `since_modseq`, in UID order."""
    decode_long = Decoder()
    return [
        Entry(uid, decode_short(flags) if len(flags) <= FREE_OCTETS else decode_long(flags), modseq, size, date, growth)
        for uid, flags, modseq, size, date, growth in snapshot.execute(
            "SELECT uid, flags, modseq, size, internal_date, growth FROM message"
            " WHERE mailbox = ? AND modseq > ? ORDER BY uid",
            (mailbox, since_modseq),
        )
    ]


def news(snapshot: Snapshot, mailbox: int, since_modseq: int) -> News:
    """What happened after `since_modseq`. Raises NoSuchMailbox."""
    modseq = highest_modseq(snapshot, mailbox)
    return News(entries(snapshot, mailbox, since_modseq), vanished(snapshot, mailbox, since_modseq), modseq)


def highest_modseq(snapshot: Snapshot, mailbox: int) -> int:
    """Raises NoSuchMailbox."""
    row = snapshot.row("SELECT highest_modseq FROM mailbox WHERE id = ?", (mailbox,))
    if row is None:
        raise NoSuchMailbox
    return int(row[0])


def status(snapshot: Snapshot, mailbox: int) -> MailboxStatus:
    """The counters. Raises NoSuchMailbox."""
    row = snapshot.execute(
        "SELECT messages, unseen, size, uid_next, uid_validity, highest_modseq FROM mailbox WHERE id = ?", (mailbox,)
    ).fetchone()
    if row is None:
        raise NoSuchMailbox
    return MailboxStatus(*row)


def open_message(snapshot: Snapshot, mailbox: int, uid: int) -> IBlobReader:
    """The octets of a message: of a small one right here, of a large one its opened file.

    Raises MessageGone, MessageDamaged."""
    row = snapshot.execute(
        "SELECT c.size, c.blob, c.start, c.octets, c.checksum FROM message m LEFT JOIN content c ON c.id = m.content"
        " WHERE m.mailbox = ? AND m.uid = ?",
        (mailbox, uid),
    ).fetchone()
    return contents.open_content(row, snapshot.files)


def open_held(snapshot: Snapshot, content: int) -> IBlobReader:
    """The octets of a message without a row whose content is held. Raises MessageGone, MessageDamaged."""
    row = snapshot.execute(
        "SELECT size, blob, start, octets, checksum FROM content WHERE id = ?", (content,)
    ).fetchone()
    return contents.open_content(row, snapshot.files)


def vanished(snapshot: Snapshot, mailbox: int, since_modseq: int) -> list[int]:
    """UIDs expunged after `since_modseq`, ascending."""
    uids: list[int] = []
    for first, last in snapshot.execute(
        "SELECT first, last FROM vanished WHERE mailbox = ? AND modseq > ? ORDER BY first", (mailbox, since_modseq)
    ):
        uids.extend(range(first, last + 1))
    return uids


def missing(snapshot: Snapshot, numbers: Sequence[int]) -> list[int]:
    """Those of the mailboxes that do not exist any more."""
    rows = snapshot.execute(
        f"SELECT value FROM {snapshot.dialect.numbers} AS given WHERE value NOT IN (SELECT id FROM mailbox)",
        (snapshot.many(numbers),),
    )
    return [row[0] for row in rows]
