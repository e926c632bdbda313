"""Rows of mailboxes come and go: for a user who asks, and with an account."""

from __future__ import annotations

from collections.abc import Sequence

from mailhub.errors import MailboxExists, NoSuchUser
from mailhub.message.record import MailboxGone
from mailhub.store.limits import USUAL_FOLDERS, USUAL_USES
from mailhub.store.sql.content import release
from mailhub.store.sql.transaction import Snapshot, Transaction

VALIDITIES_AHEAD = 1000  # UIDVALIDITYs that are given out until the common row is written again


def account_id(snapshot: Snapshot, user: str) -> int:
    """The account's number. Raises NoSuchUser."""
    row = snapshot.execute("SELECT id FROM account WHERE address = ?", (user,)).fetchone()
    if row is None:
        raise NoSuchUser
    return int(row[0])


def make_mailbox(transaction: Transaction, account: int, name: str, special_use: str, now: int) -> int:
    """The number of the new one, which is empty."""
    # Seconds since the epoch, or one more than the last one given to anybody: a mailbox that is deleted and made again
    # within one second must not look the same to a client (RFC 9051 2.3.1.1). The row of `uid_validity` is common to
    # all accounts; so it says that none above `last` was given, which is far above, and is seldom written.
    highest = transaction.dialect.greatest(
        "?", "removed + 1", "(SELECT coalesce(max(uid_validity), 0) FROM mailbox) + 1"
    )
    last, uid_validity = transaction.row(f"SELECT last, {highest} FROM uid_validity", (now,))
    while True:
        if uid_validity > last:
            last = uid_validity + VALIDITIES_AHEAD
            transaction.execute("UPDATE uid_validity SET last = ? WHERE last < ?", (last, last))
        row = transaction.row(
            "INSERT INTO mailbox (account, name, special_use, uid_validity) VALUES (?, ?, ?, ?)"
            " ON CONFLICT (uid_validity) DO NOTHING RETURNING id",
            (account, name, special_use, uid_validity),
        )
        if row is not None:
            return int(row[0])
        uid_validity += 1  # another transaction was faster


def add_account(transaction: Transaction, user: str, password_hash: str, quota: int, now: int) -> int:
    """With the usual folders. Raises MailboxExists."""
    if transaction.row("SELECT 1 FROM account WHERE address = ?", (user,)):
        raise MailboxExists("Account exists already")
    (account,) = transaction.row(
        "INSERT INTO account (address, password_hash, quota, created) VALUES (?, ?, ?, ?) RETURNING id",
        (user, password_hash, quota, now),
    )
    for name, special_use in USUAL_FOLDERS:
        make_mailbox(transaction, account, name, special_use, now)
        transaction.execute("INSERT INTO subscription VALUES (?, ?)", (account, name))
    return int(account)


def ensure_account(transaction: Transaction, user: str, now: int) -> int:
    """The account's number; it is made when missing."""
    row = transaction.row("SELECT id FROM account WHERE address = ?", (user,))
    return int(row[0]) if row else add_account(transaction, user, "", 0, now)


def usual_use(transaction: Transaction, account: int, name: str) -> str:
    """What a mailbox of this name is for, unless the account has another one for that: after DELETE Sent and CREATE
    Sent, sent mail is to be found where it was."""
    use = USUAL_USES.get(name, "")
    taken = use and transaction.row("SELECT 1 FROM mailbox WHERE account = ? AND special_use = ?", (account, use))
    return "" if taken else use


def remove_mailboxes(transaction: Transaction, mailboxes: Sequence[int]) -> None:
    """With their messages."""
    if not mailboxes:
        return
    chosen = (transaction.many(mailboxes),)
    within = f"mailbox IN {transaction.dialect.numbers}"
    contents = [row[0] for row in transaction.execute(f"SELECT DISTINCT content FROM message WHERE {within}", chosen)]
    for table in ("message", "vanished", "delivery", "keyword"):
        transaction.execute(f"DELETE FROM {table} WHERE {within}", chosen)
    gone = f"(SELECT coalesce(max(uid_validity), 0) FROM mailbox WHERE id IN {transaction.dialect.numbers})"
    transaction.execute(f"UPDATE uid_validity SET removed = {transaction.dialect.greatest('removed', gone)}", chosen)
    transaction.execute(f"DELETE FROM mailbox WHERE id IN {transaction.dialect.numbers}", chosen)
    release(transaction, contents)
    for mailbox in mailboxes:
        transaction.announce(mailbox, MailboxGone())
