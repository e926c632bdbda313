"""The tables, their version, and how an older database becomes a newer one."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

from mailhub.errors import ConfigurationError
from mailhub.interfaces import Route
from mailhub.message.address import Address
from mailhub.message.envelope import State
from mailhub.store.sql.keywords import register_keywords
from mailhub.store.sqlite.dialect import on

FILE = "mailhub.sqlite"  # the database's name in the data folder
OLDEST_SQLITE = (3, 37, 0)  # STRICT tables, RETURNING
PAGE_CACHE_KIB = 16 * 1024
STATEMENTS = 256  # kept ready by each connection
CHECKPOINT_PAGES = 4000  # of 4 KiB: the write-ahead log is folded back every 16 MiB
LOG_LIMIT_OCTETS = 64 * 1024 * 1024  # what stays of the log's file after a burst

# References are not counted: a content is in use while a row of message or queue_message names it, and both have an
# index that says so. A counter would stand in a row of its own beside the octets, and could be wrong.
# What an account uses is not stored either, but added up from its mailboxes where there is a quota to keep.
# Numbers of accounts and mailboxes are never used twice (AUTOINCREMENT): sessions and caches know them by number. Nor,
# since the fourth schema, those of the queue's rows: claims and the operator's commands do.
# A content's checksum is the CRC-32 of its octets: against decay, not against people. Contents of the first schema have
# none until `mailhub check --deep --repair` has read them.
# Foreign keys are not declared: every delete of a parent is one place in the code, and to check them costs.
VERSION_1 = """
CREATE TABLE account (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  user TEXT NOT NULL UNIQUE,
  password_hash TEXT NOT NULL,
  quota INTEGER NOT NULL,
  enabled INTEGER NOT NULL DEFAULT 1
) STRICT;
CREATE TABLE mailbox (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  account INTEGER NOT NULL,
  name TEXT NOT NULL,
  special_use TEXT NOT NULL,
  uid_validity INTEGER NOT NULL UNIQUE,
  uid_next INTEGER NOT NULL DEFAULT 1,
  highest_modseq INTEGER NOT NULL DEFAULT 1,
  messages INTEGER NOT NULL DEFAULT 0,
  unseen INTEGER NOT NULL DEFAULT 0,
  size INTEGER NOT NULL DEFAULT 0,
  UNIQUE (account, name)
) STRICT;
CREATE TABLE uid_validity (last INTEGER NOT NULL) STRICT;
INSERT INTO uid_validity VALUES (0);
CREATE TABLE subscription (
  account INTEGER NOT NULL, name TEXT NOT NULL, PRIMARY KEY (account, name)
) STRICT, WITHOUT ROWID;
CREATE TABLE content (
  id INTEGER PRIMARY KEY,
  size INTEGER NOT NULL,
  header_size INTEGER NOT NULL,
  sent INTEGER NOT NULL,
  envelope BLOB NOT NULL,
  bodystructure BLOB NOT NULL,
  parts BLOB NOT NULL,
  fields BLOB NOT NULL,
  subject TEXT NOT NULL,
  sender TEXT NOT NULL,
  message_id TEXT NOT NULL,
  preview TEXT NOT NULL,
  blob TEXT,
  octets BLOB
) STRICT;
CREATE UNIQUE INDEX content_blob ON content (blob) WHERE blob IS NOT NULL;
CREATE TABLE message (
  mailbox INTEGER NOT NULL,
  uid INTEGER NOT NULL,
  content INTEGER NOT NULL,
  flags TEXT NOT NULL,
  modseq INTEGER NOT NULL,
  size INTEGER NOT NULL,
  internal_date INTEGER NOT NULL,
  PRIMARY KEY (mailbox, uid)
) STRICT, WITHOUT ROWID;
CREATE INDEX message_content ON message (content);
CREATE TABLE vanished (
  mailbox INTEGER NOT NULL, modseq INTEGER NOT NULL, first INTEGER NOT NULL, last INTEGER NOT NULL,
  PRIMARY KEY (mailbox, modseq, first)
) STRICT, WITHOUT ROWID;
CREATE TABLE released (content INTEGER PRIMARY KEY) STRICT;
CREATE TABLE delivery (
  mailbox INTEGER NOT NULL, id TEXT NOT NULL, uid INTEGER NOT NULL, at INTEGER NOT NULL, PRIMARY KEY (mailbox, id)
) STRICT, WITHOUT ROWID;
CREATE INDEX delivery_at ON delivery (at);
CREATE TABLE queue_message (
  number INTEGER PRIMARY KEY,
  id TEXT NOT NULL UNIQUE,
  content INTEGER NOT NULL,
  relay_offset INTEGER NOT NULL,
  reverse_path TEXT,
  body_type TEXT NOT NULL,
  smtputf8 INTEGER NOT NULL,
  queued_at INTEGER NOT NULL
) STRICT;
CREATE INDEX queue_message_content ON queue_message (content);
CREATE TABLE queue_recipient (
  id INTEGER PRIMARY KEY,
  message TEXT NOT NULL,
  agent TEXT NOT NULL,
  local TEXT NOT NULL,
  domain TEXT NOT NULL,
  target TEXT NOT NULL,
  attempts INTEGER NOT NULL,
  due INTEGER NOT NULL,
  state TEXT,
  status TEXT NOT NULL DEFAULT '',
  reply TEXT NOT NULL DEFAULT '',
  remote TEXT NOT NULL DEFAULT ''
) STRICT;
CREATE INDEX queue_recipient_message ON queue_recipient (message);
CREATE INDEX queue_recipient_due ON queue_recipient (due);
"""

# One step for all that the second schema brings.
VERSION_2 = """
ALTER TABLE content ADD COLUMN checksum INTEGER;
CREATE TABLE local_domain (name TEXT PRIMARY KEY) STRICT, WITHOUT ROWID;
CREATE TABLE local_alias (
  id INTEGER PRIMARY KEY, name TEXT NOT NULL, target TEXT NOT NULL, UNIQUE (name, target)
) STRICT;
CREATE TABLE local_names_version (number INTEGER NOT NULL) STRICT;
INSERT INTO local_names_version VALUES (0);
CREATE TABLE keyword (
  mailbox INTEGER NOT NULL, name TEXT NOT NULL COLLATE NOCASE, PRIMARY KEY (mailbox, name)
) STRICT, WITHOUT ROWID;
ALTER TABLE queue_recipient ADD COLUMN source TEXT NOT NULL DEFAULT '';
ALTER TABLE queue_recipient ADD COLUMN via TEXT NOT NULL DEFAULT '';
CREATE TABLE foreign_addition (
  mailbox INTEGER NOT NULL, uid INTEGER NOT NULL, PRIMARY KEY (mailbox, uid)
) STRICT, WITHOUT ROWID;
ALTER TABLE mailbox ADD COLUMN flag_octets INTEGER NOT NULL DEFAULT 0;
UPDATE mailbox SET flag_octets =
  (SELECT coalesce(sum(max(0, length(message.flags) - 256)), 0) FROM message WHERE message.mailbox = mailbox.id);
