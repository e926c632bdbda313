from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.task import Clock
from twisted.logger import capturedLogs

from mailhub.message.flags import NO_FLAGS
from mailhub.message.record import Added, Change, Entry, Expunged, FlagsChanged, MailboxGone
from mailhub.store.changes import PART, Watchers

CHANGE = Expunged((1,), 2)


def test_a_watcher_that_raises_is_dropped_and_hurts_nobody() -> None:
    watchers = Watchers()
    heard: list[Change] = []

    def broken(change: Change) -> None:
        heard.append(change)
        raise ValueError

    watchers.watch(1, broken)
    watchers.watch(1, heard.append)
    watchers.announce(1, CHANGE)
    assert heard == [CHANGE, CHANGE]
    watchers.announce(1, CHANGE)
    assert len(heard) == 3
    assert watchers.watched(1)


def test_a_watcher_may_stop_itself_and_others_while_it_is_told() -> None:
    watchers = Watchers()
    heard: list[str] = []
    stops: list[Callable[[], None]] = []

    def first(change: Change) -> None:
        heard.append("first")
        for stop in stops:
            stop()

    stops.append(watchers.watch(1, first))
    stops.append(watchers.watch(1, lambda change: heard.append("second")))
    watchers.announce(1, CHANGE)
    watchers.announce(1, CHANGE)
    assert heard == ["first"]
    assert watchers.mailboxes() == []


def test_nobody_watches_a_mailbox_that_is_gone() -> None:
    watchers = Watchers()
    heard: list[Change] = []
    stop = watchers.watch(1, heard.append)
    watchers.watch(2, heard.append)
    watchers.announce(1, MailboxGone())
    watchers.announce(1, MailboxGone())
    assert heard == [MailboxGone()]
    stop()
    assert watchers.mailboxes() == [2]


def many(count: int, first: int = 1) -> tuple[Entry, ...]:
    return tuple(Entry(uid, NO_FLAGS, 2, 100, 0) for uid in range(first, first + count))


class Parts:
    """Watchers with a clock, and two who listen to mailbox 1."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.watchers = Watchers(self.clock)
        self.one: list[Change] = []
        self.two: list[Change] = []
        self.stop_one = self.watchers.watch(1, self.one.append)
        self.watchers.watch(1, self.two.append)

    def turns(self) -> int:
        """How many it takes until all is told."""
        count = 0
        while self.clock.calls:
            self.turn()
            count += 1
        return count

    def turn(self) -> None:
        """One of them: advance() would make all that are due by then."""
        call = self.clock.calls.pop(0)
        call.func(*call.args, **call.kw)


def test_large_changes_are_told_in_parts_with_turns_between_them() -> None:
    for change, join in (
        (Added(many(3 * PART)), lambda parts: Added(sum((part.entries for part in parts), ()))),
        (FlagsChanged(many(3 * PART)), lambda parts: FlagsChanged(sum((part.entries for part in parts), ()))),
        (Expunged(tuple(range(3 * PART)), 7), lambda parts: Expunged(sum((part.uids for part in parts), ()), 7)),
    ):
        parts = Parts()
        parts.watchers.announce(1, change)
        assert parts.turns() == 6
        assert len(parts.one) == len(parts.two) == 3
        assert join(parts.one) == join(parts.two) == change


def test_small_changes_are_told_at_once_unless_others_wait() -> None:
    parts = Parts()
    told: list[Any] = []
    parts.watchers.when_told((1,), lambda: told.append(list(parts.two)))
    parts.watchers.announce(1, CHANGE)
    assert (parts.two, told) == ([CHANGE], [[]])
    large = FlagsChanged(many(PART + 1))
    parts.watchers.announce(1, large)
    parts.watchers.when_told((1,), lambda: told.append(list(parts.two)))
    parts.watchers.announce(2, CHANGE)  # nobody watches that one
    parts.watchers.announce(1, Added(many(1, PART + 2)))
    assert parts.two == [CHANGE]
    parts.turns()
    assert told[1] == [CHANGE, FlagsChanged(large.entries[:PART]), FlagsChanged(large.entries[PART:])]
    assert parts.two == [*told[1], Added(many(1, PART + 2))]
    parts.watchers.announce(1, CHANGE)
    assert parts.two[-1] == CHANGE


def test_a_large_change_holds_up_its_own_mailbox_only() -> None:
    parts = Parts()
    elsewhere: list[Change] = []
    parts.watchers.watch(2, elsewhere.append)
    parts.watchers.announce(1, FlagsChanged(many(10 * PART)))
    told: list[str] = []
    parts.watchers.announce(2, CHANGE)
    parts.watchers.when_told((2,), lambda: told.append("of two"))
    parts.watchers.when_told((), lambda: told.append("of none"))
    assert (elsewhere, told) == ([CHANGE], ["of two", "of none"])
    parts.watchers.when_told((2, 1), lambda: told.append("of both"))
    parts.watchers.when_told(None, lambda: told.append("of any"))
    parts.watchers.announce(2, FlagsChanged(many(2 * PART)))
    parts.watchers.when_told((2,), lambda: told.append("of two again"))
    while len(elsewhere) < 3:
        parts.turn()
    assert len(parts.one) + len(parts.two) <= 4, "they take turns"
    parts.turns()
    assert told == ["of two", "of none", "of two again", "of both", "of any"]
    assert len(parts.one) == len(parts.two) == 10


def test_who_stops_between_two_parts_hears_no_more() -> None:
    parts = Parts()
    parts.watchers.announce(1, FlagsChanged(many(2 * PART)))
    parts.watchers.announce(1, MailboxGone())
    parts.turn()
    parts.stop_one()
    parts.turns()
    assert len(parts.one) == 1
    assert len(parts.two) == 3
    assert isinstance(parts.two[-1], MailboxGone)
    assert not parts.watchers.watched(1)


def test_trouble_between_two_parts_ends_nothing() -> None:
    parts = Parts()
    parts.watchers.announce(1, FlagsChanged(many(PART + 1)))
    parts.watchers.when_told((1,), lambda: 1 // 0)
    parts.watchers.announce(1, CHANGE)
    with capturedLogs() as logs:
        parts.turns()
    assert parts.two[-1] == CHANGE
    assert [event["log_failure"].type for event in logs] == [ZeroDivisionError]
