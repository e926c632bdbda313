"""The guard around a component: a time for its answer, counts, a breaker, and one line in the log for each failure."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from twisted.internet.defer import CancelledError, Deferred, fail, succeed
from twisted.internet.task import Clock
from twisted.logger import capturedLogs as captured
from twisted.logger import formatEvent
from twisted.python.failure import Failure

from mailhub.errors import MailError, NoSuchUser
from mailhub.guard import Guard, GuardLimits, Guards, Unanswered


def make(clock: Clock | None = None, **options: Any) -> Guard:
    return Guard("policy", "odd", "/plugins/odd.py", clock or Clock(), **options)


def asked(guard: Guard, function: Callable[..., Any], *arguments: object) -> list[Any]:
    """What has come of a call up to now: nothing, the answer, or a failure."""
    seen: list[Any] = []
    Deferred.fromCoroutine(guard.ask("mail", function, *arguments)).addBoth(seen.append)
    return seen


def error(seen: list[Any]) -> BaseException | None:
    (failure,) = seen
    assert isinstance(failure, Failure), failure
    return failure.value


async def coroutine(value: int) -> int:
    return value


@pytest.mark.parametrize("give", [lambda value: value, succeed, coroutine], ids=["plain", "deferred", "coroutine"])
def test_an_answer_that_is_there_is_given_at_once(give: Callable[..., Any]) -> None:
    guard = make()
    assert asked(guard, give, 7) == [7]
    assert (guard.calls, guard.errors, guard.timeouts) == (1, 0, 0)
    assert not guard.clock.getDelayedCalls()


async def waiting(before: Deferred[Any]) -> int:
    first = await before
    second: int = await succeed(first)
    return second + 1


def test_an_answer_may_come_later() -> None:
    clock, before = Clock(), Deferred[int]()
    guard = make(clock)
    seen = asked(guard, waiting, before)
    clock.advance(3)
    assert not seen
    before.callback(7)
    assert seen == [8]
    assert (guard.seconds, guard.slowest) == (3, 3)
    assert not clock.getDelayedCalls()


def test_what_blocks_for_too_long_is_an_answer_and_counts_as_late() -> None:
    clock = Clock()
    guard = make(clock, timeout_seconds=5)

    def block() -> int:
        clock.advance(6)
        return 7

    with captured() as events:
        assert asked(guard, block) == [7]
    assert formatEvent(events[0]).startswith("policy timed out: policy=odd method=mail file=/plugins/odd.py reason=")
    assert (guard.timeouts, guard.errors) == (1, 0)


def mistaken() -> None:
    raise ZeroDivisionError("oops")


async def mistaken_later() -> None:
    raise ZeroDivisionError("oops")


async def leaving() -> None:
    raise SystemExit(3)


@pytest.mark.parametrize(
    "function",
    [mistaken, mistaken_later, lambda: fail(ZeroDivisionError("oops")), leaving],
    ids=["raises", "coroutine", "deferred", "exits"],
)
def test_what_is_raised_is_named_in_the_log(function: Callable[..., Any]) -> None:
    guard = make()
    with captured() as events:
        assert isinstance(error(asked(guard, function)), Unanswered)
    (event,) = events
    line = formatEvent(event)
    assert line.startswith("policy failed: policy=odd method=mail file=/plugins/odd.py reason=")
    assert "oops" in line or "SystemExit" in line
    assert isinstance(event["log_failure"], Failure)
    assert guard.errors == 1


def test_a_mail_error_is_an_answer() -> None:
    def refuse() -> None:
        raise NoSuchUser("who?")

    guard = make(limits=GuardLimits(failures=1))
    with captured() as events:
        assert isinstance(error(asked(guard, refuse)), NoSuchUser)
        assert isinstance(error(asked(guard, refuse)), NoSuchUser)
    assert not events
    assert (guard.calls, guard.errors) == (2, 0)


async def stubborn(before: Deferred[Any]) -> int:
    try:
        await before
    except CancelledError:
        return 9
    return 8


def test_what_comes_after_the_time_is_nobodys() -> None:
    clock, never = Clock(), Deferred[int]()
    guard = make(clock, timeout_seconds=5)
    with captured() as events:
        seen = asked(guard, stubborn, never)
        clock.advance(4)
        assert not seen
        clock.advance(1)
        assert isinstance(error(seen), Unanswered)
    assert never.called  # it was told
    assert [formatEvent(event) for event in events] == [
        "policy timed out: policy=odd method=mail file=/plugins/odd.py reason='no answer within 5 seconds'"
    ]
    assert (guard.timeouts, guard.errors, guard.slowest) == (1, 0, 5)


def test_who_wants_the_answer_no_more_is_no_failure() -> None:
    never: Deferred[int] = Deferred()
    guard = make()
    call = Deferred.fromCoroutine(guard.ask("mail", lambda: never))
    seen: list[Any] = []
    call.addBoth(seen.append)
    with captured() as events:
        call.cancel()
    assert isinstance(error(seen), CancelledError)
    assert never.called
    assert not events
    assert (guard.errors, guard.timeouts) == (0, 0)
    assert not guard.clock.getDelayedCalls()


def test_a_component_that_calls_itself_off_has_failed() -> None:
    guard = make()
    assert isinstance(error(asked(guard, lambda: fail(CancelledError()))), Unanswered)
    assert guard.errors == 1


async def leaves(before: Any) -> None:
    await before
    raise GeneratorExit


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("give", [lambda before: before, leaves], ids=["deferred", "coroutine"])
def test_a_component_that_raises_generator_exit_has_failed(give: Callable[..., Any], late: bool) -> None:
    guard, before = make(), Deferred[Any]()
    if not late:
        before.errback(GeneratorExit())
    seen = asked(guard, give, before)
    if late:
        before.errback(GeneratorExit())
    assert isinstance(error(seen), Unanswered)
    assert (guard.errors, guard.clock.getDelayedCalls()) == (1, [])


def test_whoever_asks_can_be_closed() -> None:
    guard, never, told = make(), Deferred[int](), []

    async def asks() -> None:
        try:
            await guard.ask("mail", lambda: never)
        except BaseException as raised:
            told.append(type(raised))
            raise

    waiting = asks()
    waiting.send(None)
    with captured() as events:
        waiting.close()
    assert told == [GeneratorExit]
    assert never.called
    assert (events, guard.errors, guard.clock.getDelayedCalls()) == ([], 0, [])


class Unlooked:
    @property
    def size(self) -> int:
        raise SystemExit(3)


def test_what_is_raised_when_an_answer_is_looked_at_is_a_failure() -> None:
    guard = make()
    with captured() as events:
        assert guard.look("mail", lambda given: given + 1, 7) == 8
        with pytest.raises(Unanswered):
            guard.look("mail", lambda given: given.size, Unlooked(), {"session": "s1"})
        with pytest.raises(NoSuchUser):
            guard.look("mail", mistaken_user, 7)
    assert guard.errors == 1
    assert formatEvent(events[0]).startswith("policy failed: policy=odd session=s1 method=mail file=/plugins/odd.py")


def mistaken_user(given: object) -> None:
    raise NoSuchUser


def test_after_failures_in_a_row_it_rests_and_is_tried_with_one_call() -> None:
    clock, never = Clock(), Deferred[int]()
    guard = make(clock, limits=GuardLimits(failures=3, rest_seconds=10))
    with captured() as events:
        for _ in range(10):
            assert isinstance(error(asked(guard, mistaken)), Unanswered)
        assert (guard.calls, guard.errors, guard.rested) == (3, 3, 7)
        assert guard.health().state == "resting"
        clock.advance(10)
        trial = asked(guard, lambda: never)
        assert isinstance(error(asked(guard, coroutine, 7)), Unanswered)
        never.callback(1)
        assert trial == [1]
        assert asked(guard, coroutine, 7) == [7]
    assert guard.health().state == "good"
    said = [formatEvent(event).partition(":")[0] for event in events]
    assert said == ["policy failed"] * 3 + ["plugin rests", "plugin answers again"]


def test_a_trial_that_fails_is_followed_by_another_rest() -> None:
    clock = Clock()
    guard = make(clock, limits=GuardLimits(failures=3, rest_seconds=10))
    for _ in range(3):
        asked(guard, mistaken)
    clock.advance(10)
    asked(guard, mistaken)
    asked(guard, coroutine, 7)
    assert (guard.calls, guard.errors, guard.rested) == (4, 4, 1)


def test_an_answer_between_failures_ends_the_row() -> None:
    guard = make(limits=GuardLimits(failures=2))
    for _ in range(5):
        asked(guard, mistaken)
        asked(guard, coroutine, 7)
    assert guard.rested == 0


def test_nonsense_counts_as_failure_though_the_call_succeeded() -> None:
    guard = make(limits=GuardLimits(failures=3))
    with captured() as events:
        for _ in range(3):
            assert asked(guard, coroutine, 7) == [7]
            assert isinstance(guard.fault("mail", "it gave 7", {"session": "s1"}), MailError)
        assert isinstance(error(asked(guard, coroutine, 7)), Unanswered)
    assert (guard.calls, guard.errors, guard.rested) == (3, 3, 1)
    assert formatEvent(events[0]) == (
        "policy failed: policy=odd session=s1 method=mail file=/plugins/odd.py reason='it gave 7'"
    )


def test_guards_are_listed_and_go_on_counting() -> None:
    clock = Clock()
    before, after = Guards(clock), Guards(clock)
    guard = before.make("policy", "odd", "/plugins/odd.py")
    asked(guard, mistaken)
    asked(guard, coroutine, 7)
    again = after.make("policy", "odd", "/plugins/odd.py")
    other = after.make("policy", "new", "/plugins/new.py")
    after.take_over(before)
    asked(again, coroutine, 7)
    assert [(row.name, row.calls, row.errors, row.state) for row in after.all()] == [
        ("odd", 3, 1, "good"),
        ("new", 0, 0, "good"),
    ]
    assert other.calls == 0


def test_latencies_are_told_in_milliseconds() -> None:
    clock = Clock()
    guard = make(clock)
    asked(guard, clock.advance, 1)
    asked(guard, clock.advance, 3)
    health = guard.health()
    assert (health.mean_ms, health.slowest_ms) == (2000, 3000)
