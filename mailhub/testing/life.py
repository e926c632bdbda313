"""One run of a server's process: what it has of the world, and how that ends in the midst of anything.

Nothing can stop Python code of a process that shares ours. But when its run is over, whatever it still does has no
effect: its calls are not made, its threads do not come back, its octets go nowhere, and its disk takes nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import attrs
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.internet.task import Clock
from zope.interface import implementer

from mailhub.interfaces import IThreads

T = TypeVar("T")


class Killed(BaseException):
    """The process has ended here."""


@implementer(IDelayedCall)
class _Never:
    """A call that nobody makes any more."""

    def getTime(self) -> float:
        """See `IDelayedCall`."""
        return 0.0

    def cancel(self) -> None:
        """See `IDelayedCall`."""

    def delay(self, secondsLater: float) -> None:
        """See `IDelayedCall`."""

    def reset(self, secondsFromNow: float) -> None:
        """See `IDelayedCall`."""

    def active(self) -> bool:
        """See `IDelayedCall`."""
        return False


@implementer(IReactorTime)
@attrs.define(eq=False)
class LifeClock:
    """The clock as one run of a process sees it."""

    _clock: Clock
    over: bool = False

    def seconds(self) -> float:
        """See `IReactorTime`."""
        return self._clock.seconds()

    def callLater(self, delay: float, callable: Callable[..., object], *args: object, **kw: object) -> IDelayedCall:
        """See `IReactorTime`."""
        if self.over:
            return _Never()
        made: IDelayedCall = self._clock.callLater(delay, self._call, callable, *args, **kw)
        return made

    def getDelayedCalls(self) -> list[Any]:
        """See `IReactorTime`: those of this process."""
        calls: list[Any] = list(self._clock.getDelayedCalls())
        return [call for call in calls if call.func == self._call]

    def _call(self, callable: Callable[..., object], *args: object, **kw: object) -> None:
        if not self.over:
            callable(*args, **kw)

    def end(self) -> None:
        """Make none of its calls."""
        self.over = True
        for call in self.getDelayedCalls():
            call.cancel()


@implementer(IThreads)
@attrs.define(eq=False)
class LifeThreads:
    """Every call runs at once, as with `InlineThreads`, while the process lives; one in which it ends never returns."""

    _clock: LifeClock
    inline = True

    def run(self, function: Callable[..., T], *args: object) -> Deferred[T]:
        """See `IThreads`."""
        if self._clock.over:
            return Deferred()
        try:
            return succeed(function(*args))
        except Exception:
            return fail()
        except Killed:
            return Deferred()

    def call_in_reactor(self, function: Callable[..., object], *args: object) -> None:
        """See `IThreads`."""
        if not self._clock.over:
            function(*args)

    def start_loop(self, name: str, loop: Callable[[], None]) -> None:
        """There is no second thread."""
        raise RuntimeError(f"{name}: a played process has no loops")
