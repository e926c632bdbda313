"""A checker of one method, whichever way it is written."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, cast

import attrs
import pytest
from twisted.cred.credentials import UsernamePassword
from twisted.cred.error import UnauthorizedLogin
from twisted.internet.defer import succeed

from mailhub.answers import answer
from mailhub.api import Busy, IHub, Part, SimpleChecker
from mailhub.hub_view import view
from mailhub.testing.waiting import result_of
from mailhub.threads import FEW, InlineThreads, ReactorThreads
from tests.store.harness import HandReactor


@attrs.frozen
class Surroundings:
    threads: Any = attrs.field(factory=InlineThreads)


@attrs.frozen
class PlayedHub:
    environment: Surroundings = attrs.field(factory=Surroundings)


def hub(surroundings: Surroundings | None = None) -> IHub:
    """As much of one as a checker needs."""
    return cast(IHub, PlayedHub(surroundings or Surroundings()))


class Plain(SimpleChecker):
    def check(self, user: str, password: str) -> Any:
        return self.options(user, password)


class Waiting(SimpleChecker):
    async def check(self, user: str, password: str) -> Any:
        return self.options(user, password)


KINDS = pytest.mark.parametrize("kind", [Plain, Waiting])


def ask(kind: type[SimpleChecker], check: Callable[[str, str], Any], user: bytes = b"ann", word: bytes = b"w") -> Any:
    return result_of(answer(kind(check, hub()).requestAvatarId(UsernamePassword(user, word))))


@KINDS
def test_the_right_password_gives_the_user(kind: type[SimpleChecker]) -> None:
    assert ask(kind, lambda user, password: (user, password) == ("ann", "w")) == b"ann"
    assert ask(kind, lambda user, password: user == "änn", "änn".encode()) == "änn".encode()


@KINDS
def test_the_wrong_one_is_refused(kind: type[SimpleChecker]) -> None:
    with pytest.raises(UnauthorizedLogin):
        ask(kind, lambda user, password: False)
    with pytest.raises(UnauthorizedLogin):
        ask(kind, lambda user, password: True, b"ann", b"\xff")


@KINDS
@pytest.mark.parametrize("given", [None, 1, "ann"])
def test_only_true_lets_in(kind: type[SimpleChecker], given: object) -> None:
    with pytest.raises(TypeError, match="neither True nor False"):
        ask(kind, lambda user, password: given)


@KINDS
def test_what_it_raises_is_raised(kind: type[SimpleChecker]) -> None:
    def busy(user: str, password: str) -> bool:
        raise Busy

    with pytest.raises(Busy):
        ask(kind, busy)


def test_a_plain_function_may_give_a_deferred() -> None:
    assert ask(Plain, lambda user, password: succeed(True)) == b"ann"


def test_few_threads_are_taken_until_they_are_back_whoever_has_given_up_by_then() -> None:
    reactor, go_on, began = HandReactor(), threading.Event(), threading.Semaphore(0)
    called: list[str] = []

    def check(user: str, password: str) -> bool:
        called.append(user)
        began.release()
        return go_on.wait(60)

    seen = view(hub(Surroundings(ReactorThreads(reactor))), Part("checker", "plain", __file__))
    checker = Plain(check, seen)
    given_up = [checker.requestAvatarId(UsernamePassword(b"ann", b"w")) for _ in range(FEW)]
    for asked in given_up:
        assert began.acquire(timeout=30)
        asked.addErrback(lambda _: None)
        asked.cancel()
    ben = checker.requestAvatarId(UsernamePassword(b"ben", b"w"))
    assert called == ["ann"] * FEW
    go_on.set()
    while not ben.called:
        reactor.turn()
    assert result_of(answer(ben)) == b"ben"
    reactor.pool.stop()
