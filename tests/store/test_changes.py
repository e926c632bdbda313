from __future__ import annotations

from collections.abc import Callable

from mailhub.message.record import Change, Expunged, MailboxGone
from mailhub.store.changes import Watchers

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
