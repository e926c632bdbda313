"""How many keywords a message and a mailbox may have."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping

import attrs

from mailhub.errors import TooManyKeywords
from mailhub.message.flags import SYSTEM_FLAGS, Flags
from mailhub.store.sqlite.spelling import Spelling, look_up
from mailhub.store.sqlite.writer import Transaction


def spelling(transaction: Transaction, mailbox: int, sets: Iterable[Flags]) -> Spelling:
    """For all keywords in these sets. Nothing is written yet. Raises TooManyKeywords."""
    found = look_up(transaction.connection, mailbox, sets)
    if found.fresh:
        limit = transaction.settings.keywords_per_mailbox
        (count,) = transaction.row("SELECT count(*) FROM keyword WHERE mailbox = ?", (mailbox,))
        if count + len(found.fresh) > limit:
            unused = _unused(transaction.connection, mailbox, found.names)
            if count - len(unused) + len(found.fresh) > limit:
                raise TooManyKeywords(f"A mailbox has {limit} different keywords at most")
            return attrs.evolve(found, unused=unused)
    return found


def admit(transaction: Transaction, mailbox: int, flags: Flags) -> Flags:
    """The flags of a message that comes in, as the mailbox spells and now remembers them. Raises TooManyKeywords."""
    if flags <= SYSTEM_FLAGS:
        return flags
    check_number(transaction, flags)
    found = spelling(transaction, mailbox, (flags,))
    found.register(transaction.connection, mailbox)
    return found.of(flags)


def admit_delivered(transaction: Transaction, mailbox: int, flags: Flags) -> Flags:
    """As `admit`, for mail that must not be refused for its keywords: they are left out where there is no room."""
    try:
        return admit(transaction, mailbox, flags)
    except TooManyKeywords:
        return flags & SYSTEM_FLAGS


def check_number(transaction: Transaction, flags: Flags) -> None:
    """Raises TooManyKeywords. Flags of the system always find room."""
    limit = transaction.settings.keywords_per_message
    if len(flags) > limit and len(flags - SYSTEM_FLAGS) > limit:
        raise TooManyKeywords(f"A message has {limit} keywords at most")


def _unused(connection: sqlite3.Connection, mailbox: int, wanted: Mapping[str, str]) -> list[str]:
    """Keywords that no message of the mailbox has any more, and that are not wanted now."""
    rows = connection.execute("SELECT DISTINCT flags FROM message WHERE mailbox = ? AND flags <> ''", (mailbox,))
    used = {keyword.lower() for (text,) in rows for keyword in text.split()}
    names = connection.execute("SELECT name FROM keyword WHERE mailbox = ?", (mailbox,))
    return [name for (name,) in names if name.lower() not in used and name.lower() not in wanted]
