"""A thread that one store has for itself: its calls run one at a time, and one that is stuck holds up nobody else."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from queue import Empty, SimpleQueue
from typing import TypeVar

from twisted.internet.defer import Deferred, fail

from mailhub.errors import Busy, StoreUnavailable
from mailhub.interfaces import IThreads
from mailhub.threads import Call

T = TypeVar("T")

WAITING = 1000  # calls that wait; more are refused
GROUP = 200  # calls that are taken together


def each(calls: Sequence[Call]) -> None:
    """Run calls one after the other."""
    for call in calls:
        call.run()


class OwnThread:
    """Calls in a thread of its own, which does not keep the process from ending; at once where threads are inline.

    `together` runs what waits, at most `group` calls of it; the results are told when it returns. A call whose Deferred
    was cancelled before its turn is never made; one that is under way is not stopped, and its result is nobody's.
    """

    def __init__(
        self,
        threads: IThreads,
        name: str,
        together: Callable[[Sequence[Call]], object] = each,
        group: int = 1,
    ) -> None:
        self._threads = threads
        self._name = name
        self._together = together
        self._group = group
        self._calls: SimpleQueue[Call | None] = SimpleQueue()
        self._under_way = 0
        self._started = False
        self._closed = False

    def run(self, function: Callable[..., T], *arguments: object) -> Deferred[T]:
        """Have it called. Fails with Busy when too much waits, with StoreUnavailable after close()."""
        if self._closed:
            return fail(StoreUnavailable(detail=f"{self._name} is stopped"))
        call = Call(function, arguments)
        if self._threads.inline:
            self._together([call])
            call.result.callback(call.outcome)
            return call.result
        if self._under_way >= WAITING:
            return fail(Busy(detail=f"{self._name}: {WAITING} calls wait"))
        if not self._started:
            self._started = True
            self._threads.start_loop(self._name, self._loop)
        self._under_way += 1
        self._calls.put(call)
        return call.result

    def close(self) -> None:
        """Take no more calls; the thread ends after those that wait."""
        if not self._closed:
            self._closed = True
            if self._started:
                self._calls.put(None)

    def _loop(self) -> None:
        while True:
            first = self._calls.get()
            calls: list[Call] = []
            while first is not None:
                calls.append(first)
                if len(calls) >= self._group:
                    break
                try:
                    first = self._calls.get_nowait()
                except Empty:
                    break
            wanted = [call for call in calls if not call.dropped]
            if wanted:
                self._together(wanted)
            if calls:
                self._threads.call_in_reactor(self._tell, calls)
            if first is None:
                return

    def _tell(self, calls: Sequence[Call]) -> None:
        self._under_way -= len(calls)
        for call in calls:
            if not call.dropped and not call.result.called:
                call.result.callback(call.outcome)
