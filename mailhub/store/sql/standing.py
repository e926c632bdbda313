"""Mailboxes as they stand for messages that come in: looked up once, and known from there on by whoever adds to them.

Where one transaction writes at a time, most of those to which mail comes are known from one group of messages to the
next: to look them up would take as long as to add to them.
"""

from __future__ import annotations

import attrs

from mailhub.errors import OverQuota, PermanentError
from mailhub.message.record import LAST_UID

_MOST = 10_000  # names; beyond that all are looked up anew


@attrs.define(eq=False)
class Owner:
    """An account: its quota in octets (0: none) and, where there is one, what is used of it."""

    quota: int
    used: int


@attrs.define(eq=False)
class Place:
    """A mailbox as its row has it, and what has been added to it that the row does not have yet."""

    mailbox: int
    owner: Owner
    uid_next: int
    modseq: int
    messages: int = 0
    unseen: int = 0
    size: int = 0
    flag_octets: int = 0

    def added(self) -> tuple[int, ...]:
        """What is added to its counters, and its number."""
        count = self.messages
        return count, count, count, self.unseen, self.size, self.flag_octets, self.mailbox

    def written(self) -> None:
        """The row has all of it."""
        self.uid_next += self.messages
        self.modseq += self.messages
        self.messages = self.unseen = self.size = self.flag_octets = 0

    def check_room(self, size: int) -> None:
        """Raises OverQuota, PermanentError."""
        if self.owner.quota and self.owner.used + size > self.owner.quota:
            raise OverQuota
        if self.uid_next + self.messages + 1 > LAST_UID:
            raise PermanentError("Mailbox has used up its UIDs")


class Standing:
    """What is known of mailboxes, by account and name; and of accounts, by number. True as long as nothing else is done
    to either: then it is to be cleared, as when what was done is rolled back."""

    def __init__(self) -> None:
        self.places: dict[tuple[str, str], Place] = {}
        self.owners: dict[int, Owner] = {}

    def clear(self) -> None:
        """Nothing is known."""
        self.places.clear()
        self.owners.clear()

    def trim(self) -> None:
        """Keep within bounds. What was added must be written."""
        if len(self.places) > _MOST:
            self.clear()
