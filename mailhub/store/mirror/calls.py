"""Calling methods that somebody has written as plain functions, coroutines, or with Deferreds."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterable, Callable, Sequence
from typing import Any

from mailhub.answers import answer
from mailhub.errors import MailError, StoreUnavailable
from mailhub.guard import Guard
from mailhub.interfaces import IThreads
from mailhub.threads import FewThreads, Leave

BATCH_SECONDS = 5.0  # of calls that are made together
ELEMENTS = 1_000_001  # of what comes one by one

Take = Callable[[Any], Any]
"""Makes of what a method gave what it means; raises Nonsense."""


class Calls:
    """The methods of one object, by their names. Plain functions are called in a thread that nobody else has, one at a
    time; whatever gives a coroutine or a Deferred runs on the reactor.

    A call that was given up after the guard's time is left behind in its thread, and the next ones are made in another.
    """

    def __init__(self, thing: object, guard: Guard, threads: IThreads) -> None:
        self._thing = thing
        self._guard = guard
        self._threads = FewThreads(
            threads, f"{guard.kind} {guard.name}", size=1, leave=Leave(guard.clock, guard.timeout_seconds)
        )
        self._closed = False
        self._clock = guard.clock
        self._waits: dict[str, bool] = {}

    def close(self) -> None:
        """Make no more calls."""
        self._closed = True

    async def _in_thread(self, function: Callable[..., Any], *arguments: object) -> Any:
        if self._closed:
            raise StoreUnavailable(detail=f"{self._guard.kind} {self._guard.name} is stopped")
        return await self._threads.run(function, *arguments)

    def has(self, method: str) -> bool:
        """Whether there is such a method."""
        return callable(getattr(self._thing, method, None))

    def waits(self, method: str) -> bool:
        """Whether it belongs on the reactor thread."""
        if method not in self._waits:
            self._waits[method] = _waits(getattr(self._thing, method))
        return self._waits[method]

    async def one(self, method: str, take: Take, *arguments: object) -> Any:
        """What a call gives. Raises MailError: Unanswered when it has failed."""
        return await self._guard.ask(method, self._one, method, take, arguments)

    async def _one(self, method: str, take: Take, arguments: Sequence[object]) -> Any:
        function = getattr(self._thing, method)
        if not self.waits(method):
            given = await self._in_thread(_called, function, take, arguments)
            if not isinstance(given, _Waiting):
                return given
            self._waits[method] = True  # nothing about it has said so
            return take(await _answer(given.given))
        return take(await _answer(function(*arguments)))

    async def each(
        self, method: str, take: Take, calls: Sequence[Sequence[object]], octets: int = 0
    ) -> list[Any | Exception]:
        """What the first of these calls give, or raise: of one at least, and of no more when they have given so many
        octets, or have taken long. Raises Unanswered when that took too long altogether."""
        made: list[Any | Exception] = await self._guard.ask(method, self._each, method, take, calls, octets)
        return made

    async def _each(self, method: str, take: Take, calls: Sequence[Sequence[object]], octets: int) -> list[Any]:
        function = getattr(self._thing, method)
        until = self._clock.seconds() + min(BATCH_SECONDS, self._guard.timeout_seconds / 4)
        if not self.waits(method):
            made: list[Any] = await self._in_thread(self._several, function, take, calls, octets, until)
            if not made or not isinstance(made[-1], _Waiting):
                return made
            self._waits[method] = True
            given = made.pop().given
            made.append(await _kept(take, _answer(given)))
            return made
        made = []
        for arguments in calls:
            made.append(await _kept(take, _begun(function, arguments)))
            octets -= _weight(made[-1])
            if octets < 0 or self._clock.seconds() > until:
                break
        return made

    def _several(
        self, function: Callable[..., Any], take: Take, calls: Sequence[Sequence[object]], octets: int, until: float
    ) -> list[Any]:
        """In the thread."""
        made: list[Any] = []
        for arguments in calls:
            try:
                made.append(_called(function, take, arguments))
            except Exception as error:
                made.append(error)
            octets -= _weight(made[-1])
            if octets < 0 or isinstance(made[-1], _Waiting) or self._clock.seconds() > until:
                break
        return made

    def failed(self, method: str, error: Exception) -> MailError:
        """What to raise for what a call has raised; the log is told, unless it is an answer."""
        return error if isinstance(error, MailError) else self._guard.fault(method, error)


class _Waiting:
    """A plain function gave something that has to be waited for."""

    def __init__(self, given: Any) -> None:
        self.given = given


def _called(function: Callable[..., Any], take: Take, arguments: Sequence[object]) -> Any:
    given = function(*arguments)
    return _Waiting(given) if inspect.isawaitable(given) or isinstance(given, AsyncIterable) else take(given)


async def _answer(given: Any) -> Any:
    if not isinstance(given, AsyncIterable):
        return await answer(given)
    found = []
    async for each in given:
        found.append(each)
        if len(found) >= ELEMENTS:
            break
    return found


async def _begun(function: Callable[..., Any], arguments: Sequence[object]) -> Any:
    return await _answer(function(*arguments))


async def _kept(take: Take, given: Any) -> Any:
    try:
        return take(await given)
    except Exception as error:
        return error


def _weight(given: Any) -> int:
    return len(given) if isinstance(given, bytes) else 1


def _waits(function: Callable[..., Any]) -> bool:
    """As far as can be told before it is called."""
    inner = inspect.unwrap(function)
    if any(map(inspect.iscoroutinefunction, (function, inner))) or inspect.isasyncgenfunction(inner):
        return True
    if inner is not function and inspect.isgeneratorfunction(inner) and not inspect.isgeneratorfunction(function):
        return True  # @inlineCallbacks
    told = str(getattr(inner, "__annotations__", {}).get("return", ""))
    return any(word in told for word in ("Deferred", "Awaitable", "Coroutine", "AsyncIter", "AsyncGen"))
