"""Announcing changes of mailboxes to the sessions that watch them. Everything here runs on the reactor thread."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial

from twisted.internet.interfaces import IReactorTime

from mailhub.log import Logger
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
    is announced of the same mailbox meanwhile waits its turn, so that everybody hears of everything in order. Other
    mailboxes do not wait: what one user does in a large one holds up nobody else's mail.
    """

    def __init__(self, clock: IReactorTime | None = None) -> None:
        self._clock = clock
        self._watches: dict[int, list[Watch]] = {}
        self._waiting: dict[int, deque[Callable[[], int]]] = {}  # steps by mailbox, in the order of their turns
        self._turn_is_due = False

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
        if self._clock is None or not (mailbox in self._waiting or _count(change) > PART):
            for watch in tuple(self._watches[mailbox]):
                self._tell(mailbox, watch, change)
            if isinstance(change, MailboxGone):
                self._forget(mailbox)
            return
        for part in _parts(change):
            for watch in self._watches[mailbox]:
                self._wait(mailbox, partial(self._tell, mailbox, watch, part))
        if isinstance(change, MailboxGone):
            self._wait(mailbox, partial(self._forget, mailbox))

    def when_told(self, mailboxes: Iterable[int] | None, call: Callable[[], object]) -> None:
        """Call when all announced so far of these mailboxes (None: of any) has been told: as a rule at once."""
        if not self._waiting:
            call()
            return
        behind = [
            mailbox for mailbox in (self._waiting if mailboxes is None else mailboxes) if mailbox in self._waiting
        ]
        if behind:
            self._wait(behind[0], partial(self._go_on, behind[1:], call))
        else:
            call()

    def _go_on(self, others: Sequence[int], call: Callable[[], object]) -> int:
        self.when_told(others, call)
        return 1

    def _wait(self, mailbox: int, step: Callable[[], int]) -> None:
        self._waiting.setdefault(mailbox, deque()).append(step)
        if not self._turn_is_due:
            self._next_turn()

    def _next_turn(self) -> None:
        assert self._clock is not None
        self._turn_is_due = True
        self._clock.callLater(0, self._turn)

    def _turn(self) -> None:
        """Tell of PART messages or a little more, a step of each mailbox in turn. A step stays in the queue while it is
        at work, so that what it announces comes behind it."""
        told = 0
        while self._waiting and told < PART:
            mailbox, steps = next(iter(self._waiting.items()))
            try:
                told += steps[0]()
            except Exception:
                log.failure("what had to follow an announcement failed")
            steps.popleft()
            del self._waiting[mailbox]
            if steps:
                self._waiting[mailbox] = steps
        self._turn_is_due = False
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
            yield Expunged(change.uids[start : start + PART], change.modseq, change.previous)
    elif isinstance(change, Added | FlagsChanged):
        for start in range(0, len(change.entries), PART):
            yield type(change)(change.entries[start : start + PART], change.previous)
