"""Back-off and expiry."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailhub.delivery.schedule import Schedule

SCHEDULE = Schedule((60, 300, 900), expire_seconds=86400, jitter=0.5)


@pytest.mark.parametrize(
    ("attempts", "chance", "seconds"), [(1, 0.0, 60), (2, 0.0, 300), (3, 0.0, 900), (50, 0.0, 900), (1, 1.0, 90)]
)
def test_waits_grow_and_the_last_repeats(attempts: int, chance: float, seconds: int) -> None:
    assert SCHEDULE.wait(attempts, chance) == seconds


def test_the_last_attempt_is_at_the_end_of_the_time_and_then_it_is_over() -> None:
    assert SCHEDULE.next_attempt(1000, 1000 + 86400 - 10, 60, 0.0) == 1000 + 86400
    assert SCHEDULE.next_attempt(1000, 1000 + 86400, 60, 0.0) is None


@given(st.integers(-(10**6), 10**6), st.integers(1, 500), st.floats(0, 1))
def test_the_next_attempt_is_later_and_within_the_time(age: int, attempts: int, chance: float) -> None:
    due = SCHEDULE.next_attempt(0, age, attempts, chance)
    assert (due is None) == (attempts >= SCHEDULE.enough and not 0 <= age < 86400)
    assert due is None or age < due <= age + SCHEDULE.longest_wait
    assert due is None or not 0 <= age < 86400 or due <= 86400


@pytest.mark.parametrize(
    ("schedule", "enough"),
    [
        (SCHEDULE, 53),
        (Schedule(), 83),
        (Schedule((60,), 10), 1),
        (Schedule((3600,), 3600), 1),
        (Schedule((1,), 15), 11),
    ],
)
def test_who_gives_up_has_tried_for_most_of_the_time(schedule: Schedule, enough: int) -> None:
    assert schedule.enough == enough
    age = attempts = 0
    while age <= schedule.expire_seconds:
        attempts += 1
        age += schedule.wait(attempts, 1.0)
    assert attempts >= enough


def test_a_clock_set_forward_alone_is_no_reason_to_give_up() -> None:
    now = 10 * 86400
    assert SCHEDULE.next_attempt(0, now, 1, 0.0) == now + 60
    assert SCHEDULE.next_attempt(0, now, SCHEDULE.enough, 0.0) is None


def test_a_message_from_the_future_is_not_kept_for_ever() -> None:
    assert SCHEDULE.next_attempt(10**6, 0, 3, 0.0) == 900
    assert SCHEDULE.next_attempt(10**6, 0, SCHEDULE.enough, 0.0) is None
