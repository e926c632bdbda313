"""Results of coroutines in tests, without a reactor."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any, TypeVar

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

T = TypeVar("T")


def result_of(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine that never has to wait and return its result, or raise what it raises.

    Raises AssertionError when it waits for something that has not happened.
    """
    results: list[T | Failure] = []
    Deferred.fromCoroutine(coroutine).addBoth(results.append)
    assert results, "the coroutine is still waiting"
    result = results[0]
    if isinstance(result, Failure):
        result.raiseException()
        raise AssertionError
    return result
