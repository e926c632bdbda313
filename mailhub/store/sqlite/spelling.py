"""How each mailbox spells its keywords: as the first client wrote them, whatever the case of those who come later."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Mapping, Sequence

import attrs

from mailhub.message.flags import NO_FLAGS, SYSTEM_FLAGS, Flags, decode, encode, respelled


@attrs.frozen
class Spelling:
    """How a mailbox spells some flags. `fresh` are keywords that it has not met, `unused` those that it can forget."""

    names: Mapping[str, str] = attrs.field(factory=dict)  # by the name in lower case
    fresh: Sequence[str] = ()
    unused: Sequence[str] = ()

    def of(self, flags: Flags) -> Flags:
        """These flags, spelled so."""
        return respelled(flags, self.names) if self.names else flags

    def register(self, connection: sqlite3.Connection, mailbox: int) -> None:
        """Remember what is fresh; to be called by who uses it."""
        if self.unused:
            connection.execute(
                "DELETE FROM keyword WHERE mailbox = ? AND name IN (SELECT value FROM json_each(?))",
                (mailbox, json.dumps(self.unused)),
            )
        if self.fresh:
            connection.execute(
                "INSERT INTO keyword SELECT ?, value FROM json_each(?)", (mailbox, json.dumps(self.fresh))
            )


def look_up(connection: sqlite3.Connection, mailbox: int, sets: Iterable[Flags]) -> Spelling:
    """For all keywords in these sets. Nothing is written."""
    keywords = NO_FLAGS.union(*sets) - SYSTEM_FLAGS
    if not keywords:
        return Spelling()
    rows = connection.execute(
        "SELECT k.name FROM json_each(?) j JOIN keyword k ON k.mailbox = ? AND k.name = j.value",
        (json.dumps(sorted(keywords)), mailbox),
    )
    names = {row[0].lower(): row[0] for row in rows}
    fresh = []
    for keyword in sorted(keywords):
        if keyword.lower() not in names:
            names[keyword.lower()] = keyword
            fresh.append(keyword)
    return Spelling(names, fresh)


def register_keywords(connection: sqlite3.Connection) -> None:
    """For a database that has none registered: take up the keywords of all messages, and give those that differ in
    case alone one spelling in each mailbox."""
    rows = connection.execute(
        "SELECT mailbox, flags FROM message WHERE flags <> '' GROUP BY mailbox, flags ORDER BY mailbox, min(uid)"
    )
    for mailbox, text in rows.fetchall():
        flags = decode(text)
        found = look_up(connection, mailbox, (flags,))
        found.register(connection, mailbox)
        if found.of(flags) != flags:
            connection.execute(
                "UPDATE message SET flags = ? WHERE mailbox = ? AND flags = ?", (encode(found.of(flags)), mailbox, text)
            )
