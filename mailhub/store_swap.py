"""Another store in the place of one while the server runs, because the code of its plugin has changed."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from functools import partial
from typing import TYPE_CHECKING

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime

from mailhub import plugin_faults
from mailhub.answers import answer
from mailhub.errors import ConfigurationError, MailError
from mailhub.guard import Guard
from mailhub.interfaces import IMailStore
from mailhub.log import Logger

if TYPE_CHECKING:
    from mailhub.config.settings import ComponentTable
    from mailhub.net.driver import DriverFactory

_log = Logger(namespace="mailhub.components")

START_SECONDS = 30.0
_LOOK_SECONDS = 1.0

Opening = Callable[["ComponentTable", IMailStore], Awaitable[None]]


def start_after(new: IMailStore, open_ones: Iterable[IMailStore]) -> None:
    """Before `new` is started: it may be of a kind that goes on where one of these is (`SimpleStore.start_after`)."""
    if callable(ask := getattr(new, "start_after", None)):
        any(ask(one) for one in open_ones)


async def start_instead(store: IMailStore, part: ComponentTable, opening: Opening, clock: IReactorTime) -> None:
    """Open a store that is to replace another. Raises ConfigurationError: then it is stopped, and all is as before."""
    file = plugin_faults.source(getattr(store, "inner", store))
    guard = Guard(part.kind, part.name, file, clock, START_SECONDS)
    try:
        await guard.ask("start", opening, part, store)
    except MailError as error:
        await stop_quietly(store)
        if isinstance(error.__cause__, ConfigurationError):
            raise error.__cause__ from None
        raise part.place.error(f"{part.type} cannot start: {error.__cause__}") from error


def busy(factories: Iterable[DriverFactory], attempts: Iterable[Deferred[None]]) -> list[Callable[[], bool]]:
    """Whether each session that is open, and each attempt that is under way now, still is."""
    sessions = [partial(factory.sessions.__contains__, one) for factory in factories for one in factory.sessions]
    return [*sessions, *(partial(_goes_on, attempt) for attempt in attempts)]


def _goes_on(attempt: Deferred[None]) -> bool:
    return not attempt.called


def replace(old: IMailStore, new: IMailStore, retired: Retired, busy: Iterable[Callable[[], bool]]) -> None:
    """`new` has started and counts from now on. What goes on where the old one was leaves that one nothing to do; any
    other is stopped when all are over that may use it, which `busy` says of each."""
    if callable(take_over := getattr(new, "take_over", None)):
        take_over()
    retired.add(old, () if getattr(old, "taken_over", False) else busy)


async def stop_quietly(store: IMailStore) -> None:
    """Stop one that nobody needs; the log has what it raises."""
    try:
        await answer(store.stop())
    except BaseException:  # a plugin's, which may be anything
        _log.failure("a store that was replaced did not stop in good order")


class Retired:
    """Stores that serve those that began with them, and nobody else."""

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._stores: list[tuple[IMailStore, list[Callable[[], bool]]]] = []
        self._timer: IDelayedCall | None = None

    def add(self, store: IMailStore, busy: Iterable[Callable[[], bool]]) -> None:
        """Stop it as soon as nobody is busy."""
        self._stores.append((store, list(busy)))
        self._look()

    def _look(self) -> None:
        self._timer = None
        waiting = []
        for store, busy in self._stores:
            still = [one for one in busy if one()]
            if still:
                waiting.append((store, still))
            else:
                Deferred.fromCoroutine(stop_quietly(store))
        self._stores = waiting
        if waiting:
            self._timer = self._clock.callLater(_LOOK_SECONDS, self._look)

    def stores(self) -> list[IMailStore]:
        """Those that are still open."""
        return [store for store, _ in self._stores]

    async def stop(self) -> None:
        """Stop them all."""
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()
        stores, self._stores = self._stores, []
        for store, _ in stores:
            await stop_quietly(store)
