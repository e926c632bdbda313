"""`mailhub check --repair`: what is damaged is set aside in `lost+found/`, and what is left agrees with itself again.

Nothing is thrown away. A message whose octets are lost leaves its mailbox as if it had been expunged, so that clients
go on; what is known of it stands in `repaired.jsonl`, and what is left of its octets beside that. Queued messages stay:
the server gives them up and tells their senders. A database with damaged pages is read as far as it goes into a new
one, and the old file is kept. Every step may be the last one before a crash: then the repair is run again.
"""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import attrs

from mailhub.store.sql import messages
from mailhub.store.sql.mailbox_rows import make_mailbox
from mailhub.store.sql.transaction import Transaction
from mailhub.store.sqlite import schema
from mailhub.store.sqlite.blobs import BLOBS, Blobs, blob_path, link_or_copy, lost_and_found
from mailhub.store.sqlite.damage import Damage, Inspection, Progress
from mailhub.store.sqlite.dialect import SQLITE
from mailhub.store.sqlite.salvage import is_sound, salvage

RECORD = "repaired.jsonl"  # in lost+found: a line for each message that was set aside

_COLUMNS = ("content", "mailbox_number", "mailbox", "account", "uid", "flags", "internal_date", "subject", "sender")

_COUNTED = (
    "SELECT count(*), coalesce(sum(instr(flags, '\\Seen') = 0), 0), coalesce(sum(size), 0),"
    " coalesce(sum(max(0, length(flags) - 256)), 0) FROM message WHERE mailbox = mailbox.id"
)

# What can be set right from other rows, each with what it says when it changed something.
_CORRECTIONS = (
    (
        "messages given their content's size",
        "UPDATE message SET size = (SELECT size FROM content WHERE id = message.content)"
        " WHERE size != (SELECT size FROM content WHERE id = message.content)",
    ),
    (
        "vanished UIDs that are there",
        "DELETE FROM vanished WHERE EXISTS (SELECT 1 FROM message m WHERE m.mailbox = vanished.mailbox"
        " AND m.uid BETWEEN vanished.first AND vanished.last)",
    ),
    (
        "mailboxes given a next UID and mod-sequence",
        "UPDATE mailbox SET uid_next = max(uid_next, (SELECT max(uid) + 1 FROM message WHERE mailbox = mailbox.id)),"
        " highest_modseq = max(highest_modseq, (SELECT max(modseq) FROM message WHERE mailbox = mailbox.id)) + 1"
        " WHERE EXISTS (SELECT 1 FROM message WHERE mailbox = mailbox.id"
        " AND (uid >= uid_next OR modseq > highest_modseq))",
    ),
    (
        "mailboxes counted again",
        f"UPDATE mailbox SET (messages, unseen, size, flag_octets) = ({_COUNTED})"
        f" WHERE (messages, unseen, size, flag_octets) != ({_COUNTED})",
    ),
    ("subscriptions of nobody", "DELETE FROM subscription WHERE account NOT IN (SELECT id FROM account)"),
    ("queued messages of nobody", "DELETE FROM queue_message WHERE id NOT IN (SELECT message FROM queue_recipient)"),
    ("recipients without a message", "DELETE FROM queue_recipient WHERE message NOT IN (SELECT id FROM queue_message)"),
    (
        "last UIDVALIDITY raised",
        "UPDATE uid_validity SET last = (SELECT max(uid_validity) FROM mailbox)"
        " WHERE last < (SELECT max(uid_validity) FROM mailbox)",
    ),
    (
        "contents of no message left to be removed",
        "INSERT OR IGNORE INTO released SELECT id FROM content"
        " WHERE NOT EXISTS (SELECT 1 FROM message WHERE content = content.id)"
        " AND NOT EXISTS (SELECT 1 FROM queue_message WHERE content = content.id)"
        " AND NOT EXISTS (SELECT 1 FROM released WHERE content = content.id)",
    ),
)  # fmt: skip


def repair(data: Path, blobs: Blobs, now: int, *, deep: bool, progress: Progress) -> Iterator[str]:
    """Repair the database of a data folder that nobody serves; yields what was done. Raises OSError, sqlite3.Error."""
    path = data / schema.FILE
    if not is_sound(path):
        yield from salvage(data, blobs)
    with closing(schema.connect_writer(path, busy_seconds=10)) as connection:
        schema.migrate(connection, path)
        work = _Repair(connection, data, blobs, now)
        inspection = Inspection(connection, data, deep, progress)
        for damage in list(inspection.damages()):
            yield from work.set_aside(damage)
        yield from work.homeless()
        yield from work.correct(inspection.sums)
    # A folder without any is taken for a volume that is not mounted; now it is known what is missing.
    (blobs.folder / "00").mkdir(mode=0o700, parents=True, exist_ok=True)


