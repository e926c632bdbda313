"""The one door to threads: whatever may block the reactor goes through here, or it does not happen."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import ParamSpec, Protocol, TypeVar

from twisted.internet.defer import Deferred, fail, succeed
from twisted.python.failure import Failure
from twisted.python.threadpool import ThreadPool
from zope.interface import implementer

from mailhub.errors import Busy
from mailhub.interfaces import IThreads
from mailhub.keys import Key

T = TypeVar("T")
P = ParamSpec("P")

THREADS = Key("limits", "threads", 10, 1, 1000)  # in the shared pool
BACKLOG = 1000  # calls that wait for a thread or run in one


class ThreadedReactor(Protocol):
    """What is needed of the reactor (IReactorThreads)."""

    def getThreadPool(self) -> ThreadPool: ...
    def suggestThreadPoolSize(self, size: int) -> None: ...
    def callFromThread(self, callable: Callable[P, object], *args: P.args, **kwargs: P.kwargs) -> None: ...


@implementer(IThreads)
class ReactorThreads:
    """The reactor's thread pool, with a bound on the calls that wait for it."""

    inline = False

    def __init__(self, reactor: ThreadedReactor, size: int = THREADS.default, backlog: int = BACKLOG) -> None:
        """`size` is the number of threads, `backlog` the number of calls under way or waiting."""
        self._reactor = reactor
        self._backlog = backlog
        self._under_way = 0
        reactor.suggestThreadPoolSize(size)

    def run(self, function: Callable[..., T], *args: object) -> Deferred[T]:
        """Run a blocking call in the pool. Fails with Busy when too many wait already.

        Cancelling the Deferred drops the result; the call itself is not stopped.
        """
        if self._under_way >= self._backlog:
            return fail(Busy(detail="thread pool backlog"))
        self._under_way += 1
        result: Deferred[T] = Deferred()

        def done(success: bool, outcome: T | Failure) -> None:  # in the thread
            self._reactor.callFromThread(self._finish, result, outcome)

        self._reactor.getThreadPool().callInThreadWithCallback(done, function, *args)
        return result

    def _finish(self, result: Deferred[T], outcome: T | Failure) -> None:
        self._under_way -= 1
        result.callback(outcome)

    def call_in_reactor(self, function: Callable[..., object], *args: object) -> None:
        """From any thread: have `function` called on the reactor thread, in order of calling."""
        self._reactor.callFromThread(function, *args)

    def start_loop(self, name: str, loop: Callable[[], None]) -> None:
        """Run `loop` in a thread of its own. The thread does not keep the process alive: what it was about to commit
        when the process ends was acknowledged to nobody."""
        threading.Thread(target=loop, name=name, daemon=True).start()


@implementer(IThreads)
class InlineThreads:
    """The twin without threads: every call runs at once on the caller's thread, so runs can be repeated exactly."""

    inline = True

    def run(self, function: Callable[..., T], *args: object) -> Deferred[T]:
        """Call it now."""
        try:
            return succeed(function(*args))
        except Exception:
            return fail()

    def call_in_reactor(self, function: Callable[..., object], *args: object) -> None:
        """Call it now."""
        function(*args)

    def start_loop(self, name: str, loop: Callable[[], None]) -> None:
        """There is no second thread."""
        raise RuntimeError(f"{name}: inline threads have no loops")
