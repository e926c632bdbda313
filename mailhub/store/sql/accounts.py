"""Accounts, as units of work and queries."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mailhub.errors import NoSuchUser
from mailhub.interfaces import Account
from mailhub.message.record import Quota
from mailhub.store.sql.mailbox_rows import account_id, remove_mailboxes
from mailhub.store.sql.transaction import Snapshot, Transaction

_COLUMNS = "address, password_hash, quota, enabled, created"


def find_account(snapshot: Snapshot, user: str) -> Account | None:
    """The row."""
    row = snapshot.execute(f"SELECT {_COLUMNS} FROM account WHERE address = ?", (user,)).fetchone()
    return None if row is None else _account(row)


def all_accounts(snapshot: Snapshot) -> list[Account]:
    """In address order."""
    return [_account(row) for row in snapshot.execute(f"SELECT {_COLUMNS} FROM account ORDER BY address")]


def _account(row: Sequence[Any]) -> Account:
    user, password_hash, quota, enabled, created = row
    return Account(user, password_hash, quota, bool(enabled), created)


def remove_account(transaction: Transaction, user: str) -> None:
    """With its mailboxes and messages. Raises NoSuchUser."""
    account = account_id(transaction, user)
    rows = transaction.execute("SELECT id FROM mailbox WHERE account = ? ORDER BY id", (account,)).fetchall()
    remove_mailboxes(transaction, [row[0] for row in rows])
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
    (last,) = transaction.row("INSERT INTO account_change (address) VALUES (?) RETURNING id", (user,))
    transaction.execute("DELETE FROM account_change WHERE id <= ?", (last - CHANGES_KEPT,))


def changed_accounts(snapshot: Snapshot, after: int) -> tuple[int, list[str]]:
    """The number of the last change, and whose there were after number `after`."""
    rows = snapshot.execute("SELECT id, address FROM account_change WHERE id > ? ORDER BY id", (after,)).fetchall()
    return (rows[-1][0] if rows else after), [user for _, user in rows]


def set_quota(transaction: Transaction, user: str, octets: int) -> None:
    """Raises NoSuchUser."""
    transaction.execute("UPDATE account SET quota = ? WHERE id = ?", (octets, account_id(transaction, user)))


def quota(snapshot: Snapshot, account: int) -> Quota:
    """Use and limit. Raises NoSuchUser."""
    row = snapshot.execute(
        "SELECT sum(m.size + m.flag_octets), a.quota, sum(m.messages) FROM account a JOIN mailbox m ON m.account = a.id"
        " WHERE a.id = ? GROUP BY a.id",
        (account,),
    ).fetchone()
    if row is None:
        raise NoSuchUser
    return Quota(*row)


def free_octets(snapshot: Snapshot, user: str) -> int | None:
    """What the quota leaves, None without one. Raises NoSuchUser."""
    row = snapshot.execute("SELECT id, quota FROM account WHERE address = ?", (user,)).fetchone()
    if row is None:
        raise NoSuchUser
    return int(row[1]) - quota(snapshot, row[0]).used if row[1] else None
