"""What signals mean to a server, beside SIGTERM and SIGINT, which Twisted takes for "stop".

SIGHUP reads the configuration again. SIGUSR1 and SIGUSR2 end nothing: whatever has no meaning of its own here (twistd
gives SIGUSR1 one when it writes a log file) is said in a line and passed over.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterable
from functools import partial
from types import FrameType
from typing import Any

from mailhub.log import Logger

_log = Logger(namespace="mailhub")


class Signals:
    """Has signals call functions on the reactor's thread."""

    def __init__(self, reactor: Any, reload: Callable[[], object], stop: Callable[[], object]) -> None:
        self._reactor = reactor
        self._reload = reload
        self._stop = stop
        self._terminals: list[int] = []
        self._ending = False

    def hang_up(self) -> None:
        """From now on SIGHUP does not end the process. May be called long before the reactor runs."""
        self._handle(signal.SIGHUP, self._hung_up)

    def others(self) -> None:
        """Take the signals that nobody has taken, when twistd has taken its own and a daemon has left its terminal."""
        self._terminals = _terminals()
        for number in (signal.SIGUSR1, signal.SIGUSR2):
            if signal.getsignal(number) is signal.SIG_DFL:
                self._handle(number, partial(_log.info, "{name} has no meaning", name=number.name))

    def ending_once(self) -> None:
        """To be called when the reactor runs, which has taken SIGTERM and SIGINT then. The first of them ends it; to
        another one, as of who presses Ctrl-C twice, it would answer with a traceback."""
        for number in (signal.SIGTERM, signal.SIGINT):
            if callable(end := signal.getsignal(number)):
                signal.signal(number, partial(self._end, end))

    def ending(self) -> None:
        """The server stops, for whatever reason."""
        self._ending = True

    def _end(self, end: Callable[[int, FrameType | None], object], number: int, frame: FrameType | None) -> None:
        if self._ending:
            name = signal.Signals(number).name
            self._reactor.callFromThread(partial(_log.info, "{name}: it is stopping already", name=name))
        else:
            self._ending = True
            end(number, frame)

    def _handle(self, number: signal.Signals, function: Callable[[], object]) -> None:
        # callFromThread wakes the reactor, and keeps calls until it runs.
        signal.signal(number, lambda *_: self._reactor.callFromThread(function))

    def _hung_up(self) -> None:
        """SIGHUP is also what a server in the foreground gets when its terminal is closed, and then it ends."""
        if any(not os.isatty(descriptor) for descriptor in self._terminals):
            _log.info("the terminal is gone, stopping")
            self._stop()
        else:
            self._reload()


def _terminals(descriptors: Iterable[int] = (0, 1, 2)) -> list[int]:
    return [descriptor for descriptor in descriptors if os.isatty(descriptor)]
