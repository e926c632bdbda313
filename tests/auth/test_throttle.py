"""The throttle slows guessers and leaves their neighbours and loopback alone."""

from __future__ import annotations

import pytest
from twisted.internet.defer import CancelledError, Deferred
from twisted.python.failure import Failure

from mailhub.auth.throttle import Throttle, Turns, network_of
from mailhub.errors import Busy


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


class Logins:
    """Logins that take until they are told to end."""

    def __init__(self, turns: Turns) -> None:
        self.turns = turns
        self.under_way: list[Deferred[str]] = []

    def start(self, peer: str) -> Deferred[str]:
        async def login() -> str:
            self.under_way.append(Deferred())
            return await self.under_way[-1]

        return Deferred.fromCoroutine(self.turns.take(peer, login))


def test_a_flood_from_one_network_stands_in_its_own_line() -> None:
    logins = Logins(Turns(at_once=2, waiting=3))
    flood = [logins.start("192.0.2.1") for _ in range(5)]
    assert len(logins.under_way) == 2
    refused: list[object] = []
    logins.start("192.0.2.1").addBoth(refused.append)
    assert isinstance(refused[0], Failure)
    assert refused[0].check(Busy)  # type: ignore[no-untyped-call]
    for peer in ("192.0.2.2", "127.0.0.1", "127.0.0.1", "127.0.0.1"):
        logins.start(peer)
    assert len(logins.under_way) == 6, "others are not held up"
    ended: list[str] = []
    for result in flood:
        result.addCallback(ended.append)
    while logins.under_way:
        logins.under_way.pop(0).callback("avatar")
    assert ended == ["avatar"] * 5


def test_a_turn_is_given_on_whatever_becomes_of_it() -> None:
    turns = Turns(at_once=1)
    logins = Logins(turns)
    first, second, third = (logins.start("192.0.2.1") for _ in range(3))
    ends: list[object] = []
    for login in (first, second, third):
        login.addBoth(ends.append)
    second.cancel()
    logins.under_way.pop().errback(ZeroDivisionError())
    logins.under_way.pop().callback("avatar")
    assert [end.type if isinstance(end, Failure) else end for end in ends] == [
        CancelledError,
        ZeroDivisionError,
        "avatar",
    ]
    assert "192.0.2.1" not in repr(turns), "nothing is kept of a network without logins"
