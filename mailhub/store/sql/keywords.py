"""Keywords: how each mailbox spells them, which is as the first client wrote them, and how many there may be."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import attrs

from mailhub.errors import TooManyKeywords
from mailhub.message.flags import NO_FLAGS, SYSTEM_FLAGS, Flags, decode, encode, respelled
from mailhub.store.sql.transaction import Snapshot, Transaction


@attrs.frozen
class Spelling:
    """How a mailbox spells some flags. `fresh` are keywords that it has not met, `unused` those that it can forget."""

    names: Mapping[str, str] = attrs.field(factory=dict)  # by the name in lower case
    fresh: Sequence[str] = ()
    unused: Sequence[str] = ()

    def of(self, flags: Flags) -> Flags:
        """These flags, spelled so."""
        return respelled(flags, self.names) if self.names else flags

    def register(self, transaction: Transaction, mailbox: int) -> None:
        """Remember what is fresh; to be called by who uses it."""
        if self.unused:
            transaction.execute(
                f"DELETE FROM keyword WHERE mailbox = ? AND name IN {transaction.dialect.texts}",
                (mailbox, transaction.many(self.unused)),
            )
        if self.fresh:
            transaction.execute_many("INSERT INTO keyword VALUES (?, ?)", [(mailbox, name) for name in self.fresh])


def look_up(snapshot: Snapshot, mailbox: int, sets: Iterable[Flags]) -> Spelling:
    """For all keywords in these sets. Nothing is written."""
    keywords = NO_FLAGS.union(*sets) - SYSTEM_FLAGS
    if not keywords:
        return Spelling()
    rows = snapshot.execute(
        f"SELECT name FROM {snapshot.dialect.texts} AS given JOIN keyword ON mailbox = ? AND name = value",
        (snapshot.many(sorted(keywords)), mailbox),
    )
    names = {row[0].lower(): row[0] for row in rows}
    fresh = []
    for keyword in sorted(keywords):
        if keyword.lower() not in names:
            names[keyword.lower()] = keyword
            fresh.append(keyword)
    return Spelling(names, fresh)


def spelling(transaction: Transaction, mailbox: int, sets: Iterable[Flags]) -> Spelling:
    """For all keywords in these sets. Nothing is written yet. Raises TooManyKeywords."""
    found = look_up(transaction, mailbox, sets)
    if found.fresh:
        limit = transaction.limits.keywords_per_mailbox
        (count,) = transaction.row("SELECT count(*) FROM keyword WHERE mailbox = ?", (mailbox,))
        if count + len(found.fresh) > limit:
            unused = _unused(transaction, mailbox, found.names)
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
    found.register(transaction, mailbox)
    return found.of(flags)


def admit_delivered(transaction: Transaction, mailbox: int, flags: Flags) -> Flags:
    """As `admit`, for mail that must not be refused for its keywords: they are left out where there is no room."""
    try:
        return admit(transaction, mailbox, flags)
    except TooManyKeywords:
        return flags & SYSTEM_FLAGS


def check_number(transaction: Transaction, flags: Flags) -> None:
    """Raises TooManyKeywords. Flags of the system always find room."""
    limit = transaction.limits.keywords_per_message
    if len(flags) > limit and len(flags - SYSTEM_FLAGS) > limit:
        raise TooManyKeywords(f"A message has {limit} keywords at most")


def _unused(snapshot: Snapshot, mailbox: int, wanted: Mapping[str, str]) -> list[str]:
    """Keywords that no message of the mailbox has any more, and that are not wanted now."""
    rows = snapshot.execute("SELECT DISTINCT flags FROM message WHERE mailbox = ? AND flags <> ''", (mailbox,))
    used = {keyword.lower() for (text,) in rows for keyword in text.split()}
    names = snapshot.execute("SELECT name FROM keyword WHERE mailbox = ?", (mailbox,))
    return [name for (name,) in names if name.lower() not in used and name.lower() not in wanted]


def register_keywords(transaction: Transaction) -> None:
    """For a database that has none registered: take up the keywords of all messages, and give those that differ in
    case alone one spelling in each mailbox."""
    for mailbox, text in transaction.rows(
        "SELECT mailbox, flags FROM message WHERE flags <> '' GROUP BY mailbox, flags ORDER BY mailbox, min(uid)"
    ):
        flags = decode(text)
        found = look_up(transaction, mailbox, (flags,))
        found.register(transaction, mailbox)
        if found.of(flags) != flags:
            transaction.execute(
                "UPDATE message SET flags = ? WHERE mailbox = ? AND flags = ?", (encode(found.of(flags)), mailbox, text)
            )
