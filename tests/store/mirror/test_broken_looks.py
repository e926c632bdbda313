"""Looks at a source that fail between the list and the octets: nothing stays hidden, and nothing is added again."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from twisted.internet.defer import Deferred

from mailhub.errors import TemporaryError
from mailhub.guard import Unanswered
from mailhub.interfaces import IBody
from mailhub.store.mirror.answers import Message
from mailhub.testing.waiting import result_of
from tests.store.mirror.test_bad_answers import ANN, HELLO, NOBODY, Rig


def never(*given: object) -> Deferred[Any]:
    return Deferred()


def body(rig: Rig, octets: bytes = HELLO) -> IBody:
    writer = result_of(rig.store.account(ANN)).new_body()
    result_of(writer.write(octets))
    finished: IBody = result_of(writer.finish())
    return finished


def delivery(rig: Rig, delivery_id: str = "q1.1") -> Deferred[int]:
    return Deferred.fromCoroutine(rig.open().append(body(rig), NOBODY, 5, delivery_id))


def deliver(rig: Rig, delivery_id: str = "q1.1") -> int:
    return result_of(rig.open().append(body(rig), NOBODY, 5, delivery_id))


def fails(rig: Rig, waiting: Deferred[Any], seconds: float) -> None:
    """With a temporary error, when so much time has gone."""
    outcomes: list[Any] = []
    waiting.addBoth(outcomes.append)
    rig.clock.advance(seconds)
    assert [outcome.check(TemporaryError) for outcome in outcomes] == [TemporaryError]


def test_a_message_whose_first_reading_has_failed_is_shown_by_the_next_look() -> None:
    rig = Rig()
    rig.put(1)
    assert rig.uids() == [1]
    read, rig.store.read = rig.store.read, never
    rig.put(2)
    entries: list[Any] = []
    Deferred.fromCoroutine(rig.open().entries()).addCallback(entries.extend)
    rig.clock.advance(11)
    assert [entry.uid for entry in entries] == [1]  # as long as it has not answered what is known has to do
    rig.clock.advance(20)  # it had 30 seconds
    rig.store.read = read
    assert rig.uids() == [1, 2]


def test_a_look_that_has_failed_leaves_the_others_their_work() -> None:
    """Octets that may be others than before are looked at again, too."""
    rig = Rig(
        messages=lambda self, user, folder: [Message(key, size=len(self.mail[ANN]["INBOX"][key][0])) for key in (1,)]
    )
    rig.put(1)
    mailbox = rig.open()
    assert [entry.size for entry in result_of(mailbox.entries())] == [len(HELLO)]
    assert result_of(result_of(mailbox.open(1)).read()) == HELLO
    rig.put(1, HELLO + b"more\r\n")
    read, rig.store.read = rig.store.read, never
    Deferred.fromCoroutine(mailbox.refresh())
    rig.clock.advance(11)  # who waits goes on with what is known
    rig.clock.advance(20)
    rig.store.read = read
    result_of(mailbox.refresh())
    assert [(entry.uid, entry.size) for entry in result_of(mailbox.entries())] == [(2, len(HELLO) + 6)]


def test_a_generator_that_raises_leaves_what_was_known() -> None:
    rig = Rig()
    for key in (1, 2, 3):
        rig.put(key)
    assert rig.uids() == [1, 2, 3]

    def messages(user: str, folder: str) -> Iterator[Any]:
        yield 1
        raise OSError("row 2 is nonsense")

    whole, rig.store.messages = rig.store.messages, messages
    assert rig.uids() == [1, 2, 3]
    rig.put(4)
    rig.store.messages = whole
    assert rig.uids() == [1, 2, 3, 4]


class TestDeliveries:
    """add() has written the message, and nobody was told."""

    @pytest.fixture
    def rig(self) -> Rig:
        rig = Rig()
        self.add = rig.store.add
        self.read = rig.store.read

        def adding(*given: Any) -> Deferred[Any]:
            self.add(*given)
            return Deferred()

        rig.store.add = adding
        rig.store.read = never
        return rig

    def test_a_delivery_is_not_repeated_before_all_that_is_new_was_read(self, rig: Rig) -> None:
        fails(rig, delivery(rig), 31)
        rig.store.add = self.add
        fails(rig, delivery(rig), 31)
        rig.store.read = self.read
        assert deliver(rig) == 1
        assert rig.uids() == [1]

    def test_nor_while_one_that_came_since_cannot_be_read(self, rig: Rig) -> None:
        rig.store.read = lambda *given: 1 / 0
        fails(rig, delivery(rig), 31)
        rig.store.add = self.add
        with pytest.raises(TemporaryError):
            deliver(rig)
        rig.store.read = self.read
        with pytest.raises(TemporaryError):
            deliver(rig)  # it is not tried again so soon
        rig.clock.advance(61)
        assert deliver(rig) == 1
        assert rig.uids() == [1]

    def test_one_that_could_not_be_read_before_holds_up_no_delivery(self, rig: Rig) -> None:
        rig.put("bad")
        rig.store.read = lambda user, folder, key: 1 / 0 if key == "bad" else self.read(user, folder, key)
        assert rig.uids() == []
        rig.clock.advance(5)
        rig.store.add = lambda *given: 1 / 0
        with pytest.raises(Unanswered):
            deliver(rig)
        rig.store.add = self.add
        assert deliver(rig) == 1

    def test_another_look_that_is_still_reading_is_not_taken_for_a_whole_one(self, rig: Rig) -> None:
        reading: list[Deferred[bytes]] = []

        def read(*given: object) -> Deferred[bytes]:
            reading.append(Deferred())
            return reading[-1]

        rig.store.read = read
        fails(rig, delivery(rig), 31)
        rig.store.add = self.add
        told: list[int] = []
        delivery(rig).addCallback(told.append)
        assert not told
        assert reading
        for each in reading:
            each.callback(HELLO)
        assert told == [1]
        assert rig.uids() == [1]

    def test_one_of_its_size_that_cannot_be_read_now_may_be_it(self, rig: Rig) -> None:
        rig.store.messages = lambda user, folder: [Message(key, size=len(HELLO)) for key in rig.inbox]
        rig.store.read = lambda *given: 1 / 0
        fails(rig, delivery(rig), 31)
        rig.store.add = self.add
        with pytest.raises(TemporaryError):
            deliver(rig)
        rig.store.read = self.read
        assert deliver(rig) == 1
        assert rig.uids() == [1]
