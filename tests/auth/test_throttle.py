"""The throttle slows guessers and leaves their neighbours and loopback alone."""

from __future__ import annotations

import pytest

from mailhub.auth.throttle import Throttle, network_of


@pytest.mark.parametrize(
    ("peer", "network"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("127.0.0.1", ""),
        ("::1", ""),
        ("::ffff:127.0.0.1", ""),
        ("", ""),
        ("not an address", ""),
    ],
)
def test_what_counts_as_one_guesser(peer: str, network: str) -> None:
    assert network_of(peer) == network


def test_delays_grow_to_a_bound_and_then_the_door_closes() -> None:
    throttle = Throttle(free=2, limit=8, window=100, longest=10)
    delays = [throttle.failed("192.0.2.1", "user", 0) for _ in range(8)]
    assert delays == [0, 0, 1, 2, 4, 8, 10, 10]
    assert throttle.refused("192.0.2.1", 99)
    assert not throttle.refused("192.0.2.2", 99)
    assert not throttle.refused("192.0.2.1", 100)
    assert throttle.failed("192.0.2.1", "user", 100) == 0


def test_a_login_forgives_only_its_own_users_mistypings() -> None:
    throttle = Throttle(free=0, limit=3)
    throttle.failed("192.0.2.1", "victim", 0)
    throttle.failed("192.0.2.1", "attacker", 0)
    throttle.succeeded("192.0.2.1", "attacker")
    throttle.failed("192.0.2.1", "victim", 1)
    assert not throttle.refused("192.0.2.1", 2)
    throttle.failed("192.0.2.1", "victim", 1)
    assert throttle.refused("192.0.2.1", 2)


def test_loopback_is_never_throttled() -> None:
    throttle = Throttle(free=0, limit=1)
    assert throttle.failed("127.0.0.1", "user", 0) == 0
    assert not throttle.refused("127.0.0.1", 0)


def test_memory_is_bounded() -> None:
    throttle = Throttle(limit=1, size=2)
    for host in range(1, 4):
        throttle.failed(f"192.0.2.{host}", "user", 0)
    assert [throttle.refused(f"192.0.2.{host}", 1) for host in range(1, 4)] == [False, True, True]
