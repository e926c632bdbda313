"""A plugin of the benchmarks: for how long the reactor kept everybody else waiting, told to whoever connects.

A turn lasts from what the kernel has ready to the next look at that. On epoll(7) alone.
"""

import time
from typing import Any

from twisted.internet import reactor
from twisted.internet.protocol import Factory, Protocol

from mailhub.api import Component, IHub, NoOptions, Service


class Poller:
    """The reactor's, with a look at the clocks before and after. `longest`: of one turn, seconds of this thread's CPU,
    and of the clock on the wall, which goes on while others have the machine or the interpreter."""

    def __init__(self, poller: Any) -> None:
        self._poller = poller
        self._began = self._now()
        self.longest = (0.0, 0.0)

    @staticmethod
    def _now() -> tuple[float, float]:
        return time.thread_time(), time.monotonic()

    def poll(self, *arguments: Any) -> Any:
        """Between two turns."""
        (cpu, wall), (cpu_then, wall_then) = self._now(), self._began
        self.longest = max(self.longest[0], cpu - cpu_then), max(self.longest[1], wall - wall_then)
        found = self._poller.poll(*arguments)
        self._began = self._now()
        return found

    def __getattr__(self, name: str) -> Any:
        return getattr(self._poller, name)


class Teller(Protocol):
    """A line with the longest since the last one, in seconds; then they are forgotten."""

    factory: "Turns"

    def connectionMade(self) -> None:
        poller: Any = self.factory.poller
        self.transport.write("{} {}\r\n".format(*poller.longest).encode())  # type: ignore[union-attr]
        self.transport.loseConnection()  # type: ignore[union-attr]
        poller.longest = (0.0, 0.0)


class Turns(Factory):
    """Watches from its making on."""

    protocol: Any = Teller

    def __init__(self, options: NoOptions, hub: IHub) -> None:
        watched: Any = reactor
        self.poller = watched._poller = Poller(watched._poller)


turns = Component("service", "turns", Turns, NoOptions, Service(refusal=b"0 0\r\n"))
