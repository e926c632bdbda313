"""Checking a database against itself, for `mailhub check`."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from mailhub.store.sqlite import schema
from mailhub.store.sqlite.damage import Inspection, Progress, names
from mailhub.store.sqlite.dialect import is_damage
from mailhub.store.sqlite.opening import refusal, require, require_tables

LIMIT = 100  # problems told; one broken page can be the cause of thousands

# What must hold, and the query that finds where it does not.
_INVARIANTS = (
    (
        "mailbox {0}: counters say {1}, its messages {2}",
        """SELECT m.id, m.messages || '/' || m.unseen || '/' || m.size AS said,
           (SELECT count(*) || '/' || coalesce(sum(instr(flags, '\\Seen') = 0), 0) || '/' || coalesce(sum(size), 0)
            FROM message WHERE mailbox = m.id) AS found
           FROM mailbox m WHERE said != found""",
    ),
    (
        "mailbox {0}: UID {1} or mod-sequence {2} is not below what was promised",
        """SELECT b.id, max(m.uid), max(m.modseq) FROM mailbox b JOIN message m ON m.mailbox = b.id
           GROUP BY b.id HAVING max(m.uid) >= b.uid_next OR max(m.modseq) > b.highest_modseq""",
    ),
    (
        "mailbox {0}: UID {1} vanished and is there",
        """SELECT v.mailbox, m.uid FROM vanished v JOIN message m ON m.mailbox = v.mailbox
           AND m.uid BETWEEN v.first AND v.last""",
    ),
    (
        "message {1} in mailbox {0}: content {2} is missing or of another size",
        """SELECT m.mailbox, m.uid, m.content FROM message m LEFT JOIN content c ON c.id = m.content
           WHERE c.id IS NULL OR c.size != m.size""",
    ),
    (
        "queue message {0}: content {1} is missing",
        """SELECT q.id, q.content FROM queue_message q LEFT JOIN content c ON c.id = q.content
           WHERE c.id IS NULL OR c.size < q.relay_offset""",
    ),
    (
        "content {0}: nothing refers to it",
        """SELECT id FROM content WHERE NOT EXISTS (SELECT 1 FROM message WHERE content = content.id)
           AND NOT EXISTS (SELECT 1 FROM queue_message WHERE content = content.id)
           AND NOT EXISTS (SELECT 1 FROM released WHERE content = content.id)""",
    ),
    (
        "messages in mailbox {0}, which does not exist",
        "SELECT mailbox FROM message EXCEPT SELECT id FROM mailbox",
    ),
    (
        "mailbox of account {0}, which does not exist",
        "SELECT account FROM mailbox EXCEPT SELECT id FROM account",
    ),
    (
        "subscription of account {0}, which does not exist",
        "SELECT account FROM subscription EXCEPT SELECT id FROM account",
    ),
    (
        "account {0} has no INBOX",
        "SELECT id FROM account EXCEPT SELECT account FROM mailbox WHERE name = 'INBOX'",
    ),
    (
        "queue message {0} has no recipients",
        "SELECT id FROM queue_message EXCEPT SELECT message FROM queue_recipient",
    ),
    (
        "queue recipient of message {0}, which is not there",
        "SELECT message FROM queue_recipient EXCEPT SELECT id FROM queue_message",
    ),
    (
        "UIDVALIDITY {0} is above the last one given",
        "SELECT uid_validity FROM mailbox WHERE uid_validity > (SELECT last FROM uid_validity)",
    ),
)

# What holds since the second schema.
_INVARIANTS_2 = (
    (
        "mailbox {0}: its flags are said to have {1} octets and have {2}",
        """SELECT m.id, m.flag_octets AS said,
           (SELECT coalesce(sum(max(0, length(flags) - 256)), 0) FROM message WHERE mailbox = m.id) AS found
           FROM mailbox m WHERE said != found""",
    ),
)


def verify(data: Path, *, deep: bool = False, progress: Progress = lambda what, done, whole: None) -> list[str]:
    """What is wrong with the database in a data folder, in words; nothing when it is sound. `deep` reads all octets and
    compares their checksums. Reads only, and may run beside a server. What is damaged keeps nothing else from being
    looked over.

    Raises ConfigurationError when there is no database or it cannot be read.
    """
    require(data)  # SQLite removes the log that it finds beside an empty database, whoever opens it
    path = data / schema.FILE
    try:
        with closing(schema.connect_reader(path, busy_seconds=10, read_only=True, cut=True)) as connection:
            connection.execute("BEGIN")
            require_tables(connection, path)
            schema.require_known(connection, path)
            lost = _lost(Inspection(connection, data, deep, progress))
            problems = [*_guarded(_damage(connection)), *_contradictions(connection), *_guarded(lost)]
    except sqlite3.Error as error:
        raise refusal(path, error) from error
    problems = list(dict.fromkeys(problems))
    more = len(problems) - LIMIT
    return [*problems[:LIMIT], f"and {more} more"] if more > 0 else problems


def held(data: Path) -> tuple[int, int, int]:
    """How many accounts, messages and queued messages there are."""
    connection = schema.connect_reader(data / schema.FILE, busy_seconds=10, read_only=True)
    try:
        counts = [
            int(connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0])
            for table in ("account", "message", "queue_message")
        ]
    finally:
        connection.close()
    return counts[0], counts[1], counts[2]


def _damage(connection: sqlite3.Connection) -> Iterator[str]:
    for (line,) in connection.execute(f"PRAGMA quick_check({LIMIT})"):
        if line != "ok":
            yield f"SQLite: {line}"


def _contradictions(connection: sqlite3.Connection) -> Iterator[str]:
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    for text, query in _INVARIANTS + (_INVARIANTS_2 if version >= 2 else ()):
        yield from _guarded(text.format(*row) for row in _rows(connection, f"{query} LIMIT {LIMIT}"))


def _rows(connection: sqlite3.Connection, query: str) -> Iterator[tuple[object, ...]]:
    yield from connection.execute(query)


def _lost(inspection: Inspection) -> Iterator[str]:
    """Messages whose octets are missing, cut or changed. Bodies that nobody refers to are no damage: the next start
    sets them aside."""
    for damage in inspection.damages():
        for name in names(inspection.connection, damage.content) or [f"content {damage.content}"]:
            yield f"{name}: {damage.reason}"


def _guarded(problems: Iterator[str]) -> Iterator[str]:
    """As many as can be found: SQLite gives up a query at the first damaged page that it meets."""
    try:
        yield from problems
    except sqlite3.Error as error:
        if not is_damage(error):
            raise
        yield f"SQLite: {error}; not everything can be looked over (`mailhub check --repair` saves what can be read)"
