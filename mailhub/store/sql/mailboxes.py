"""The mailboxes of an account, by their names, as units of work and queries."""

from __future__ import annotations

from mailhub.errors import (
    InvalidMailboxName,
    MailboxExists,
    NoSuchMailbox,
    NoSuchUser,
    NotPermitted,
    PermanentError,
)
from mailhub.message.mailbox_names import DELIMITER, INBOX, check, normalise
from mailhub.message.record import MailboxInfo
from mailhub.store.sql.mailbox_rows import make_mailbox, remove_mailboxes, usual_use
from mailhub.store.sql.messages import move
from mailhub.store.sql.transaction import Snapshot, Transaction


def list_mailboxes(snapshot: Snapshot, account: int) -> list[MailboxInfo]:
    """In name order. Raises NoSuchUser: an account always has INBOX."""
    rows = snapshot.execute("SELECT name, special_use FROM mailbox WHERE account = ? ORDER BY name", (account,))
    found = [MailboxInfo(*row) for row in rows]
    if not found:
        raise NoSuchUser
    return found


def find_mailbox(snapshot: Snapshot, account: int, name: str) -> tuple[int, str, int, int]:
    """Number, name, UIDVALIDITY and highest mod-sequence. Raises NoSuchMailbox."""
    row = snapshot.execute(
        "SELECT id, name, uid_validity, highest_modseq FROM mailbox WHERE account = ? AND name = ?",
        (account, normalise(name)),
    ).fetchone()
    if row is None:
        raise NoSuchMailbox
    return row[0], row[1], row[2], row[3]


def create(transaction: Transaction, account: int, name: str, special_use: str, now: int) -> int:
    """A new, empty mailbox. Raises MailboxExists, InvalidMailboxName, NoSuchUser."""
    name = normalise(name)
    check(name)
    if transaction.row("SELECT 1 FROM account WHERE id = ?", (account,)) is None:
        raise NoSuchUser
    if _id(transaction, account, name) is not None:
        raise MailboxExists
    count = transaction.row("SELECT count(*) FROM mailbox WHERE account = ?", (account,))[0]
    if count >= transaction.limits.mailboxes_per_account:
        raise InvalidMailboxName("Too many mailboxes")
    return make_mailbox(transaction, account, name, special_use or usual_use(transaction, account, name), now)


def delete(transaction: Transaction, account: int, name: str) -> None:
    """With its messages. Raises NoSuchMailbox, NotPermitted."""
    name = normalise(name)
    if name == INBOX:
        raise NotPermitted("INBOX cannot be deleted")
    remove_mailboxes(transaction, [_existing(transaction, account, name)])


def rename(transaction: Transaction, account: int, old: str, new: str, now: int) -> None:
    """With inferiors; for INBOX its messages move and its inferiors stay (RFC 9051 6.3.6)."""
    old, new = normalise(old), normalise(new)
    if old == INBOX:
        target = create(transaction, account, new, "", now)
        source = _existing(transaction, account, INBOX)
        rows = transaction.execute("SELECT uid FROM message WHERE mailbox = ?", (source,)).fetchall()
        move(transaction, source, [row[0] for row in rows], target)
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


def subscribe(transaction: Transaction, account: int, name: str, subscribed: bool) -> None:
    """Raises InvalidMailboxName, NoSuchUser."""
    name = normalise(name)
    if not subscribed:
        transaction.execute("DELETE FROM subscription WHERE account = ? AND name = ?", (account, name))
        return
    check(name)
    if transaction.row("SELECT 1 FROM account WHERE id = ?", (account,)) is None:
        raise NoSuchUser
    count = transaction.row("SELECT count(*) FROM subscription WHERE account = ?", (account,))[0]
    if count >= transaction.limits.subscriptions_per_account:
        raise PermanentError("Too many subscriptions", status="5.2.0")
    transaction.execute("INSERT INTO subscription VALUES (?, ?) ON CONFLICT DO NOTHING", (account, name))


def subscriptions(snapshot: Snapshot, account: int) -> list[str]:
    """In name order."""
    rows = snapshot.execute("SELECT name FROM subscription WHERE account = ? ORDER BY name", (account,))
    return [row[0] for row in rows]


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
