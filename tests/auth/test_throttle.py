"""The throttle slows guessers and leaves their neighbours and loopback alone."""

from __future__ import annotations

import pytest
from twisted.internet.defer import CancelledError, Deferred
from twisted.python.failure import Failure

from mailhub.auth.throttle import Failed, Throttle, Turns, network_of
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
    delays = [throttle.failed("192.0.2.1", "user", f"{n}", 0).delay for n in range(8)]
    assert delays == [0, 0, 1, 2, 4, 8, 10, 10]
    assert throttle.refused("192.0.2.1", "user", "new", 99)
    assert not throttle.refused("192.0.2.2", "user", "new", 99)
    assert not throttle.refused("192.0.2.1", "user", "new", 100)
    assert throttle.failed("192.0.2.1", "user", "0", 100) == Failed()


def test_a_login_forgives_only_its_own_users_mistypings() -> None:
    throttle = Throttle(free=0, limit=3)
    throttle.failed("192.0.2.1", "victim", "a", 0)
    throttle.failed("192.0.2.1", "attacker", "a", 0)
    throttle.succeeded("192.0.2.1", "attacker", 0)
    throttle.failed("192.0.2.1", "victim", "b", 1)
    assert not throttle.refused("192.0.2.1", "user", "new", 2)
    throttle.failed("192.0.2.1", "victim", "c", 1)
    assert throttle.refused("192.0.2.1", "user", "new", 2)


def test_loopback_is_never_throttled() -> None:
    throttle = Throttle(free=0, limit=1)
    assert throttle.failed("127.0.0.1", "user", "x", 0) == Failed()
    assert not throttle.refused("127.0.0.1", "user", "new", 0)


def test_loopback_counts_as_others_do_where_that_is_said() -> None:
    throttle = Throttle(free=0, limit=3, loopback=True)
    throttle.succeeded("127.0.0.1", "ann", 0)
    assert throttle.failed("127.0.0.1", "bob", "old", 0) == Failed(1)
    assert throttle.failed("127.0.0.1", "bob", "old", 0).repeated
    throttle.failed("127.0.0.1", "bob", "a", 0)
    throttle.failed("127.0.0.1", "bob", "b", 0)
    assert throttle.refused("127.0.0.1", "carol", "new", 1)
    assert not throttle.refused("127.0.0.1", "ann", "new", 1)
    assert not throttle.refused("::1", "carol", "new", 1)
    assert throttle.failed("", "bob", "c", 0) == Failed(), "a local socket has no address"


def test_the_same_wrong_password_counts_once() -> None:
    throttle = Throttle(free=0, limit=3, longest=1)
    assert throttle.failed("192.0.2.1", "ann", "old", 0) == Failed(1, repeated=False)
    assert [throttle.failed("192.0.2.1", "ann", "old", n).repeated for n in range(50)] == [True] * 50
    assert throttle.refused("192.0.2.1", "ann", "old", 50), "it is known to be wrong"
    assert not throttle.refused("192.0.2.1", "ann", "new", 50)
    assert not throttle.refused("192.0.2.1", "bob", "new", 50)
    # With another user, or from elsewhere, it is another guess.
    assert not throttle.failed("192.0.2.1", "bob", "old", 1).repeated
    assert not throttle.failed("192.0.2.2", "ann", "old", 1).repeated
    throttle.failed("192.0.2.1", "bob", "x", 1)
    assert throttle.refused("192.0.2.1", "ann", "new", 2)
    # It does not prolong the time.
    throttle.failed("192.0.2.1", "ann", "old", 800)
    assert not throttle.refused("192.0.2.1", "ann", "new", 901)


def test_those_who_are_known_are_let_in_in_spite_of_others() -> None:
    throttle = Throttle(free=0, limit=3, known=1000)
    throttle.succeeded("192.0.2.1", "ann", 0)
    for n in range(3):
        throttle.failed("192.0.2.1", "bob", f"{n}", 500)
    assert throttle.refused("192.0.2.1", "bob", "new", 501)
    assert throttle.refused("192.0.2.1", "carol", "new", 501)
    assert not throttle.refused("192.0.2.1", "ann", "new", 501)
    assert throttle.failed("192.0.2.1", "ann", "a", 501).delay == 1
    assert throttle.refused("192.0.2.1", "ann", "new", 1001), "that was too long ago"
    # Known elsewhere is not known here.
    throttle.succeeded("192.0.2.2", "carol", 501)
    assert throttle.refused("192.0.2.1", "carol", "new", 502)


def test_those_who_are_known_are_refused_for_their_own_failures() -> None:
    throttle = Throttle(free=0, limit=3)
    throttle.succeeded("192.0.2.1", "ann", 0)
    for n in range(3):
        throttle.failed("192.0.2.1", "ann", f"{n}", 1)
    assert throttle.refused("192.0.2.1", "ann", "new", 2)


def test_no_password_is_kept() -> None:
    throttle = Throttle()
    throttle.failed("192.0.2.1", "ann", "geheim", 0)
    assert "geheim" not in repr(throttle)
    assert b"geheim" not in next(iter(throttle._failures["192.0.2.1"].passwords))


def test_memory_is_bounded() -> None:
    known = Throttle(size=2)
    for name in ("a", "b", "c"):
        known.succeeded("192.0.2.1", name, 0)
    assert len(known._known) == 2
    many = Throttle(limit=5)
    for n in range(100):
        many.failed("192.0.2.1", "user", f"{n}", 0)
    assert len(many._failures["192.0.2.1"].passwords) == 10
    throttle = Throttle(limit=1, size=2)
    for host in range(1, 4):
        throttle.failed(f"192.0.2.{host}", "user", "x", 0)
    assert [throttle.refused(f"192.0.2.{host}", "user", "new", 1) for host in range(1, 4)] == [False, True, True]


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
