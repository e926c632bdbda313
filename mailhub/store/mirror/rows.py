"""The rows of a ledger, as units of work: what is written and read in one transaction."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any, NamedTuple, get_args

import attrs

from mailhub.errors import PermanentError
from mailhub.message.flags import Decoder, encode
from mailhub.message.mailbox_names import INBOX
from mailhub.message.record import LAST_UID, Digest, DigestName, Entry
from mailhub.store.limits import DELIVERY_ID_SECONDS
from mailhub.store.mirror.source import Key
from mailhub.store.text_column import text

_COLUMNS: tuple[DigestName, ...] = get_args(DigestName)
_MANY = 500  # parameters in one statement


class Note(NamedTuple):
    """What is noted of a message beside its `Entry`. `checksum` (CRC-32) None: nobody has read it yet. `listed_size`
    and `version` are what the source has listed, which may be wrong."""

    key: Key
    checksum: int | None
    listed_size: int | None
    version: str


class Row(NamedTuple):
    """A message."""

    entry: Entry
    note: Note
    digest: Digest | None = None


class Delivery(NamedTuple):
    """A delivery id. `uid` None: add() was about to be called, and what became of it is not known; the message then has
    a UID from `uid_next` on. `at` in seconds since the epoch."""

    id: str
    uid: int | None
    uid_next: int
    size: int
    checksum: int
    at: int


@attrs.frozen
class FolderRow:
    """A folder as the ledger knows it. `looked`: its messages were listed to the end at least once."""

    number: int
    name: str
    special_use: str
    uid_validity: int
    uid_next: int
    modseq: int
    looked: bool = attrs.field(converter=bool)


@attrs.frozen
class Loaded:
    """A folder with all its messages."""

    folder: FolderRow
    entries: Sequence[Entry]
    notes: Mapping[int, Note]


def _stored(key: Key) -> bytes | int:
    # Names of files may have octets that are no UTF-8; they come as lone surrogates.
    return key if isinstance(key, int) else key.encode("utf-8", "surrogatepass")


def _key(stored: bytes | int) -> Key:
    return stored if isinstance(stored, int) else stored.decode("utf-8", "surrogatepass")


# --- folders ---------------------------------------------------------------------------------------------------------

_FOLDER = "SELECT id, name, special_use, uid_validity, uid_next, highest_modseq, looked FROM folder"

# What a folder of the first level is for by its name alone, besides those of `USUAL_USES`; in lower case.
_USES = {
    "archive": "\\Archive", "archives": "\\Archive",
    "drafts": "\\Drafts", "draft": "\\Drafts",
    "junk": "\\Junk", "spam": "\\Junk", "junk e-mail": "\\Junk", "junk email": "\\Junk", "bulk mail": "\\Junk",
    "sent": "\\Sent", "sent items": "\\Sent", "sent mail": "\\Sent", "sent messages": "\\Sent",
    "trash": "\\Trash", "deleted items": "\\Trash", "deleted messages": "\\Trash", "bin": "\\Trash",
}  # fmt: skip


def known_folders(connection: sqlite3.Connection, user: str) -> list[FolderRow]:
    """In name order."""
    return [FolderRow(*row) for row in connection.execute(f"{_FOLDER} WHERE user = ? ORDER BY name", (user,))]


def meet(
    connection: sqlite3.Connection, user: str, names: Sequence[str], now: int
) -> tuple[list[FolderRow], list[int]]:
    """The folders of a user are these now. Returns them in name order, and the numbers of those that are no more: one
    that comes back has a new UIDVALIDITY, for nobody knows what happened to it meanwhile."""
    known = {folder.name: folder for folder in known_folders(connection, user)}
    wanted = {INBOX, *names}
    gone = [folder.number for name, folder in known.items() if name not in wanted]
    for number in gone:
        forget_folder(connection, number)
    taken = {folder.special_use for name, folder in known.items() if name in wanted}
    # The plainest name is the one that is meant.
    fresh = sorted(wanted - known.keys(), key=lambda name: (name.capitalize() != name, len(name), name))
    for name in fresh:
        use = usual_use(name)
        use = "" if use in taken else use
        taken.add(use)
        make_folder(connection, user, name, use, now)
    return known_folders(connection, user), gone


def usual_use(name: str) -> str:
    """The RFC 6154 attribute that a name speaks of, "" for none."""
    return _USES.get(name.lower(), "")


def make_folder(connection: sqlite3.Connection, user: str, name: str, special_use: str, now: int) -> None:
    """With a UIDVALIDITY that no folder of this store has had."""
    (last,) = connection.execute("UPDATE uid_validity SET last = max(last + 1, ?) RETURNING last", (now,)).fetchone()
    connection.execute(
        "INSERT INTO folder (user, name, special_use, uid_validity) VALUES (?, ?, ?, ?)",
        (user, name, special_use, last),
    )


def created(connection: sqlite3.Connection, user: str, name: str, special_use: str, now: int) -> None:
    """A folder that a client has made. It is subscribed when the client says so."""
    make_folder(connection, user, name, special_use, now)
    connection.execute("INSERT OR IGNORE INTO subscription VALUES (?, ?, 0)", (user, name))


def forget_folder(connection: sqlite3.Connection, number: int) -> None:
    """A folder that is gone, with all that is noted of its messages."""
    for table in ("message", "digest", "vanished", "delivery"):
        connection.execute(f"DELETE FROM {table} WHERE folder = ?", (number,))
    connection.execute("DELETE FROM folder WHERE id = ?", (number,))


def rename_folders(connection: sqlite3.Connection, user: str, names: Mapping[str, str]) -> None:
    """They keep what they have; one whose new name speaks of a use that no other has gets it."""
    for old, new in names.items():
        connection.execute("UPDATE folder SET name = ? WHERE user = ? AND name = ?", (new, user, old))
    for new in names.values():
        if use := usual_use(new):
            connection.execute(
                "UPDATE folder SET special_use = ? WHERE user = ? AND name = ? AND special_use = ''"
                " AND NOT EXISTS (SELECT 1 FROM folder AS f WHERE f.user = ? AND f.special_use = ?)",
                (use, user, new, user, use),
            )


def load(connection: sqlite3.Connection, number: int) -> Loaded | None:
    """A folder with its messages, None when it is not there."""
    found = connection.execute(f"{_FOLDER} WHERE id = ?", (number,)).fetchone()
    if found is None:
        return None
    decode, entries, notes = Decoder(), [], {}
    for uid, key, flags, modseq, size, date, growth, checksum, listed_size, version in connection.execute(
        "SELECT uid, key, flags, modseq, size, internal_date, growth, checksum, listed_size, version FROM message"
        " WHERE folder = ? ORDER BY uid",
        (number,),
    ):
        entries.append(Entry(uid, decode(flags), modseq, size, date, growth))
        notes[uid] = Note(_key(key), checksum, listed_size, version)
    return Loaded(FolderRow(*found), entries, notes)


def looked(connection: sqlite3.Connection, number: int) -> None:
    """The folder was listed to the end."""
    connection.execute("UPDATE folder SET looked = 1 WHERE id = ?", (number,))


def used(connection: sqlite3.Connection, user: str) -> tuple[int, int]:
    """Octets and number of a user's messages, as far as they are known."""
    octets, count = connection.execute(
        "SELECT coalesce(sum(size), 0), count(*) FROM message WHERE folder IN (SELECT id FROM folder WHERE user = ?)",
        (user,),
    ).fetchone()
    return octets, count


