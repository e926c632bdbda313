"""Messages that were expunged while sessions still count them stay readable until those are told (RFC 2180 4.1.1).

Nothing of this is in the database: the rows go at once, and so do counters and quota. What stays is the content, noted
in `released`; the sweep passes over it while it is held here, and takes it afterwards or after the next start.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence

from zope.interface import implementer

from mailhub.interfaces import IHold

SHARE = 4  # one session holds a fourth of the bounds at most


@implementer(IHold)
class Hold:
    """What one session may still ask for: the contents of expunged messages, by UID."""

    def __init__(self, held: Held, mailbox: int) -> None:
        self._held = held
        self.mailbox = mailbox
        self.octets = 0
        self.contents: dict[int, int] = {}
        self.sizes: dict[int, int] = {}

    def among(self, uids: Iterable[int]) -> Mapping[int, int]:
        """Those of the messages that are held, with their contents."""
        contents = self.contents
        return {uid: contents[uid] for uid in uids if uid in contents} if contents else {}

    def let_go(self, uids: Sequence[int]) -> None:
        """These are not asked for any more."""
        self._held.let_go(self, uids)

    def end(self) -> None:
        """Nothing is asked for any more, now and later. May be called again."""
        self._held.end(self)


class Held:
    """All that is held in a process. The writer's thread notes what a unit expunges; everything else is the reactor's.

    Bounded in octets and messages, so that sessions which never ask what is new cannot fill the disk: what is beyond
    goes at once, as if nobody counted it.
    """

    def __init__(self, octets_limit: int, messages_limit: int) -> None:
        self._octets_limit = octets_limit
        self._messages_limit = messages_limit
        self._octets = 0
        self._messages = 0
        self._lock = threading.Lock()
        self._holds: dict[int, set[Hold]] = {}
        self._holders: dict[int, int] = {}  # by content
        self.on_let_go: Callable[[], object] = lambda: None

    def hold(self, mailbox: int) -> Hold:
        """From now on, until it ends."""
        hold = Hold(self, mailbox)
        with self._lock:
            self._holds.setdefault(mailbox, set()).add(hold)
        return hold

    def note(self, mailbox: int, messages: Iterable[tuple[int, int, int]], besides: Hold | None = None) -> None:
        """These messages (UID, content, size) are being expunged by the session of `besides`, which knows.

        Should the unit fail after this, the messages are held in vain until their sessions end, and still there.
        """
        with self._lock:
            holds = [hold for hold in self._holds.get(mailbox, ()) if hold is not besides]
            if not holds:
                return
            for uid, content, size in messages:
                for hold in holds:
                    self._note(hold, uid, content, size)

    def _note(self, hold: Hold, uid: int, content: int, size: int) -> None:
        more = 0 if content in self._holders else size
        if (
            uid in hold.contents
            or self._octets + more > self._octets_limit
            or self._messages >= self._messages_limit
            or hold.octets + size > self._octets_limit // SHARE
            or len(hold.contents) >= self._messages_limit // SHARE
        ):
            return
        self._octets += more
        self._messages += 1
        self._holders[content] = self._holders.get(content, 0) + 1
        hold.octets += size
        hold.sizes[uid] = size
        hold.contents[uid] = content

    def among(self, contents: Iterable[int]) -> list[int]:
        """Those of the contents that are held."""
        with self._lock:
            holders = self._holders
            return [content for content in contents if content in holders] if holders else []

    def contents(self) -> list[int]:
        """All contents that are held."""
        with self._lock:
            return list(self._holders)

    def let_go(self, hold: Hold, uids: Iterable[int]) -> None:
        """See `Hold`."""
        with self._lock:
            freed = [self._let_go(hold, uid) for uid in uids if uid in hold.contents]
        if any(freed):
            self.on_let_go()

    def _let_go(self, hold: Hold, uid: int) -> bool:
        content, size = hold.contents.pop(uid), hold.sizes.pop(uid)
        hold.octets -= size
        self._messages -= 1
        self._holders[content] -= 1
        if self._holders[content]:
            return False
        del self._holders[content]
        self._octets -= size
        return True

    def end(self, hold: Hold) -> None:
        """See `Hold`."""
        with self._lock:
            holds = self._holds.get(hold.mailbox, set())
            holds.discard(hold)
            if not holds:
                self._holds.pop(hold.mailbox, None)
        self.let_go(hold, list(hold.contents))
