"""What was committed last, for a start after the process was killed: whoever brought it may not have been told."""

from __future__ import annotations

from mailhub.interfaces import STORE, IBlobReader, Latest
from mailhub.message.address import Address
from mailhub.store.queue_ids import MOST, first_number, seconds_of
from mailhub.store.sql.content import open_content
from mailhub.store.sql.transaction import Snapshot


def latest(snapshot: Snapshot, now: int, seconds: int, limit: int) -> list[Latest]:
    """See `IDatabase.latest`. Contents are numbered by time. Where the clock was set back, those with the highest
    numbers are not the newest, and so those before `now` are looked at, too."""
    found: dict[int, Latest] = {}
    for bound in (first_number(now + 1), MOST):
        newest = 0
        for (number,) in snapshot.rows("SELECT id FROM content WHERE id < ? ORDER BY id DESC LIMIT ?", (bound, limit)):
            newest = newest or seconds_of(number)
            if seconds_of(number) < newest - seconds:
                break
            if number not in found:
                found[number] = Latest(number, _places(snapshot, number))
    return list(found.values())[:limit]


def _places(snapshot: Snapshot, number: int) -> frozenset[str]:
    mailboxes = snapshot.rows(
        "SELECT a.address FROM message m JOIN mailbox b ON b.id = m.mailbox JOIN account a ON a.id = b.account"
        " WHERE m.content = ?",
        (number,),
    )
    queued = snapshot.rows(
        "SELECT r.agent, r.target, r.local, r.domain FROM queue_message q JOIN queue_recipient r ON r.message = q.id"
        " WHERE q.content = ?",
        (number,),
    )
    return frozenset(user for (user,) in mailboxes) | {
        target if agent == STORE else str(Address(local, domain)) for agent, target, local, domain in queued
    }


def open_latest(snapshot: Snapshot, number: int) -> IBlobReader:
    """See `IDatabase.open_latest`."""
    columns = "SELECT size, blob, start, octets, checksum FROM content WHERE id = ?"
    return open_content(snapshot.row(columns, (number,)), snapshot.files)
