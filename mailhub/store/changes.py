"""Announcing changes of mailboxes to the sessions that watch them. Everything here runs on the reactor thread."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from functools import partial

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from mailhub.message.record import Added, Change, Expunged, FlagsChanged, MailboxGone

log = Logger(namespace="mailhub.store")

PART = 5000  # messages told of in one turn of the reactor

Listener = Callable[[Change], None]


class Watch:
    """One listener on one mailbox. Equal listeners are told apart, so each watch is stopped on its own."""

    __slots__ = ("listener",)

    def __init__(self, listener: Listener) -> None:
        self.listener = listener


class Watchers:
    """Who wants to hear of which mailbox; mailboxes go by the store's own number for them.

    With a `clock` a change of very many messages is announced in parts, and others are served between two of them; what
    is announced meanwhile waits its turn, so that everybody hears of everything in order.
    """

    def __init__(self, clock: IReactorTime | None = None) -> None:
        self._clock = clock
        self._watches: dict[int, list[Watch]] = {}
        self._waiting: deque[Callable[[], int]] = deque()

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
        if mailbox not in self._watches:
            return
        if self._clock is None or not (self._waiting or _count(change) > PART):
            for watch in tuple(self._watches[mailbox]):
                self._tell(mailbox, watch, change)
            if isinstance(change, MailboxGone):
                self._forget(mailbox)
            return
        for part in _parts(change):
            for watch in self._watches[mailbox]:
                self._wait(partial(self._tell, mailbox, watch, part))
        if isinstance(change, MailboxGone):
            self._wait(partial(self._forget, mailbox))

    def when_told(self, call: Callable[[], object]) -> None:
        """Call when all that was announced so far has been told: as a rule at once."""

        if not self._waiting:
            call()
            return

        def step() -> int:
            call()
            return 1

        self._wait(step)

    def _wait(self, step: Callable[[], int]) -> None:
        self._waiting.append(step)
        if len(self._waiting) == 1:
            self._next_turn()

    def _next_turn(self) -> None:
        assert self._clock is not None
        self._clock.callLater(0, self._turn)

    def _turn(self) -> None:
        """Tell of PART messages or a little more. A step stays in the queue while it is at work, so that what it
        announces comes behind it."""
        told = 0
        while self._waiting and told < PART:
            try:
                told += self._waiting[0]()
            except Exception:
                log.failure("what had to follow an announcement failed")
            self._waiting.popleft()
        if self._waiting:
            self._next_turn()

    def _tell(self, mailbox: int, watch: Watch, change: Change) -> int:
        if watch in self._watches.get(mailbox, ()):  # or else it was stopped meanwhile
            try:
                watch.listener(change)
            except Exception:
                log.failure("watcher dropped: mailbox={mailbox}", mailbox=mailbox)
                self._stop(mailbox, watch)
        return _count(change)

    def _forget(self, mailbox: int) -> int:
        self._watches.pop(mailbox, None)
        return 1


def _count(change: Change) -> int:
    """How many messages it is about."""
    if isinstance(change, Added | FlagsChanged):
        return len(change.entries)
    return len(change.uids) if isinstance(change, Expunged) else 1


def _parts(change: Change) -> Iterator[Change]:
    if _count(change) <= PART:
        yield change
    elif isinstance(change, Expunged):
        for start in range(0, len(change.uids), PART):
            yield Expunged(change.uids[start : start + PART], change.modseq)
    elif isinstance(change, Added | FlagsChanged):
        for start in range(0, len(change.entries), PART):
            yield type(change)(change.entries[start : start + PART])
