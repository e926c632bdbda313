"""Back-off and expiry."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailhub.delivery.limits import QueueDestination, RunnerLimits
from mailhub.delivery.schedule import Schedule
from mailhub.interfaces import Route
from mailhub.message.address import Address
from mailhub.message.envelope import Mail

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
        (Schedule(), 87),
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


def test_usual_waits_are_exponential_after_the_first_minutes() -> None:
    schedule = Schedule()
    minutes = [schedule.wait(attempts, 0.0) / 60 for attempts in range(1, 12)]
    assert minutes == [1, 1, 1, 2, 4, 8, 16, 32, 60, 60, 60]
    assert [schedule.wait(9, chance) for chance in (0.5, 1.0)] == [3960, 4320]


def test_waits_can_be_worked_out() -> None:
    schedule = Schedule(first_seconds=30, quick_attempts=3, most_seconds=1000, jitter=0.0)
    assert [schedule.wait(attempts, 0.5) for attempts in range(1, 12)] == [
        30, 30, 30, 60, 120, 240, 480, 960, 1000, 1000, 1000,
    ]  # fmt: skip
    assert schedule.longest_wait == 1000


def test_a_destination_has_its_own_by_domain_or_host() -> None:
    own = QueueDestination((5,), expire_hours=2)
    schedule = Schedule(destinations={"example.org": own, "relay.example": QueueDestination(delay_warning_hours=0)})
    to = Address("a", "example.org")
    assert schedule.at(Route("smtp", to)).wait(7, 0.0) == 5
    assert schedule.at(Route("smtp", to, "smarthost.example")).expire_seconds == 7200
    assert schedule.at(Route("smtp", Address("a", "example.net"))) is schedule
    by_host = schedule.at(Route("smtp", Address("a", "example.net"), "relay.example:587"))
    assert (by_host.warning_seconds, by_host.expire_seconds) == (0, schedule.expire_seconds)


def test_waits_of_a_destination_are_worked_out_too() -> None:
    own = {
        "list.example": QueueDestination((5, 7)),
        "slow.example": QueueDestination(retry_first_seconds=600, retry_quick_attempts=1, retry_most_seconds=7200),
        "patient.example": QueueDestination(retry_most_seconds=90000),
    }
    for schedule in (Schedule(jitter=0.0, destinations=own), Schedule((10,), jitter=0.0, destinations=own)):
        waits = {name: schedule.at(Route("smtp", Address("a", name))).waits for name in own}
        assert waits["list.example"] == (5, 7)
        assert waits["slow.example"] == (600, 1200, 2400, 4800, 7200)
        assert (waits["patient.example"][:4], waits["patient.example"][-1]) == ((60, 60, 60, 120), 90000)
        assert schedule.longest_wait == 90000


def test_mail_without_a_sender_has_a_time_of_its_own() -> None:
    schedule = Schedule(bounce_expire_seconds=60)
    assert [schedule.time_of(Mail(sender)) for sender in (None, Address("a", "b.example"))] == [60, 120 * 3600]


def test_a_destination_may_have_more_attempts_at_a_time() -> None:
    limits = RunnerLimits(destinations={"example.org": QueueDestination(attempts=1)})
    assert [limits.attempts_at(name) for name in ("smtp example.org", "smtp example.net")] == [1, 5]
