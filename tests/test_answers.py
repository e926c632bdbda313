"""What components may give: a coroutine, a Deferred, or the result."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from twisted.internet.defer import Deferred, ensureDeferred, fail, succeed
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from mailhub.answers import answer, cut, in_time, shown


async def result() -> int:
    return 7


async def mistake() -> int:
    raise LookupError("gone")


def outcome(given: Any) -> Any:
    seen: list[Any] = []
    ensureDeferred(answer(given)).addBoth(seen.append)
    return seen[0].type if seen and isinstance(seen[0], Failure) else seen


@pytest.mark.parametrize("give", [lambda: 7, lambda: succeed(7), result], ids=["plain", "deferred", "coroutine"])
def test_all_three_give_the_result(give: Callable[[], Any]) -> None:
    assert outcome(give()) == [7]


@pytest.mark.parametrize("give", [lambda: fail(LookupError("gone")), mistake], ids=["deferred", "coroutine"])
def test_what_they_raise_is_raised(give: Callable[[], Any]) -> None:
    assert outcome(give()) is LookupError


def test_nothing_is_given_before_it_is_there() -> None:
    later: Deferred[int] = Deferred()
    seen: list[int] = []
    ensureDeferred(answer(later)).addCallback(seen.append)
    assert not seen
    later.callback(7)
    assert seen == [7]


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("error", [GeneratorExit, SystemExit])
def test_what_no_method_may_raise_is_a_failure_like_others(error: type[BaseException], late: bool) -> None:
    given: Deferred[int] = Deferred()
    if not late:
        given.errback(error())
    seen: list[Any] = []
    Deferred.fromCoroutine(in_time(Clock(), 5, lambda: given)).addBoth(seen.append)
    if late:
        given.errback(error())
    assert seen[0].type is RuntimeError
    assert error.__name__ in str(seen[0].value)


class Unshowable:
    def __repr__(self) -> str:
        raise SystemExit(3)


class Large:
    """Of which nobody wants to see all."""

    def __init__(self) -> None:
        self.shown = 0

    def __repr__(self) -> str:
        self.shown += 1
        return "large"


def test_an_answer_is_shown_in_part_whatever_it_makes_of_that() -> None:
    assert shown([1, "two", b"three"]) == "[1, 'two', b'three']"
    assert shown(Unshowable()) == "<SystemExit in repr()>"
    large = Large()
    assert shown([large] * 200_000) == "[large, large, large, large, large, large, large, large, large, large, ...]"
    assert large.shown == 10
    assert len(shown("x" * 1_000_000)) <= 80
    assert shown(b"x" * 1_000_000) == f"b'{'x' * 75}..."
    assert (cut("x" * 1000), len(cut("x" * 1001))) == ("x" * 1000, 1000)