@attrs.define
class _Repair:
    connection: sqlite3.Connection
    data: Path
    blobs: Blobs
    now: int

    @property
    def lost(self) -> Path:
        return lost_and_found(self.data)

    def set_aside(self, damage: Damage) -> Iterator[str]:
        """Take the messages of a damaged content out of their mailboxes."""
        rows = self._messages("m.content = ?", damage.content)
        if not rows:
            return
        file = self._keep(damage.content, rows[0])
        for row in rows:
            self._record({**row, "reason": damage.reason, "file": file})
        places: dict[int, list[int]] = {}
        for row in rows:
            places.setdefault(row["mailbox_number"], []).append(row["uid"])
        with _transaction(self.connection, self.blobs) as transaction:
            for mailbox, uids in places.items():
                if all(row["account"] for row in rows if row["mailbox_number"] == mailbox):
                    messages.expunge(transaction, mailbox, sorted(uids), deleted_only=False)
        for row in rows:
            who = f"{row['account'] or 'nobody'} in {row['mailbox']}"
            yield f"set aside: message of {who}, UID {row['uid']}: {damage.reason}"

    def homeless(self) -> Iterator[str]:
        """Messages of mailboxes, and mailboxes of accounts, whose rows are lost: their octets are kept as files."""
        rows = self._messages("a.id IS NULL")
        for row in rows:
            file = self._keep(row["content"], row)
            self._record({**row, "reason": "its mailbox is lost", "file": file})
            yield f"set aside: message of a lost mailbox, UID {row['uid']}: {file}"
        for number, content in self.connection.execute(
            "SELECT id, content FROM queue_message WHERE id NOT IN (SELECT message FROM queue_recipient)"
        ).fetchall():
            file = self._keep(content, {"uid": number})
            self._record({"queued": number, "reason": "its recipients are lost", "file": file})
            yield f"set aside: queued message {number}, its recipients are lost: {file}"
        with _transaction(self.connection, self.blobs) as transaction:
            nobodys = "SELECT id FROM mailbox WHERE account IN (SELECT id FROM account)"
            for table in ("message", "vanished", "delivery", "keyword"):
                transaction.execute(f"DELETE FROM {table} WHERE mailbox NOT IN ({nobodys})")
            transaction.execute("DELETE FROM mailbox WHERE account NOT IN (SELECT id FROM account)")
            for (account,) in transaction.rows(
                "SELECT id FROM account EXCEPT SELECT account FROM mailbox WHERE name = 'INBOX'"
            ):
                make_mailbox(transaction, account, "INBOX", "", self.now)
                yield f"account {account}: given an INBOX"

    def correct(self, sums: dict[int, int]) -> Iterator[str]:
        """Rows that say what other rows know better; and checksums for what has none."""
        with _transaction(self.connection, self.blobs) as transaction:
            if transaction.row("SELECT 1 FROM uid_validity") is None:
                transaction.execute("INSERT INTO uid_validity VALUES (?, ?)", (self.now, self.now))
            for words, statement in _CORRECTIONS:
                count = transaction.execute(statement).rowcount
                if count > 0:
                    yield f"corrected: {words}: {count}"
            transaction.execute_many(
                "UPDATE content SET checksum = ? WHERE id = ?", [(total, content) for content, total in sums.items()]
            )
        if sums:
            yield f"given a checksum: {len(sums)} contents"

    def _messages(self, condition: str, *parameters: object) -> list[dict[str, Any]]:
        address = schema.address_column(self.connection)
        rows = self.connection.execute(
            f"SELECT m.content, m.mailbox, b.name, a.{address}, m.uid, m.flags, m.internal_date, c.subject, c.sender"
            " FROM message m LEFT JOIN mailbox b ON b.id = m.mailbox LEFT JOIN account a ON a.id = b.account"
            f" LEFT JOIN content c ON c.id = m.content WHERE {condition}",
            parameters,
        )
        return [dict(zip(_COLUMNS, row, strict=True)) for row in rows]

    def _keep(self, content: int, row: dict[str, Any]) -> str:
        """What is left of the octets, or of the header, as a file. Returns its name, empty when nothing is left."""
        self.lost.mkdir(mode=0o700, exist_ok=True)
        name = f"content-{content}-{row['uid']}.eml"
        found = self.connection.execute(
            "SELECT blob, start, octets, fields FROM content WHERE id = ?", (content,)
        ).fetchone()
        if found is None:
            return ""
        blob, start, octets, fields = found
        if blob is not None and blob_path(self.data / BLOBS, blob).exists():
            target = self.lost / name
            target.unlink(missing_ok=True)
            # A second name: the first goes with the row, or stays as long as the queue needs it.
            link_or_copy(blob_path(self.data / BLOBS, blob), target, start)
        else:
            _write(self.lost / name, octets or fields)
        self.blobs.sync_folder(self.lost)
        self.blobs.sync_folder(self.data)
        return name

    def _record(self, line: dict[str, Any]) -> None:
        self.lost.mkdir(mode=0o700, exist_ok=True)
        descriptor = os.open(self.lost / RECORD, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        with open(descriptor, "w", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
            file.flush()
            os.fsync(file.fileno())


@contextmanager
def _transaction(connection: sqlite3.Connection, blobs: Blobs) -> Iterator[Transaction]:
    """One transaction; its unlinking follows the commit."""
    transaction = Transaction(connection, SQLITE, blobs)
    transaction.execute("BEGIN IMMEDIATE")
    try:
        yield transaction
    except BaseException:
        transaction.execute("ROLLBACK")
        raise
    transaction.execute("COMMIT")
    for action in transaction.after_commit:
        action()


def _write(file: Path, octets: bytes) -> None:
    with open(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as target:
        target.write(octets)
        target.flush()
        os.fsync(target.fileno())
