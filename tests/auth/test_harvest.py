"""Trying names is slow, for a session and for a network, and nobody else waits for it."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from mailhub.auth.harvest import Harvest, HarvestLimits

PEER, LOOPBACK = "192.0.2.1", "127.0.0.1"


def asked(harvest: Harvest, peer: str, count: int) -> list[Any]:
    results: list[Any] = []
    Deferred.fromCoroutine(harvest.refused(peer, count)).addBoth(results.append)
    return results


def seconds(clock: Clock) -> list[float]:
    """How long those wait who wait."""
    return sorted(call.getTime() - clock.seconds() for call in clock.getDelayedCalls())


def test_a_session_waits_longer_each_time_and_then_ends() -> None:
    clock = Clock()
    harvest = Harvest(clock, HarvestLimits(free=2, per_session=5, longest_seconds=2))
    assert [asked(harvest, LOOPBACK, count) for count in range(1, 7)] == [[True], [True], [], [], [], [False]]
    assert seconds(clock) == [1, 2, 2]
    clock.advance(2)
    assert harvest.waiting == 0


def test_the_sessions_of_a_network_take_turns() -> None:
    clock = Clock()
    harvest = Harvest(clock, HarvestLimits(per_network=3, longest_seconds=5))
    for peer in ("2001:db8::1", "2001:db8::2", "2001:db8::3"):
        assert asked(harvest, peer, 1) == [True]
    answers = [asked(harvest, f"2001:db8::{number}", 1) for number in range(4, 10)]
    assert seconds(clock) == [1, 2, 4]
    assert answers == [[], [], [], [False], [False], [False]]
    # Others go on, and so does the network after its time.
    assert asked(harvest, "2001:db8:0:1::1", 1) == [True]
    assert asked(harvest, LOOPBACK, 1) == [True]
    clock.advance(900)
    assert asked(harvest, "2001:db8::1", 1) == [True]


def test_loopback_counts_where_the_operator_says_so() -> None:
    clock = Clock()
    harvest = Harvest(clock, HarvestLimits(per_network=1, loopback=True))
    assert [asked(harvest, LOOPBACK, 1), asked(harvest, LOOPBACK, 1)] == [[True], []]
    assert asked(harvest, "", 1) == [True]


def test_2500_names_are_not_had_in_half_a_second() -> None:
    clock = Clock()
    harvest = Harvest(clock)
    told = 0
    for _ in range(60):
        for _session in range(100):
            told += asked(harvest, PEER, 1) == [True]
        clock.advance(1)
    assert told == 100  # and one a second, or less, of those that wait
    assert harvest.waiting <= 11


def test_what_waits_and_what_is_remembered_is_bounded() -> None:
    clock = Clock()
    harvest = Harvest(clock, HarvestLimits(free=0, waiting=2, networks=2))
    assert [asked(harvest, LOOPBACK, 1) for _ in range(3)] == [[], [], [False]]
    for number in range(9):
        asked(harvest, f"192.0.2.{number}", 0)
    assert len(harvest._guesses) == 2
