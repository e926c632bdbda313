"""Announcing changes of mailboxes to the sessions that watch them. Everything here runs on the reactor thread."""

from __future__ import annotations

from collections.abc import Callable

from twisted.logger import Logger

from mailhub.message.record import Change, MailboxGone

log = Logger(namespace="mailhub.store")

Listener = Callable[[Change], None]


class Watch:
    """One listener on one mailbox. Equal listeners are told apart, so each watch is stopped on its own."""

    __slots__ = ("listener",)

    def __init__(self, listener: Listener) -> None:
        self.listener = listener


class Watchers:
    """Who wants to hear of which mailbox; mailboxes go by the store's own number for them."""

    def __init__(self) -> None:
        self._watches: dict[int, list[Watch]] = {}

    def watch(self, mailbox: int, listener: Listener) -> Callable[[], None]:
        """Have `listener` called with each Change from now on; the result stops it and may be called again."""
        watch = Watch(listener)
        self._watches.setdefault(mailbox, []).append(watch)
        return lambda: self._stop(mailbox, watch)

    def _stop(self, mailbox: int, watch: Watch) -> None:
        watches = self._watches.get(mailbox, [])
        if watch in watches:
            watches.remove(watch)
            if not watches:
                del self._watches[mailbox]

    def watched(self, mailbox: int) -> bool:
        """Whether anybody listens."""
        return mailbox in self._watches

    def mailboxes(self) -> list[int]:
        """All mailboxes that somebody watches."""
        return list(self._watches)

    def announce(self, mailbox: int, change: Change) -> None:
        """Tell all watchers. One that raises is logged and dropped: a broken session hurts neither the others nor the
        commit."""
        watches = self._watches.get(mailbox)
        if not watches:
            return
        for watch in tuple(watches):
            if watch not in watches:  # stopped by a listener before it
                continue
            try:
                watch.listener(change)
            except Exception:
                log.failure("watcher dropped: mailbox={mailbox}", mailbox=mailbox)
                self._stop(mailbox, watch)
        if isinstance(change, MailboxGone):
            self._watches.pop(mailbox, None)
