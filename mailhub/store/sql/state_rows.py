"""The table `state`: units of work that keep it within its bounds."""

from __future__ import annotations

from mailhub.store.sql.transaction import Transaction
from mailhub.store.state_rules import ENTRIES, ENTRIES_LEFT


def forget(transaction: Transaction, now: int) -> None:
    """What nobody wants to know any more, of all parts."""
    transaction.execute("DELETE FROM state WHERE expires <= ?", (now,))


def _count(transaction: Transaction, part: str) -> int:
    return int(transaction.row("SELECT count(*) FROM state WHERE part = ?", (part,))[0])


def make_room(transaction: Transaction, part: str, now: int) -> int:
    """Keep the part within its bound; how many entries it has."""
    if (count := _count(transaction, part)) <= ENTRIES:
        return count
    forget(transaction, now)
    if (count := _count(transaction, part)) <= ENTRIES:
        return count
    transaction.execute(
        "DELETE FROM state WHERE part = ? AND name IN"
        " (SELECT name FROM state WHERE part = ? ORDER BY expires IS NULL, expires, name LIMIT ?)",
        (part, part, count - ENTRIES_LEFT),
    )
    return ENTRIES_LEFT