ALTER TABLE message ADD COLUMN growth INTEGER NOT NULL DEFAULT 0;
CREATE TABLE account_change (id INTEGER PRIMARY KEY AUTOINCREMENT, user TEXT NOT NULL) STRICT;
"""

# One step for all that the third schema brings. A row's own reverse-path is NULL where it is the message's.
# A message that is a file starts somewhere in it: what is before, where its head may have gone, is a hole.
# No column is called user any more: not every engine takes that for a column.
VERSION_3 = """
ALTER TABLE uid_validity ADD COLUMN removed INTEGER NOT NULL DEFAULT 0;
UPDATE uid_validity SET removed = last;
ALTER TABLE content ADD COLUMN start INTEGER NOT NULL DEFAULT 0;
CREATE TABLE departed (content INTEGER PRIMARY KEY, size INTEGER NOT NULL, checksum INTEGER) STRICT;
CREATE TABLE refusal (
  submission TEXT NOT NULL, deposit INTEGER NOT NULL, status TEXT NOT NULL, reply TEXT NOT NULL,
  PRIMARY KEY (submission, deposit)
) STRICT, WITHOUT ROWID;
ALTER TABLE account RENAME COLUMN user TO address;
ALTER TABLE account_change RENAME COLUMN user TO address;
ALTER TABLE queue_message ADD COLUMN parameters TEXT NOT NULL DEFAULT '';
ALTER TABLE queue_message ADD COLUMN needs INTEGER;
ALTER TABLE queue_recipient ADD COLUMN reverse_path TEXT;
ALTER TABLE queue_recipient ADD COLUMN mailbox TEXT NOT NULL DEFAULT '';
ALTER TABLE queue_recipient ADD COLUMN flags TEXT NOT NULL DEFAULT '';
ALTER TABLE queue_recipient ADD COLUMN originals TEXT NOT NULL DEFAULT '';
ALTER TABLE queue_recipient ADD COLUMN destination TEXT NOT NULL DEFAULT '';
ALTER TABLE queue_recipient ADD COLUMN protocol TEXT NOT NULL DEFAULT '';
ALTER TABLE queue_recipient ADD COLUMN tls TEXT NOT NULL DEFAULT '';
CREATE INDEX queue_recipient_destination ON queue_recipient (destination, due);
"""

# One step for all that the fourth schema brings. What is remembered for ever expires NULL. A row of the queue that the
# operator holds is due at no time; `held` is when it would be, NULL for a row that is not held. `of_sender` is 1 where
# its own reverse-path is one that the sender has asked for.
VERSION_4 = """
CREATE TABLE state (
  part TEXT NOT NULL, name TEXT NOT NULL, value BLOB NOT NULL, expires INTEGER, PRIMARY KEY (part, name)
) STRICT, WITHOUT ROWID;
CREATE INDEX state_expires ON state (expires) WHERE expires IS NOT NULL;
ALTER TABLE account ADD COLUMN created INTEGER NOT NULL DEFAULT 0;
ALTER TABLE queue_message ADD COLUMN submitter TEXT NOT NULL DEFAULT '';
ALTER TABLE queue_message ADD COLUMN not_before INTEGER NOT NULL DEFAULT 0;
CREATE TABLE queue_row (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  message TEXT NOT NULL,
  agent TEXT NOT NULL,
  local TEXT NOT NULL,
  domain TEXT NOT NULL,
  target TEXT NOT NULL,
  attempts INTEGER NOT NULL,
  due INTEGER NOT NULL,
  state TEXT,
  status TEXT NOT NULL DEFAULT '',
  reply TEXT NOT NULL DEFAULT '',
  remote TEXT NOT NULL DEFAULT '',
  source TEXT NOT NULL DEFAULT '',
  via TEXT NOT NULL DEFAULT '',
  reverse_path TEXT,
  mailbox TEXT NOT NULL DEFAULT '',
  flags TEXT NOT NULL DEFAULT '',
  originals TEXT NOT NULL DEFAULT '',
  destination TEXT NOT NULL DEFAULT '',
  protocol TEXT NOT NULL DEFAULT '',
  tls TEXT NOT NULL DEFAULT '',
  priority INTEGER NOT NULL DEFAULT 0,
  held INTEGER,
  tried INTEGER NOT NULL DEFAULT 0,
  warned INTEGER NOT NULL DEFAULT 0,
  of_sender INTEGER NOT NULL DEFAULT 0
) STRICT;
INSERT INTO queue_row (id, message, agent, local, domain, target, attempts, due, state, status, reply, remote, source,
  via, reverse_path, mailbox, flags, originals, destination, protocol, tls)
  SELECT id, message, agent, local, domain, target, attempts, due, state, status, reply, remote, source,
  via, reverse_path, mailbox, flags, originals, destination, protocol, tls FROM queue_recipient;
