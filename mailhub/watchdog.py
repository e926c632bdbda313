"""Who keeps everybody else waiting: a plugin that blocks the reactor thread is named while it does.

The reactor ticks, and a thread of its own looks whether it does. When it has not for a second, the stack of the reactor
thread tells which plugin's code it is in.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from types import FrameType

import attrs
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import LogLevel

from mailhub.guard import Guard
from mailhub.log import Logger

_log = Logger(namespace="mailhub.plugins")

TICK_SECONDS = 0.5
BLOCKED_SECONDS = 1.0

# In whose frames `self` and `method` are those that are called.
_CALLS = (Guard.ask_about.__code__, Guard.within.__code__)

_PLUGINS = "twisted.plugins."  # the package of all plugin files


@attrs.frozen
class Blame:
    """Whose code it is, by the guard that has called it where that is known, and where it stands now."""

    guard: Guard | None
    method: str
    file: str
    line: int


def blame(frame: FrameType | None, guards: Iterable[Guard]) -> Blame | None:
    """The plugin that a stack is in; None when it is in none. `frame` is the innermost."""
    by_file: dict[str, list[Guard]] = {}
    for guard in guards:
        by_file.setdefault(guard.file, []).append(guard)
    where: tuple[str, int] | None = None
    while frame is not None:
        code = frame.f_code
        if code in _CALLS:
            guard, method = frame.f_locals["self"], frame.f_locals["method"]
            return Blame(guard, method, *where) if where is not None else None
        if where is None and (code.co_filename in by_file or str(frame.f_globals.get("__name__")).startswith(_PLUGINS)):
            where = code.co_filename, frame.f_lineno
        frame = frame.f_back
    # What was waited for goes on in a call of the reactor's, far from whoever asked.
    if where is None:
        return None
    # Which of several parts of one file that is cannot be told.
    found = by_file.get(where[0], [])
    return Blame(found[0] if len(found) == 1 else None, "", *where)


class Watchdog:
    """Watches over the thread that `start` is called in. `guards` gives those of the parts that there are now."""

    def __init__(
        self,
        clock: IReactorTime,
        guards: Callable[[], Iterable[Guard]],
        now: Callable[[], float] = time.monotonic,
        frames: Callable[[], Mapping[int, FrameType]] = sys._current_frames,
    ) -> None:
        self._clock = clock
        self._guards = guards
        self._now = now
        self._frames = frames
        self._ticked = 0.0
        self._blocked: Blame | None = None
        self._thread = 0
        self._timer: IDelayedCall | None = None
        self._ended = threading.Event()

    def start(self) -> None:
        """Begin to tick, and to look."""
        self.tick()
        threading.Thread(target=self._watch, name="watchdog", daemon=True).start()

    def stop(self) -> None:
        """The end."""
        self._ended.set()
        if self._timer is not None and self._timer.active():
            self._timer.cancel()

    def tick(self) -> None:
        """On the reactor thread: it is alive."""
        now = self._now()
        blocked, self._blocked = self._blocked, None
        if blocked is not None:
            fields = {**_told(blocked), "seconds": f"{now - self._ticked:.1f}"}
            _log.event("plugin has let go of the server", fields, LogLevel.warn)
        self._thread = threading.get_ident()
        self._ticked = now
        self._timer = self._clock.callLater(TICK_SECONDS, self.tick)

    def _watch(self) -> None:
        while not self._ended.wait(TICK_SECONDS):
            self.look()

    def look(self) -> None:
        """From another thread: name who has kept the reactor for too long, once."""
        ticked, seconds = self._ticked, self._now() - self._ticked
        if seconds < BLOCKED_SECONDS or self._blocked is not None:
            return
        found = blame(self._frames().get(self._thread), self._guards())
        if found is None or ticked != self._ticked:
            return
        self._blocked = found
        if found.guard is not None:
            found.guard.blocked += 1
        fields = {**_told(found), "seconds": f"{seconds:.1f}"}
        _log.event("plugin blocks the server", fields, LogLevel.error)


def _told(found: Blame) -> dict[str, object]:
    who = {} if found.guard is None else {"kind": found.guard.kind, "name": found.guard.name}
    method = {"method": found.method} if found.method else {}
    return {**who, **method, "file": found.file, "line": found.line}
