"""A clock for a whole network of servers."""

from __future__ import annotations

from bisect import insort_right
from collections.abc import Callable

from twisted.internet.base import DelayedCall
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.task import Clock


class OrderedClock(Clock):
    """`task.Clock`, whose calls are in order always, instead of being sorted anew for each: there are thousands."""

    def callLater(self, delay: float, callable: Callable[..., object], *args: object, **kw: object) -> IDelayedCall:
        """See `IReactorTime`."""
        call = DelayedCall(self.rightNow + delay, callable, args, kw, self.calls.remove, self._moved, self.seconds)
        insort_right(self.calls, call, key=DelayedCall.getTime)
        return call

    def _moved(self, _: DelayedCall) -> None:
        """Its time is another one now."""
        self.calls.sort(key=DelayedCall.getTime)

    def advance(self, amount: float) -> None:
        """See `task.Clock`."""
        self.rightNow += amount
        while self.calls and self.calls[0].getTime() <= self.rightNow:
            call = self.calls.pop(0)
            call.called = 1
            call.func(*call.args, **call.kw)