DROP TABLE queue_recipient;
ALTER TABLE queue_row RENAME TO queue_recipient;
CREATE INDEX queue_recipient_message ON queue_recipient (message);
CREATE INDEX queue_recipient_due ON queue_recipient (due);
CREATE TABLE domain_alias (name TEXT PRIMARY KEY, same_as TEXT NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE mailing_list (address TEXT PRIMARY KEY, settings TEXT NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE list_member (
  list TEXT NOT NULL, member TEXT NOT NULL, address TEXT NOT NULL, PRIMARY KEY (list, member)
) STRICT, WITHOUT ROWID;
CREATE INDEX queue_recipient_turn ON queue_recipient (destination, priority, due);
CREATE INDEX queue_recipient_urgent ON queue_recipient (due) WHERE priority > 0;
"""

VERSION_5 = """
ALTER TABLE queue_recipient ADD COLUMN turns INTEGER NOT NULL DEFAULT 0;
UPDATE queue_recipient SET turns = attempts;
"""

Migration = Callable[[sqlite3.Connection], None]


def run_script(connection: sqlite3.Connection, script: str) -> None:
    """Execute statements one by one: `executescript` would commit the transaction that it is called in."""
    for statement in script.split(";"):
        if statement.strip():
            connection.execute(statement)


def _version_1(connection: sqlite3.Connection) -> None:
    run_script(connection, VERSION_1)


def _version_2(connection: sqlite3.Connection) -> None:
    run_script(connection, VERSION_2)
    register_keywords(on(connection))


def _version_3(connection: sqlite3.Connection) -> None:
    run_script(connection, VERSION_3)
    rows = connection.execute("SELECT agent, local, domain, target, state, id FROM queue_recipient").fetchall()
    connection.executemany(
        "UPDATE queue_recipient SET destination = ? WHERE id = ?",
        [
            (Route(agent, Address(local, domain), target).destination, number)
            for agent, local, domain, target, state, number in rows
            if state != State.FAILED.value
        ],
    )


def _version_4(connection: sqlite3.Connection) -> None:
    run_script(connection, VERSION_4)


def _version_5(connection: sqlite3.Connection) -> None:
    run_script(connection, VERSION_5)


MIGRATIONS: Sequence[Migration] = (_version_1, _version_2, _version_3, _version_4, _version_5)
"""Step n brings a database of version n to version n + 1. Each is one transaction together with the new version."""


OpenMode = Literal["ro", "rw", "rwc"]


def connect(
    path: Path, busy_seconds: float, durable: bool = True, mode: OpenMode = "rw", *, cut: bool = False
) -> sqlite3.Connection:
    """A connection with our settings; transactions are begun and ended by hand. Only "rwc" makes a database. With `cut`
    a file that is shorter than it says is read as far as it goes; else SQLite reads nothing of it."""
    address = f"{path.absolute().as_uri()}?mode={mode}"
    connection = sqlite3.connect(
        address,
        timeout=busy_seconds,
        isolation_level=None,
        check_same_thread=False,
        cached_statements=STATEMENTS,
        uri=True,
    )
    if cut:
        connection.execute("PRAGMA writable_schema = ON")  # so named for something else
    connection.execute(f"PRAGMA cache_size = -{PAGE_CACHE_KIB}")
    connection.execute(f"PRAGMA synchronous = {'FULL' if durable else 'OFF'}")
    connection.execute("PRAGMA temp_store = MEMORY")
    return connection


def connect_writer(
    path: Path, busy_seconds: float, durable: bool = True, *, create: bool = False
) -> sqlite3.Connection:
    """The writing connection."""
    connection = connect(path, busy_seconds, durable, "rwc" if create else "rw")
    try:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute(f"PRAGMA wal_autocheckpoint = {CHECKPOINT_PAGES}")
        connection.execute(f"PRAGMA journal_size_limit = {LOG_LIMIT_OCTETS}")
    except BaseException:
        connection.close()
        raise
    return connection


def connect_reader(
    path: Path, busy_seconds: float, *, read_only: bool = False, cut: bool = False
) -> sqlite3.Connection:
    """A connection that cannot write. With `read_only` it does not even fold a log back that a killed server left; it
    sees what is in it all the same."""
    connection = connect(path, busy_seconds, mode="ro" if read_only else "rw", cut=cut)
    connection.execute("PRAGMA query_only = ON")
    return connection


def address_column(connection: sqlite3.Connection) -> str:
    """What a database that may be of an older schema calls the address of an account."""
    columns = {row[1] for row in connection.execute("PRAGMA table_info(account)")}
    return "address" if "address" in columns else "user"


def require_known(connection: sqlite3.Connection, path: Path) -> None:
    """Raises ConfigurationError for a database of a newer mailhub, or not one of ours."""
    if not _version(connection, path, len(MIGRATIONS)):
        raise ConfigurationError(f"{path}: has no tables")


def require_current(connection: sqlite3.Connection, path: Path) -> None:
    """Raises ConfigurationError for a database that is not of our version: whoever only reads cannot mend that."""
    if _version(connection, path, len(MIGRATIONS)) < len(MIGRATIONS):
        raise ConfigurationError(
            f"{path}: was written by an older mailhub; the server's next start brings it up to date"
        )


def migrate(connection: sqlite3.Connection, path: Path, migrations: Sequence[Migration] = MIGRATIONS) -> None:
    """Bring the database up to date. Killed between any two steps it is at one version or the next, and the following
    start goes on from there. Raises ConfigurationError for a database of a newer mailhub, or not one of ours."""
    if sqlite3.sqlite_version_info < OLDEST_SQLITE:
        needed = ".".join(map(str, OLDEST_SQLITE))
        raise ConfigurationError(f"SQLite {sqlite3.sqlite_version} is too old: mailhub needs {needed} or newer")
    while (version := _version(connection, path, len(migrations))) < len(migrations):
        connection.execute("BEGIN IMMEDIATE")
        try:
            # Another process may have taken this step while we waited for the lock.
            if _version(connection, path, len(migrations)) == version:
                migrations[version](connection)
                connection.execute(f"PRAGMA user_version = {version + 1}")
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise


def _version(connection: sqlite3.Connection, path: Path, known: int) -> int:
    version = int(connection.execute("PRAGMA user_version").fetchone()[0])
    if version > known:
        raise ConfigurationError(
            f"{path}: was written by a newer mailhub (schema {version}; this one knows up to {known}); "
            "please install that version or newer"
        )
    if version == 0 and connection.execute("SELECT 1 FROM sqlite_schema LIMIT 1").fetchone():
        raise ConfigurationError(f"{path}: is an SQLite database, but not one of mailhub's")
    return version
