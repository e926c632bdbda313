"""How often something has happened lately, and who is too fast."""

from __future__ import annotations

from ipaddress import IPv6Address
from random import Random

import pytest

from mailhub import builtin
from mailhub.delivery.screening.windows import SlidingCounts
from mailhub.interfaces import Origin
from mailhub.testing.exams import PolicyExam


def test_what_lies_further_back_than_the_window_counts_no_more() -> None:
    counts = SlidingCounts()
    for _ in range(6):
        counts.add("a", 0, 60)
    assert [counts.count("a", now, 60) for now in (0, 59, 60, 90, 119, 120)] == [6, 6, 6, 3, pytest.approx(0.1), 0]
    assert counts.count("b", 0, 60) == 0


def test_the_count_is_never_more_than_that_of_the_last_two_windows_and_never_negative() -> None:
    counts, random, events, now = SlidingCounts(), Random(3), [], 0.0
    for _ in range(2000):
        now += random.choice((0.0, 0.1, 1.0, 20.0, 130.0))
        counts.add("a", now, 60)
        events.append(now)
        seen = counts.count("a", now, 60)
        assert sum(1 for each in events if each // 60 == now // 60) <= seen
        assert seen <= sum(1 for each in events if each > now - 120)


def test_memory_is_bounded_and_those_seen_last_are_kept() -> None:
    counts = SlidingCounts(keys=100)
    for number in range(10_000):
        counts.add(number, number / 1000, 60)
    assert len(counts) == 100
    assert counts.count(9_999, 10, 60) == 1
    assert counts.count(0, 10, 60) == 0


def test_tens_of_thousands_of_networks_take_bounded_memory_in_the_policy() -> None:
    policy = TestRates().build()
    for number in range(30_000):  # each is counted with the network around it
        policy.begin(Origin("smtp", str(IPv6Address(number << 80)), "s"))
    assert len(policy._counts) == policy._counts.keys


class TestRates(PolicyExam):
    factory = builtin.rates_policy


class TestStrictRates(PolicyExam):
    factory = builtin.rates_policy
    options = {"connections_per_address": 1, "messages_per_network": 1}
