"""What is claimed from memory, and when the database is asked instead."""

from __future__ import annotations

from collections.abc import Container, Sequence

from mailhub.interfaces import QueuedMessage, QueuedRecipient, Route
from mailhub.message.address import Address
from mailhub.message.envelope import Mail
from mailhub.store.arrivals import Arrival, Arrivals, Rest

NOW = 1000
NOTHING: frozenset[int] = frozenset()


def arrival(number: int, destination: str = "one", rows: int = 1) -> Arrival:
    route = Route("smtp", Address("q", "zz.example"), destination)
    recipients = tuple(QueuedRecipient(100 * number + row, route, 0, NOW) for row in range(rows))
    return Arrival(destination, QueuedMessage(str(number), Mail(None), NOW, 1, recipients))


class Case:
    """One to which the database has just said that nothing is due before the moment `next_due`."""

    def __init__(self, next_due: int | None = NOW + 10) -> None:
        self.seconds = 0.0
        self.after = ""
        self.arrivals = Arrivals(lambda: self.seconds)
        self.arrivals.ask()
        self.arrivals.found((), NOW, Rest(next_due))

    def add(self, *arrived: Arrival, claimed: Container[int] = NOTHING) -> None:
        self.arrivals.add(arrived, claimed)

    def claim(self, limit: int = 100, quota: int = 10, **quotas: int) -> Sequence[str]:
        assert self.arrivals.knows(NOW)
        taken, self.after = self.arrivals.take(limit, quota, quotas, self.after)
        return [each.message.id for each in taken]


def test_what_comes_is_given_once_and_oldest_first() -> None:
    case = Case()
    case.add(arrival(1), arrival(2))
    case.add(arrival(3))
    assert case.claim() == ["1", "2", "3"]
    assert case.claim() == []


def test_destinations_have_their_quotas_and_their_turn() -> None:
    case = Case()
    case.add(*(arrival(number, destination) for number in (1, 2, 3) for destination in ("", "a", "b", "c")))
    assert case.claim(quota=1, b=2, c=0) == ["1", "1", "1", "2"]
    assert case.claim(limit=3, quota=1) == ["2", "2", "3"]
    assert case.after == "b", "nothing of it was given, so it is the next"
    assert case.claim(quota=0, c=1) == ["1"]
    assert case.after == "b"


def test_of_a_message_of_more_rows_than_there_is_room_for_a_part_is_given_as_the_database_does() -> None:
    case = Case()
    case.add(arrival(1, "a", rows=2), arrival(2, "a", rows=7), arrival(3, "b"))
    given = []
    for _ in range(3):
        taken, case.after = case.arrivals.take(4, 10, {}, case.after)
        given.append([(each.message.id, [row.id for row in each.message.recipients]) for each in taken])
    assert given == [
        [("1", [100, 101]), ("2", [200, 201])],
        [("3", [300]), ("2", [202, 203, 204])],
        [("2", [205, 206])],
    ], "who stands behind is not held back by it"
    assert case.claim() == []
    assert case.arrivals.knows(NOW)


def test_the_database_is_asked_when_a_row_is_due_and_once_a_second() -> None:
    case = Case()
    assert case.arrivals.next_due == NOW + 10
    assert case.arrivals.knows(NOW + 9)
    assert not case.arrivals.knows(NOW + 10)
    assert not case.arrivals.knows(NOW - 1), "the clock was set"
    case.arrivals.later(NOW + 5)
    case.arrivals.later(NOW + 7)
    assert case.arrivals.next_due == NOW + 5
    assert not case.arrivals.knows(NOW + 5)
    case.seconds = 1.0
    assert not case.arrivals.knows(NOW)


def test_nothing_is_kept_where_the_database_has_more() -> None:
    case = Case()
    case.add(arrival(1))
    case.arrivals.ask()
    case.arrivals.found((), NOW, None)
    assert not case.arrivals.knows(NOW)
    case.add(arrival(2))
    case.arrivals.ask()
    case.arrivals.found((), NOW, Rest(None))
    assert case.claim() == []


def test_what_comes_while_the_database_is_asked_is_given_by_one_of_them() -> None:
    case = Case()
    old, new, told_late = arrival(1), arrival(2), arrival(3)
    case.add(old)
    case.arrivals.ask()
    case.add(new)
    case.arrivals.found([(each.destination, each.message) for each in (old, told_late)], NOW, Rest(None))
    case.add(told_late, claimed={300})
    assert case.claim() == ["2"]


def test_what_is_known_of_the_database_is_of_the_moment_in_which_it_was_asked() -> None:
    for happens in (Arrivals.forget, lambda arrivals: arrivals.later(NOW + 1)):
        case = Case()
        case.arrivals.ask()
        happens(case.arrivals)
        case.arrivals.found((), NOW, Rest(None))
        assert not case.arrivals.knows(NOW)


def test_no_more_is_kept_than_there_is_room_for() -> None:
    case = Case()
    case.add(*map(arrival, range(500)))
    assert case.arrivals.knows(NOW)
    case.add(arrival(500))
    assert not case.arrivals.knows(NOW)
