"""Messages that one session removes while others count them stay readable for those (RFC 2180 4.1.1).

The source has them no more, so their octets are kept in memory, within bounds; what is beyond is gone at once. What
others remove from the source itself, behind our back, cannot be kept.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from zope.interface import implementer

from mailhub.interfaces import IHold

OCTETS = 32 << 20  # for all sessions of a store, and
SHARE = 4  # a fourth of it for one
MESSAGES = 10_000  # for one session


@implementer(IHold)
class Hold:
    """What one session may still ask for: octets of removed messages, by UID."""

    def __init__(self, kept: Kept, folder: int) -> None:
        self._kept = kept
        self.folder = folder
        self.octets: dict[int, bytes] = {}
        self.size = 0

    def let_go(self, uids: Sequence[int]) -> None:
        """These are not asked for any more."""
        if self.octets:
            for uid in uids:
                self._kept.free(self, uid)

    def end(self) -> None:
        """Nothing is asked for any more, now and later. May be called again."""
        self.let_go(list(self.octets))
        self._kept.forget(self)


class Kept:
    """All that is held in a store."""

    def __init__(self) -> None:
        self._size = 0
        self._holds: dict[int, set[Hold]] = {}

    def hold(self, folder: int) -> Hold:
        """From now on, until it ends."""
        hold = Hold(self, folder)
        self._holds.setdefault(folder, set()).add(hold)
        return hold

    def wanted(self, folder: int, besides: Hold | None) -> bool:
        """Whether anybody else counts the folder's messages, and there is room."""
        return self._size < OCTETS and bool(self._holds.get(folder, set()) - {besides})

    def keep(self, folder: int, octets: Mapping[int, bytes], besides: Hold | None) -> None:
        """These messages are removed by the session of `besides`, which knows."""
        for hold in self._holds.get(folder, set()) - {besides}:
            for uid, each in octets.items():
                room = self._size + len(each) <= OCTETS and hold.size + len(each) <= OCTETS // SHARE
                if room and uid not in hold.octets and len(hold.octets) < MESSAGES:
                    hold.octets[uid] = each
                    hold.size += len(each)
                    self._size += len(each)

    def free(self, hold: Hold, uid: int) -> None:
        """One message."""
        each = hold.octets.pop(uid, None)
        if each is not None:
            hold.size -= len(each)
            self._size -= len(each)

    def forget(self, hold: Hold) -> None:
        """See `Hold.end`."""
        holds = self._holds.get(hold.folder, set())
        holds.discard(hold)
        if not holds:
            self._holds.pop(hold.folder, None)