# --- messages --------------------------------------------------------------------------------------------------------


def insert(connection: sqlite3.Connection, number: int, rows: Sequence[Row]) -> None:
    """New messages at the end, all of one mod-sequence. Raises PermanentError when there are no more UIDs."""
    last = rows[-1].entry
    if last.uid >= LAST_UID:
        raise PermanentError("Mailbox has used up its UIDs")
    connection.executemany(
        "INSERT INTO message (folder, uid, key, flags, modseq, size, internal_date, growth, checksum, listed_size,"
        " version) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        [
            (number, e.uid, _stored(n.key), encode(e.flags), e.modseq, e.size, e.internal_date, e.growth, *n[1:])
            for e, n, _ in rows
        ],
    )
    insert_digests(connection, number, {row.entry.uid: row.digest for row in rows if row.digest is not None})
    connection.execute(
        "UPDATE folder SET uid_next = ?, highest_modseq = ? WHERE id = ?", (last.uid + 1, last.modseq, number)
    )


def insert_digests(connection: sqlite3.Connection, number: int, digests: Mapping[int, Digest]) -> None:
    """What was found out about messages, by UID."""
    names = (*_COLUMNS, "growth")
    connection.executemany(
        f"INSERT OR REPLACE INTO digest (folder, uid, {', '.join(names)})"
        f" VALUES (?, ?{', ?' * len(names)})",
        [
            (number, uid, *(text(value) if isinstance(value, str) else value for value in _values(digest, names)))
            for uid, digest in digests.items()
        ],
    )  # fmt: skip


def _values(digest: Digest, names: Iterable[str]) -> Iterable[Any]:
    return (getattr(digest, name) for name in names)


def learn(connection: sqlite3.Connection, number: int, rows: Sequence[Row]) -> None:
    """More is known of messages than before; nothing that a client has been told changes."""
    connection.executemany(
        "UPDATE message SET growth = ?, checksum = ?, listed_size = ?, version = ? WHERE folder = ? AND uid = ?",
        [(e.growth, n.checksum, n.listed_size, n.version, number, e.uid) for e, n, _ in rows],
    )
    insert_digests(connection, number, {row.entry.uid: row.digest for row in rows if row.digest is not None})


