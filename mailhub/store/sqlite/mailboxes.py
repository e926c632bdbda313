"""Accounts and the names of their mailboxes, as units of work and queries."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

from mailhub.errors import (
    InvalidMailboxName,
    MailboxExists,
    NoSuchMailbox,
    NoSuchUser,
    NotPermitted,
    PermanentError,
)
from mailhub.interfaces import Account
from mailhub.message.mailbox_names import DELIMITER, INBOX, check, normalise
from mailhub.message.record import MailboxGone, MailboxInfo, Quota
from mailhub.store.limits import USUAL_FOLDERS, USUAL_USES, StoreLimits
from mailhub.store.sqlite.blobs import Blobs
from mailhub.store.sqlite.content import numbers, release
from mailhub.store.sqlite.messages import move
from mailhub.store.sqlite.writer import Transaction

# --- accounts --------------------------------------------------------------------------------------------------------


def account_id(source: Transaction | sqlite3.Connection, user: str) -> int:
    """The account's number. Raises NoSuchUser."""
    row = source.execute("SELECT id FROM account WHERE user = ?", (user,)).fetchone()
    if row is None:
        raise NoSuchUser
    return int(row[0])


def find_account(connection: sqlite3.Connection, user: str) -> Account | None:
    """The row."""
    row = connection.execute(
        "SELECT user, password_hash, quota, enabled FROM account WHERE user = ?", (user,)
    ).fetchone()
    return None if row is None else Account(row[0], row[1], row[2], bool(row[3]))


def all_accounts(connection: sqlite3.Connection) -> list[Account]:
    """In address order."""
    return [
        Account(user, password_hash, quota, bool(enabled))
        for user, password_hash, quota, enabled in connection.execute(
            "SELECT user, password_hash, quota, enabled FROM account ORDER BY user"
        )
    ]


def add_account(transaction: Transaction, user: str, password_hash: str, quota: int, now: int) -> int:
    """With the usual folders. Raises MailboxExists."""
    if transaction.row("SELECT 1 FROM account WHERE user = ?", (user,)):
        raise MailboxExists("Account exists already")
    cursor = transaction.execute(
        "INSERT INTO account (user, password_hash, quota) VALUES (?, ?, ?)", (user, password_hash, quota)
    )
    account = cursor.lastrowid
    assert account is not None
    for name, special_use in USUAL_FOLDERS:
        make_mailbox(transaction, account, name, special_use, now)
        transaction.execute("INSERT INTO subscription VALUES (?, ?)", (account, name))
    return account


def ensure_account(transaction: Transaction, user: str, now: int) -> int:
    """The account's number; it is made when missing."""
    row = transaction.row("SELECT id FROM account WHERE user = ?", (user,))
    return int(row[0]) if row else add_account(transaction, user, "", 0, now)


def remove_account(transaction: Transaction, blobs: Blobs, user: str) -> None:
    """With its mailboxes and messages. Raises NoSuchUser."""
    account = account_id(transaction, user)
    rows = transaction.execute("SELECT id FROM mailbox WHERE account = ? ORDER BY id", (account,)).fetchall()
    _remove_mailboxes(transaction, blobs, [row[0] for row in rows])
    transaction.execute("DELETE FROM subscription WHERE account = ?", (account,))
    transaction.execute("DELETE FROM account WHERE id = ?", (account,))
    _note_change(transaction, user)


def set_password(transaction: Transaction, user: str, password_hash: str) -> None:
    """Raises NoSuchUser."""
    transaction.execute(
        "UPDATE account SET password_hash = ? WHERE id = ?", (password_hash, account_id(transaction, user))
    )
    _note_change(transaction, user)


def set_enabled(transaction: Transaction, user: str, enabled: bool) -> None:
    """Raises NoSuchUser."""
    transaction.execute("UPDATE account SET enabled = ? WHERE id = ?", (int(enabled), account_id(transaction, user)))
    _note_change(transaction, user)


# Of changes of accounts. A server asks every second.
CHANGES_KEPT = 10_000


def _note_change(transaction: Transaction, user: str) -> None:
    """For the server, which may be another process and has sessions of that user."""
    last = transaction.execute("INSERT INTO account_change (user) VALUES (?)", (user,)).lastrowid or 0
    transaction.execute("DELETE FROM account_change WHERE id <= ?", (last - CHANGES_KEPT,))


