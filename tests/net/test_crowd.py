"""Connections are counted by network, and all together against the limit of open files."""

from __future__ import annotations

import resource
from collections.abc import Callable

import pytest
from twisted.internet.address import IPv6Address
from twisted.logger import capturedLogs, formatEvent

from mailhub.net.crowd import Crowd, Room, make_room, networks
from mailhub.net.link import DriverLimits
from tests.net.line_session import Rig

LIMITS = DriverLimits(
    connections_per_address=2, connections_per_ipv4_24=3, connections_per_ipv6_56=3, connections_per_ipv6_48=4
)


def taken(limits: DriverLimits, peers: list[str]) -> list[bool]:
    crowd, answers = Crowd(limits), []
    for peer in peers:
        answers.append(crowd.has_room(peer))
        if answers[-1]:
            crowd.enter(peer)
    return answers


@pytest.mark.parametrize(
    ("peers", "answers"),
    [
        # One host has a whole /64.
        (["2001:db8::1", "2001:db8::2", "2001:db8::ffff:0:3", "2001:db8:0:1::1"], [True, True, False, True]),
        # 00 and ff are in one /56, 100 is not.
        ([f"2001:db8:0:{n}::1" for n in ("0", "1", "2", "ff", "100")], [True, True, True, False, True]),
        ([f"2001:db8:0:{n}00::1" for n in range(5)] + ["2001:db8:1::1"], [True] * 4 + [False, True]),
        ([f"192.0.{n}" for n in ("2.1", "2.1", "2.1", "2.2", "2.3", "3.1")], [True, True, False, True, False, True]),
        # Mapped into IPv6 it is the same address.
        (["192.0.2.1", "::ffff:192.0.2.1", "::ffff:192.0.2.1"], [True, True, False]),
        (["fe80::1%eth0", "fe80::2%eth1", "fe80::3"], [True, True, False]),
        (["127.0.0.1", "::1", ""] * 9, [True] * 27),
    ],
)
def test_networks_are_bounded(peers: list[str], answers: list[bool]) -> None:
    assert taken(LIMITS, peers) == answers


def test_a_larger_network_never_holds_fewer_than_a_smaller_one() -> None:
    limits = DriverLimits(connections_per_address=5, connections_per_ipv6_56=1, connections_per_ipv6_48=2)
    assert taken(limits, ["2001:db8::1"] * 6) == [True] * 5 + [False]


def test_nothing_is_remembered_of_those_who_left() -> None:
    crowd = Crowd(LIMITS)
    peers = ["192.0.2.1", "2001:db8::1", "", "2001:db8::1"]
    for peer in peers:
        crowd.enter(peer)
    for peer in peers:
        crowd.leave(peer)
    assert len(crowd) == 0


def test_what_counts_an_address() -> None:
    assert [length for _, length, _ in networks("2001:db8::1")] == [64, 56, 48]
    assert networks("2001:db8::1")[0] == networks("2001:db8::ffff:ffff")[0]
    assert networks("::ffff:192.0.2.1") == networks("192.0.2.1")
    assert networks("nonsense") == networks("")


def test_the_driver_counts_by_network() -> None:
    rig = Rig(LIMITS)
    refused = [rig.connect(IPv6Address("TCP", f"2001:db8::{n}", 1))[1].taken() for n in (1, 2, 3)]
    assert refused == [b"hello\n", b"hello\n", b"too many\n"]


def test_services_share_the_room() -> None:
    rig = Rig()
    rig.factory.room.capacity = 2
    assert rig.connect()[1].taken() == b"hello\n"
    assert rig.connect()[1].taken() == b"too many\n"
    rig.lose()
    assert rig.connect()[1].taken() == b"hello\n"


# --- Open files ------------------------------------------------------------------------------------------------------


@pytest.fixture
def limit(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[tuple[int, int]]]:
    """Sets what the kernel says; gives what it is told."""

    def set_up(soft: int, hard: int, root: bool) -> list[tuple[int, int]]:
        now = [(soft, hard)]

        def change(_: int, wanted: tuple[int, int]) -> None:
            if wanted[1] > now[-1][1] and not root:
                raise ValueError("not allowed to raise maximum limit")
            now.append(wanted)

        monkeypatch.setattr(resource, "getrlimit", lambda _: now[-1])
        monkeypatch.setattr(resource, "setrlimit", change)
        return now

    return set_up


@pytest.mark.parametrize(
    ("soft", "hard", "root", "after", "capacity"),
    [
        (1024, 65536, False, (1256, 65536), float("inf")),
        (4096, 4096, False, (4096, 4096), float("inf")),
        (1024, 1024, True, (1256, 1256), float("inf")),
        (512, 1024, False, (1024, 1024), 768),
        (100, 100, False, (100, 100), 50),
    ],
)
def test_the_limit_is_raised_as_far_as_it_may(
    limit: Callable[..., list[tuple[int, int]]],
    soft: int,
    hard: int,
    root: bool,
    after: tuple[int, int],
    capacity: float,
) -> None:
    now, room = limit(soft, hard, root), Room()
    with capturedLogs() as logs:
        make_room(room, 1000)
    assert (now[-1], room.capacity) == (after, capacity)
    if capacity == float("inf"):
        assert logs == []
    else:
        (line,) = [formatEvent(event) for event in logs]
        assert line.startswith(f"open files are limited: RLIMIT_NOFILE={after[0]} wanted=1256 (1000 connections")
        assert f"at most {capacity} connections" in line
