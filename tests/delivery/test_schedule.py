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
    assert SCHEDULE.next_attempt(1000, 1000 + 86400 - 10, 9, 0.0) == 1000 + 86400
    assert SCHEDULE.next_attempt(1000, 1000 + 86400, 9, 0.0) is None


@given(st.integers(0, 10**6), st.integers(1, 500), st.floats(0, 1))
def test_the_next_attempt_is_later_and_within_the_time(age: int, attempts: int, chance: float) -> None:
    due = SCHEDULE.next_attempt(0, age, attempts, chance)
    assert (due is None) == (age >= 86400)
    assert due is None or age < due <= 86400
