"""A maildrop as one session sees it (RFC 1939 3, 5): frozen at login, with its own deletion marks."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Mapping
from types import MappingProxyType


class NoSuchMessage(Exception):
    """There is no message of this number, or it is marked for deletion. The text is for the client."""


class NotRemovable(NoSuchMessage):
    """Nothing can be removed from this maildrop."""


_OWN: Mapping[int, str] = MappingProxyType({})


def is_unique_id(given: str) -> bool:
    """RFC 1939 7: one to 70 characters in the range 0x21 to 0x7E."""
    return 0 < len(given) <= 70 and all("!" <= character <= "~" for character in given)


class Maildrop:
    """Message numbers, sizes in octets, unique-ids and deletion marks.

    Numbers count from 1 in UID order and never change during the session. Nothing here touches a mailbox: the marks
    take effect at QUIT, by `marked()`. With `removable` false there can be none.
    """

    __slots__ = ("_deleted", "_octets", "_removable", "_sizes", "_uid_validity", "_uids", "_unique_ids")

    def __init__(
        self,
        uid_validity: int,
        messages: Iterable[tuple[int, int]],
        *,
        removable: bool = True,
        unique_ids: Mapping[int, str] = _OWN,
    ) -> None:
        """`messages` are pairs of UID and size in octets, in UID order; `unique_ids`, by UID, are those of the
        mailbox's own."""
        self._unique_ids = unique_ids
        self._removable = removable
        self._uid_validity = uid_validity
        self._uids = array("Q")
        self._sizes = array("Q")
        for uid, size in messages:
            self._uids.append(uid)
            self._sizes.append(size)
        self._octets = sum(self._sizes)
        self._deleted: set[int] = set()

    @property
    def count(self) -> int:
        """Messages not marked."""
        return len(self._uids) - len(self._deleted)

    @property
    def octets(self) -> int:
        """Their octets."""
        return self._octets

    def numbers(self) -> Iterator[int]:
        """The numbers of the messages not marked at the time each is asked for."""
        return (number for number in range(1, len(self._uids) + 1) if number not in self._deleted)

    def uid(self, number: int) -> int:
        """Raises NoSuchMessage."""
        return self._uids[self._index(number)]

    def size(self, number: int) -> int:
        """Octets. Raises NoSuchMessage."""
        return self._sizes[self._index(number)]

    def unique_id(self, number: int) -> str:
        """The same in every session, and never given to another message (RFC 1939 7 UIDL). Raises NoSuchMessage."""
        uid = self.uid(number)
        own = self._unique_ids.get(uid, "")
        return own if is_unique_id(own) else f"{self._uid_validity}.{uid}"

    def delete(self, number: int) -> None:
        """DELE: mark. Raises NoSuchMessage, NotRemovable."""
        size = self.size(number)
        if not self._removable:
            raise NotRemovable("Messages of this maildrop cannot be removed")
        self._octets -= size
        self._deleted.add(number)

    def reset(self) -> None:
        """RSET: take all marks off."""
        self._deleted.clear()
        self._octets = sum(self._sizes)

    def marked(self) -> tuple[int, ...]:
        """UIDs to be removed at QUIT, ascending."""
        return tuple(self._uids[number - 1] for number in sorted(self._deleted))

    def _index(self, number: int) -> int:
        if not 1 <= number <= len(self._uids):
            raise NoSuchMessage("No such message")
        if number in self._deleted:
            raise NoSuchMessage("Message is marked for deletion")
        return number - 1
