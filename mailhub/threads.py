"""The one door to threads: whatever may block the reactor goes through here, or it does not happen."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import Any, ParamSpec, Protocol, TypeVar

import attrs
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.interfaces import IReactorTime
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
FEW = 4  # threads that one component has for itself
IDLE_SECONDS = 30.0  # after which such a thread ends


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


# --- Threads of one component ----------------------------------------------------------------------------------------


class Call:
    """A function to be called, and what came of it. `dropped`: nobody waits for it any more; `drop` is told so."""

    __slots__ = ("_drop", "arguments", "dropped", "function", "outcome", "result")

    def __init__(
        self,
        function: Callable[..., Any],
        arguments: tuple[object, ...],
        drop: Callable[[Call], object] | None = None,
    ) -> None:
        self.function = function
        self.arguments = arguments
        self.dropped = False
        self.outcome: Any = None
        self.result: Deferred[Any] = Deferred(self._cancelled)
        self._drop = drop

    def _cancelled(self, _: object) -> None:
        self.dropped = True
        if self._drop is not None:
            self._drop(self)

    def run(self) -> None:
        """In the thread."""
        try:
            self.outcome = self.function(*self.arguments)
        except BaseException:  # sys.exit() of somebody's code shall not end the thread
            self.outcome = Failure()  # type: ignore[no-untyped-call]


@attrs.frozen
class Leave:
    """A call that nobody waits for any more is stuck when it has taken so many `seconds`, and then its thread is left
    alone: another one takes its place. With so many stuck `calls` all others are refused until one is back."""

    clock: IReactorTime
    seconds: float
    calls: int = FEW


@implementer(IThreads)
class FewThreads:
    """Threads that one component has for itself: what is stuck in them holds up nobody else, and does not keep the
    process from ending. There are none before they are needed, and they end when there is nothing to do for a while.

    A call whose Deferred was cancelled before its turn is never made. One that is under way is not stopped: its result
    is nobody's, and it takes its place until it is back, or for the time of `leave`.
    """

    def __init__(
        self,
        threads: IThreads,
        name: str,
        size: int = FEW,
        backlog: int = BACKLOG,
        leave: Leave | None = None,
    ) -> None:
        """`size` is the number of calls at the same time, `backlog` that of calls that wait for their turn."""
        self.inline = threads.inline
        self._threads = threads
        self._name = name
        self._size = size
        self._backlog = backlog
        self._leave = leave
        self._waiting: deque[Call] = deque()
        self._running: dict[Call, float] = {}  # since when, where calls are left
        self._stuck: set[Call] = set()
        self._idle: list[SimpleQueue[Call | None]] = []

    def run(self, function: Callable[..., T], *args: object) -> Deferred[T]:
        """Run a blocking call; on the reactor thread. Fails with Busy when too many wait already."""
        if self.inline:
            call = Call(function, args)
            call.run()
            call.result.callback(call.outcome)
            return call.result
        if self._all_stuck():
            return fail(self._busy())
        if len(self._waiting) >= self._backlog:
            return fail(Busy(detail=f"{self._name}: {self._backlog} calls wait for a thread"))
        call = Call(function, args, self._dropped)
        self._waiting.append(call)
        self._go_on()
        return call.result

    def call_in_reactor(self, function: Callable[..., object], *args: object) -> None:
        """See `IThreads`."""
        self._threads.call_in_reactor(function, *args)

    def start_loop(self, name: str, loop: Callable[[], None]) -> None:
        """See `IThreads`."""
        self._threads.start_loop(name, loop)

    def _go_on(self) -> None:
        while self._waiting and len(self._running) < self._size:
            call = self._waiting.popleft()
            inbox = self._idle.pop() if self._idle else self._start(call)
            if inbox is not None:
                self._running[call] = 0.0 if self._leave is None else self._leave.clock.seconds()
                inbox.put(call)

    def _start(self, call: Call) -> SimpleQueue[Call | None] | None:
        inbox: SimpleQueue[Call | None] = SimpleQueue()
        try:
            self._threads.start_loop(self._name, lambda: self._serve(inbox))
        except RuntimeError as error:  # the system has no more of them
            call.result.errback(Busy(detail=f"{self._name}: {error}"))
            return None
        return inbox

    def _serve(self, inbox: SimpleQueue[Call | None]) -> None:
        """In the thread."""
        while True:
            try:
                call = inbox.get(timeout=IDLE_SECONDS)
            except Empty:
                self._threads.call_in_reactor(self._let_go, inbox)
                call = inbox.get()
            if call is None:
                return
            call.run()
            self._threads.call_in_reactor(self._done, inbox, call)
            del call  # with passwords, perhaps

    def _let_go(self, inbox: SimpleQueue[Call | None]) -> None:
        if inbox in self._idle:  # else there is something to do just now
            self._idle.remove(inbox)
            inbox.put(None)

    def _dropped(self, call: Call) -> None:
        if call in self._waiting:
            self._waiting.remove(call)
        elif self._leave is not None:
            # Its time may not be over: a client has gone.
            clock = self._leave.clock
            left = self._running[call] + self._leave.seconds - clock.seconds()
            if left > 0:
                clock.callLater(left, self._give_up, call)
            else:
                self._give_up(call)

    def _give_up(self, call: Call) -> None:
        if self._running.pop(call, None) is None:
            return  # it is back
        self._stuck.add(call)
        while self._all_stuck() and self._waiting:
            self._waiting.popleft().result.errback(self._busy())
        if not self._all_stuck():
            self._go_on()

    def _all_stuck(self) -> bool:
        return self._leave is not None and len(self._stuck) >= self._leave.calls

    def _busy(self) -> Busy:
        return Busy(detail=f"{self._name}: {len(self._stuck)} calls do not return")

    def _done(self, inbox: SimpleQueue[Call | None], call: Call) -> None:
        self._running.pop(call, None)
        self._stuck.discard(call)
        self._idle.append(inbox)
        self._go_on()
        if not call.dropped:
            call.result.callback(call.outcome)