def changed_accounts(connection: sqlite3.Connection, after: int) -> tuple[int, list[str]]:
    """The number of the last change, and whose there were after number `after`."""
    rows = connection.execute("SELECT id, user FROM account_change WHERE id > ? ORDER BY id", (after,)).fetchall()
    return (rows[-1][0] if rows else after), [user for _, user in rows]


def set_quota(transaction: Transaction, user: str, octets: int) -> None:
    """Raises NoSuchUser."""
    transaction.execute("UPDATE account SET quota = ? WHERE id = ?", (octets, account_id(transaction, user)))


def quota(connection: sqlite3.Connection, account: int) -> Quota:
    """Use and limit. Raises NoSuchUser."""
    row = connection.execute(
        "SELECT sum(m.size + m.flag_octets), a.quota, sum(m.messages) FROM account a JOIN mailbox m ON m.account = a.id"
        " WHERE a.id = ? GROUP BY a.id",
        (account,),
    ).fetchone()
    if row is None:
        raise NoSuchUser
    return Quota(*row)


def free_octets(connection: sqlite3.Connection, user: str) -> int | None:
    """What the quota leaves, None without one. Raises NoSuchUser."""
    row = connection.execute("SELECT id, quota FROM account WHERE user = ?", (user,)).fetchone()
    if row is None:
        raise NoSuchUser
    return int(row[1]) - quota(connection, row[0]).used if row[1] else None


# --- mailboxes -------------------------------------------------------------------------------------------------------


def list_mailboxes(connection: sqlite3.Connection, account: int) -> list[MailboxInfo]:
    """In name order. Raises NoSuchUser: an account always has INBOX."""
    rows = connection.execute("SELECT name, special_use FROM mailbox WHERE account = ? ORDER BY name", (account,))
    found = [MailboxInfo(*row) for row in rows]
    if not found:
        raise NoSuchUser
    return found


def find_mailbox(connection: sqlite3.Connection, account: int, name: str) -> tuple[int, str, int, int]:
    """Number, name, UIDVALIDITY and highest mod-sequence. Raises NoSuchMailbox."""
    row = connection.execute(
        "SELECT id, name, uid_validity, highest_modseq FROM mailbox WHERE account = ? AND name = ?",
        (account, normalise(name)),
    ).fetchone()
    if row is None:
        raise NoSuchMailbox
    return row[0], row[1], row[2], row[3]


def create(transaction: Transaction, settings: StoreLimits, account: int, name: str, special_use: str, now: int) -> int:
    """A new, empty mailbox. Raises MailboxExists, InvalidMailboxName, NoSuchUser."""
    name = normalise(name)
    check(name)
    if transaction.row("SELECT 1 FROM account WHERE id = ?", (account,)) is None:
        raise NoSuchUser
    if _id(transaction, account, name) is not None:
        raise MailboxExists
    count = transaction.row("SELECT count(*) FROM mailbox WHERE account = ?", (account,))[0]
    if count >= settings.mailboxes_per_account:
        raise InvalidMailboxName("Too many mailboxes")
    return make_mailbox(transaction, account, name, special_use or usual_use(transaction, account, name), now)


def usual_use(transaction: Transaction, account: int, name: str) -> str:
    """What a mailbox of this name is for, unless the account has another one for that: after DELETE Sent and CREATE
    Sent, sent mail is to be found where it was."""
    use = USUAL_USES.get(name, "")
    taken = use and transaction.row("SELECT 1 FROM mailbox WHERE account = ? AND special_use = ?", (account, use))
    return "" if taken else use


def delete(transaction: Transaction, blobs: Blobs, account: int, name: str) -> None:
    """With its messages. Raises NoSuchMailbox, NotPermitted."""
    name = normalise(name)
    if name == INBOX:
        raise NotPermitted("INBOX cannot be deleted")
    _remove_mailboxes(transaction, blobs, [_existing(transaction, account, name)])