def set_flags(connection: sqlite3.Connection, number: int, entries: Sequence[Entry]) -> None:
    """Messages that have these flags now, all of one mod-sequence."""
    connection.executemany(
        "UPDATE message SET flags = ?, modseq = ? WHERE folder = ? AND uid = ?",
        [(encode(entry.flags), entry.modseq, number, entry.uid) for entry in entries],
    )
    connection.execute("UPDATE folder SET highest_modseq = ? WHERE id = ?", (entries[0].modseq, number))


def vanish(connection: sqlite3.Connection, number: int, uids: Sequence[int], modseq: int) -> None:
    """Messages (ascending) that are gone."""
    for table in ("message", "digest"):
        connection.executemany(f"DELETE FROM {table} WHERE folder = ? AND uid = ?", [(number, uid) for uid in uids])
    connection.executemany(
        "INSERT INTO vanished (folder, modseq, first, last) VALUES (?, ?, ?, ?)",
        [(number, modseq, first, last) for first, last in runs(uids)],
    )
    connection.execute("UPDATE folder SET highest_modseq = ? WHERE id = ?", (modseq, number))


def runs(uids: Sequence[int]) -> list[tuple[int, int]]:
    """Ascending numbers as first and last of each unbroken run."""
    if not uids:
        return []
    breaks = [(low, high) for low, high in pairwise(uids) if high != low + 1]
    return list(zip([uids[0], *(high for _, high in breaks)], [*(low for low, _ in breaks), uids[-1]], strict=True))


def vanished(connection: sqlite3.Connection, number: int, since_modseq: int) -> list[int]:
    """UIDs that have gone since then, ascending."""
    found = connection.execute(
        "SELECT first, last FROM vanished WHERE folder = ? AND modseq > ?", (number, since_modseq)
    )
    return sorted(uid for first, last in found for uid in range(first, last + 1))


def digests(
    connection: sqlite3.Connection, number: int, uids: Sequence[int], wanted: Iterable[DigestName]
) -> dict[str, dict[int, Any]]:
    """The wanted columns of those that are here."""
    names = [name for name in wanted if name in _COLUMNS]
    columns: dict[str, dict[int, Any]] = {name: {} for name in names}
    for start in range(0, len(uids), _MANY):
        some = uids[start : start + _MANY]
        for uid, *values in connection.execute(
            f"SELECT uid, {', '.join(names)} FROM digest WHERE folder = ? AND uid IN ({', '.join('?' * len(some))})",
            (number, *some),
        ):
            for name, value in zip(names, values, strict=True):
                columns[name][uid] = value
    return columns


# --- deliveries ------------------------------------------------------------------------------------------------------


def deliveries(connection: sqlite3.Connection, number: int, delivery_id: str | None = None) -> list[Delivery]:
    """The one of this id, or all of which it is not known what became of them."""
    which = ("uid IS NULL", ()) if delivery_id is None else ("id = ?", (delivery_id,))
    found = connection.execute(
        f"SELECT id, uid, uid_next, size, checksum, at FROM delivery WHERE folder = ? AND {which[0]} ORDER BY at, id",
        (number, *which[1]),
    )
    return [Delivery(*row) for row in found]


def note_delivery(connection: sqlite3.Connection, number: int, delivery: Delivery) -> None:
    """A message is about to be added under this id, or was."""
    connection.execute(
        "INSERT OR REPLACE INTO delivery (folder, id, uid, uid_next, size, checksum, at) VALUES (?, ?, ?, ?, ?, ?, ?)",
        (number, *delivery),
    )


def settle_delivery(connection: sqlite3.Connection, number: int, delivery_id: str, uid: int | None) -> None:
    """What became of it: the message has this UID, or was certainly not added."""
    if uid is None:
        connection.execute("DELETE FROM delivery WHERE folder = ? AND id = ?", (number, delivery_id))
    else:
        connection.execute("UPDATE delivery SET uid = ? WHERE folder = ? AND id = ?", (uid, number, delivery_id))


def forget_deliveries(connection: sqlite3.Connection, now: int) -> None:
    """Those that no queue repeats any more."""
    connection.execute("DELETE FROM delivery WHERE at < ?", (now - DELIVERY_ID_SECONDS,))


# --- subscriptions ---------------------------------------------------------------------------------------------------


def choices(connection: sqlite3.Connection, user: str) -> dict[str, bool]:
    """What a user has said about names: subscribed, or not."""
    found = connection.execute("SELECT name, subscribed FROM subscription WHERE user = ?", (user,))
    return {name: bool(subscribed) for name, subscribed in found}


def subscribe(connection: sqlite3.Connection, user: str, name: str, subscribed: bool, limit: int) -> None:
    """Raises PermanentError for more than `limit` names."""
    (count,) = connection.execute("SELECT count(*) FROM subscription WHERE user = ?", (user,)).fetchone()
    if subscribed and count >= limit:
        raise PermanentError("Too many subscriptions", status="5.2.0")
    connection.execute("INSERT OR REPLACE INTO subscription VALUES (?, ?, ?)", (user, name, subscribed))
