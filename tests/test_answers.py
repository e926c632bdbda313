"""What components may give: a coroutine, a Deferred, or the result."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from twisted.internet.defer import Deferred, ensureDeferred, fail, succeed
from twisted.python.failure import Failure

from mailhub.answers import answer


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