def rename(
    transaction: Transaction, blobs: Blobs, settings: StoreLimits, account: int, old: str, new: str, now: int
) -> None:
    """With inferiors; for INBOX its messages move and its inferiors stay (RFC 9051 6.3.6)."""
    old, new = normalise(old), normalise(new)
    if old == INBOX:
        target = create(transaction, settings, account, new, "", now)
        source = _existing(transaction, account, INBOX)
        rows = transaction.execute("SELECT uid FROM message WHERE mailbox = ?", (source,)).fetchall()
        move(transaction, blobs, source, [row[0] for row in rows], target)
        return
    check(new)
    if new.startswith(old + DELIMITER):
        raise InvalidMailboxName("A mailbox cannot become its own inferior")
    moving = _with_inferiors(transaction, account, old)
    if not moving:
        raise NoSuchMailbox
    if old == new or _id(transaction, account, new) is not None:
        raise MailboxExists
    for mailbox, name in moving:
        target_name = normalise(new + name[len(old) :])
        check(target_name)
        if _id(transaction, account, target_name) is not None:
            raise MailboxExists(f"Mailbox {target_name} exists already")
        transaction.execute("UPDATE mailbox SET name = ? WHERE id = ?", (target_name, mailbox))
        if use := usual_use(transaction, account, target_name):
            transaction.execute("UPDATE mailbox SET special_use = ? WHERE id = ? AND special_use = ''", (use, mailbox))


def subscribe(transaction: Transaction, settings: StoreLimits, account: int, name: str, subscribed: bool) -> None:
    """Raises InvalidMailboxName, NoSuchUser."""
    name = normalise(name)
    if not subscribed:
        transaction.execute("DELETE FROM subscription WHERE account = ? AND name = ?", (account, name))
        return
    check(name)
    if transaction.row("SELECT 1 FROM account WHERE id = ?", (account,)) is None:
        raise NoSuchUser
    count = transaction.row("SELECT count(*) FROM subscription WHERE account = ?", (account,))[0]
    if count >= settings.subscriptions_per_account:
        raise PermanentError("Too many subscriptions", status="5.2.0")
    transaction.execute("INSERT OR IGNORE INTO subscription VALUES (?, ?)", (account, name))


def subscriptions(connection: sqlite3.Connection, account: int) -> list[str]:
    """In name order."""
    rows = connection.execute("SELECT name FROM subscription WHERE account = ? ORDER BY name", (account,))
    return [row[0] for row in rows]


def make_mailbox(transaction: Transaction, account: int, name: str, special_use: str, now: int) -> int:
    # Seconds since the epoch, or one more than the last one given to anybody: a mailbox that is deleted and made again
    # within one second must not look the same to a client (RFC 9051 2.3.1.1).
    (uid_validity,) = transaction.row("UPDATE uid_validity SET last = max(last + 1, ?) RETURNING last", (now,))
    cursor = transaction.execute(
        "INSERT INTO mailbox (account, name, special_use, uid_validity) VALUES (?, ?, ?, ?)",
        (account, name, special_use, uid_validity),
    )
    assert cursor.lastrowid is not None
    return cursor.lastrowid


def _id(transaction: Transaction, account: int, name: str) -> int | None:
    row = transaction.row("SELECT id FROM mailbox WHERE account = ? AND name = ?", (account, name))
    return None if row is None else row[0]


def _existing(transaction: Transaction, account: int, name: str) -> int:
    mailbox = _id(transaction, account, name)
    if mailbox is None:
        raise NoSuchMailbox
    return mailbox


def _with_inferiors(transaction: Transaction, account: int, name: str) -> list[tuple[int, str]]:
    """A name's mailbox, if there is one, and all below it. "0" is the character after "/"."""
    return transaction.execute(
        "SELECT id, name FROM mailbox WHERE account = ? AND (name = ? OR (name > ? AND name < ?)) ORDER BY name",
        (account, name, name + DELIMITER, name + chr(ord(DELIMITER) + 1)),
    ).fetchall()


def _remove_mailboxes(transaction: Transaction, blobs: Blobs, mailboxes: Sequence[int]) -> None:
    if not mailboxes:
        return
    chosen = (numbers(mailboxes),)
    within = "mailbox IN (SELECT value FROM json_each(?))"
    contents = [row[0] for row in transaction.execute(f"SELECT DISTINCT content FROM message WHERE {within}", chosen)]
    for table in ("message", "vanished", "delivery", "keyword"):
        transaction.execute(f"DELETE FROM {table} WHERE {within}", chosen)
    transaction.execute("DELETE FROM mailbox WHERE id IN (SELECT value FROM json_each(?))", chosen)
    release(transaction, blobs, contents)
    for mailbox in mailboxes:
        transaction.announce(mailbox, MailboxGone())
