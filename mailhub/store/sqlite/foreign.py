"""What another process adds while a server runs: the table `foreign_addition` tells the server of it."""

from __future__ import annotations

from mailhub.message.flags import decode
from mailhub.message.record import Added, Entry
from mailhub.store.sql.transaction import Transaction


def note_additions(transaction: Transaction) -> None:
    """For a server that is another process: what this one has added."""
    rows = [
        (mailbox, entry.uid)
        for mailbox, change in transaction.announcements
        if isinstance(change, Added)
        for entry in change.entries
    ]
    if rows:
        transaction.execute_many("INSERT OR IGNORE INTO foreign_addition VALUES (?, ?)", rows)


def announce_additions(transaction: Transaction) -> None:
    """In the server: what another process has added."""
    if transaction.row("SELECT 1 FROM foreign_addition LIMIT 1") is None:
        return
    found: dict[int, list[Entry]] = {}
    for mailbox, uid, flags, *others in transaction.execute(
        "SELECT m.mailbox, m.uid, m.flags, m.modseq, m.size, m.internal_date, m.growth FROM foreign_addition f"
        " JOIN message m ON m.mailbox = f.mailbox AND m.uid = f.uid ORDER BY m.mailbox, m.uid"
    ):
        found.setdefault(mailbox, []).append(Entry(uid, decode(flags), *others))
    for mailbox, entries_found in found.items():
        transaction.announce(mailbox, Added(tuple(entries_found), entries_found[0].modseq - 1))
    transaction.execute("DELETE FROM foreign_addition")
