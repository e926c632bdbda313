"""How each mailbox spells its keywords: as the first client wrote them, whatever the case of those who come later."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Mapping

from mailhub.message.flags import NO_FLAGS, SYSTEM_FLAGS, Flags, decode, encode, respelled


def spelled(connection: sqlite3.Connection, mailbox: int, flags: Flags) -> Flags:
    """The flags as the mailbox spells them. Keywords that it has not met are remembered as they are."""
    if flags <= SYSTEM_FLAGS:
        return flags
    return respelled(flags, spelling(connection, mailbox, (flags,)))


def spelling(connection: sqlite3.Connection, mailbox: int, sets: Iterable[Flags]) -> Mapping[str, str]:
    """The mailbox's spelling of every keyword in these sets, by the name in lower case."""
    keywords = NO_FLAGS.union(*sets) - SYSTEM_FLAGS
    if not keywords:
        return {}
    chosen = json.dumps(sorted(keywords))
    known = _known(connection, mailbox, chosen)
    if len(known) < len({keyword.lower() for keyword in keywords}):
        connection.execute("INSERT OR IGNORE INTO keyword SELECT ?, value FROM json_each(?)", (mailbox, chosen))
        known = _known(connection, mailbox, chosen)
    return known


def _known(connection: sqlite3.Connection, mailbox: int, chosen: str) -> dict[str, str]:
    rows = connection.execute(
        "SELECT k.name FROM json_each(?) j JOIN keyword k ON k.mailbox = ? AND k.name = j.value", (chosen, mailbox)
    )
    return {row[0].lower(): row[0] for row in rows}


def register_keywords(connection: sqlite3.Connection) -> None:
    """For a database that has none registered: take up the keywords of all messages, and give those that differ in
    case alone one spelling in each mailbox."""
    rows = connection.execute(
        "SELECT mailbox, flags FROM message WHERE flags <> '' GROUP BY mailbox, flags ORDER BY mailbox, min(uid)"
    )
    for mailbox, text in rows.fetchall():
        flags = decode(text)
        as_spelled = spelled(connection, mailbox, flags)
        if as_spelled != flags:
            connection.execute(
                "UPDATE message SET flags = ? WHERE mailbox = ? AND flags = ?", (encode(as_spelled), mailbox, text)
            )
