"""Hashing is bounded, and unknown users cost what known ones do."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import argon2
import pytest
from twisted.internet.defer import Deferred
from zope.interface import implementer

from mailhub.auth.passwords import DECOY, Passwords, hash_password, verify_password
from mailhub.errors import Busy
from mailhub.interfaces import IThreads
from mailhub.testing.waiting import result_of
from tests.hashing import CHEAP

CHEAP_DECOY = hash_password("of no account", CHEAP)


@implementer(IThreads)
class HeldThreads:
    """Keeps every call until it is let go."""

    inline = False

    def __init__(self) -> None:
        self.held: list[tuple[Deferred[Any], Callable[..., Any], tuple[object, ...]]] = []

    def run(self, function: Callable[..., Any], *args: object) -> Deferred[Any]:
        self.held.append((Deferred(), function, args))
        return self.held[-1][0]

    def call_in_reactor(self, function: Callable[..., object], *args: object) -> None:
        function(*args)

    def start_loop(self, name: str, loop: Callable[[], None]) -> None:
        raise AssertionError("not used")

    def let_go(self) -> Callable[..., Any]:
        result, function, args = self.held.pop(0)
        result.callback(function(*args))
        return function


def outcome_of(deferred: Deferred[Any]) -> list[Any]:
    seen: list[Any] = []
    deferred.addBoth(seen.append)
    return seen


def test_a_hash_verifies_its_own_password_only() -> None:
    encoded = hash_password("sesam", CHEAP)
    assert encoded.startswith("$argon2id$")
    assert verify_password(encoded, "sesam")
    assert not verify_password(encoded, "Sesam")
    assert hash_password("sesam", CHEAP) != encoded


@pytest.mark.parametrize("damaged", ["", "x", "$argon2id$v=19$m=8,t=1,p=1$", "$1$abc$def"])
def test_a_damaged_hash_never_matches(damaged: str) -> None:
    assert not verify_password(damaged, "")


def test_the_decoy_costs_what_new_hashes_cost() -> None:
    made = hash_password("x")
    assert argon2.extract_parameters(DECOY) == argon2.extract_parameters(made)
    assert len(DECOY) == len(made)


def test_an_unknown_user_costs_one_verification() -> None:
    threads = HeldThreads()
    passwords = Passwords(threads, CHEAP_DECOY)
    seen = outcome_of(Deferred.fromCoroutine(passwords.verify("", "of no account")))
    assert threads.let_go() is verify_password
    assert seen == [False]
    assert threads.held == []


def test_at_most_two_run_and_the_line_is_bounded() -> None:
    threads = HeldThreads()
    passwords = Passwords(threads, CHEAP_DECOY, waiting=3)
    encoded = hash_password("sesam", CHEAP)
    answers = [outcome_of(Deferred.fromCoroutine(passwords.verify(encoded, "sesam"))) for _ in range(5)]
    assert len(threads.held) == 2
    with pytest.raises(Busy):
        result_of(passwords.verify(encoded, "sesam"))
    for _ in range(5):
        threads.let_go()
    assert answers == [[True]] * 5
    assert threads.held == []


def test_a_slot_is_given_back_when_hashing_fails() -> None:
    threads = HeldThreads()
    passwords = Passwords(threads, CHEAP_DECOY, running=1)
    first = outcome_of(Deferred.fromCoroutine(passwords.verify("x", "y")))
    threads.held.pop()[0].errback(RuntimeError("thread pool is gone"))
    assert first[0].check(RuntimeError)
    second = outcome_of(Deferred.fromCoroutine(passwords.verify(hash_password("y", CHEAP), "y")))
    threads.let_go()
    assert second == [True]
