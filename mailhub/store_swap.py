"""Another store in the place of one while the server runs, because the code of its plugin has changed."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime

from mailhub.answers import answer
from mailhub.interfaces import IMailStore
from mailhub.log import Logger

_log = Logger(namespace="mailhub.components")

_LOOK_SECONDS = 1.0


def start_after(new: IMailStore, open_ones: Iterable[IMailStore]) -> None:
    """Before `new` is started: it may be of a kind that goes on where one of these is (`SimpleStore.start_after`)."""
    if callable(ask := getattr(new, "start_after", None)):
        any(ask(one) for one in open_ones)


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
    except Exception:
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
