"""MOVE where sources take their time, and where the process ends in the middle of it."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any

import pytest
from twisted.internet.defer import Deferred

from mailhub.guard import Unanswered
from mailhub.message.record import CopyResult
from mailhub.store.mirror.mailbox import MOVED
from mailhub.testing.waiting import result_of
from tests.store.mirror.test_bad_answers import ANN, NOBODY, Rig


class Moving(Rig):
    """60 messages in INBOX, and two folders beside it."""

    def __init__(self) -> None:
        super().__init__()
        self.folders = self.store.mail[ANN]
        self.folders |= {"Archive": {}, "Sent": {}}
        for number in range(60):
            self.put(f"k{number}", b"Subject: %d\r\n\r\n" % number)
        self.all = self.uids()

    def move(self, source: str, target: str) -> Coroutine[Any, Any, CopyResult]:
        """Of all there is; not begun yet."""
        mailbox = self.open(source)
        uids = [entry.uid for entry in result_of(mailbox.entries())]
        return mailbox.move(uids, self.open(target))

    def octets(self) -> list[bytes]:
        return [each[0] for folder in self.folders.values() for each in folder.values()]


def test_two_moves_of_the_same_messages_at_once_double_none() -> None:
    rig = Moving()
    waiting: list[tuple[Deferred[Any], Any]] = []
    read = rig.store.read

    def reading(*given: Any) -> Deferred[Any]:
        waiting.append((Deferred(), read(*given)))
        return waiting[-1][0]

    rig.store.read = reading
    results: list[CopyResult] = []
    for move in [rig.move("INBOX", target) for target in ("Archive", "Sent")]:
        Deferred.fromCoroutine(move).addCallback(results.append)
    while waiting:
        answer, octets = waiting.pop(0)
        answer.callback(octets)
    assert len(results) == 2
    assert sorted(uid for result in results for uid in result.source) == rig.all
    assert len(rig.octets()) == len(set(rig.octets())) == 60
    assert not rig.inbox
    for result, target in zip(results, ("Archive", "Sent"), strict=True):
        assert len(result.target) == len(result.source) == len(rig.folders[target])


def test_moves_against_each_other_do_not_wait_for_ever() -> None:
    rig = Moving()
    rig.folders["Sent"] = {f"s{number}": (b"Subject: s%d\r\n\r\n" % number, NOBODY, 0) for number in range(20)}
    waiting: list[tuple[Deferred[Any], Any]] = []
    add = rig.store.add

    def adding(*given: Any) -> Deferred[Any]:
        waiting.append((Deferred(), add(*given)))
        return waiting[-1][0]

    rig.store.add = adding
    results: list[CopyResult] = []
    for move in [rig.move("INBOX", "Sent"), rig.move("Sent", "INBOX")]:
        Deferred.fromCoroutine(move).addCallback(results.append)
    while waiting:
        answer, key = waiting.pop(0)
        answer.callback(key)
    assert sorted(len(result.source) for result in results) == [20, 60]
    assert len(rig.octets()) == len(set(rig.octets())) == 80


def test_at_no_time_are_more_than_a_few_messages_in_both_folders() -> None:
    rig = Moving()
    remove, numbers = rig.store.remove, []

    def removing(*given: Any) -> None:
        numbers.append(len(rig.octets()))
        remove(*given)

    rig.store.remove = removing
    assert len(result_of(rig.move("INBOX", "Archive")).source) == 60
    assert len(numbers) == 60
    assert max(numbers) == 60 + MOVED


def test_what_was_moved_stays_moved_when_the_rest_cannot_be() -> None:
    rig = Moving()
    add = rig.store.add
    rig.store.add = lambda *given: add(*given) if len(rig.folders["Archive"]) < 12 else 1 / 0
    with pytest.raises(Unanswered):
        result_of(rig.move("INBOX", "Archive"))
    assert len(rig.octets()) == len(set(rig.octets())) == 60
    assert len(rig.folders["Archive"]) == 2 * MOVED
