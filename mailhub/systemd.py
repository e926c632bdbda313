"""Tells systemd what the server is doing (sd_notify(3), `Type=notify`), and that it is alive (`WatchdogSec=`).

Without $NOTIFY_SOCKET nothing is told. A datagram that cannot be sent is dropped: nobody waits for systemd.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Mapping

import attrs
from twisted.internet.interfaces import IDelayedCall, IReactorTime

# While it starts or stops, more time is asked for this often; seconds.
_PATIENCE = 20


@attrs.define(eq=False)
class Supervisor:
    """One process of one unit. `address`: $NOTIFY_SOCKET; `watchdog`: seconds between two signs of life, or 0."""

    clock: IReactorTime
    address: str = ""
    watchdog: float = 0.0
    _timer: IDelayedCall | None = attrs.field(init=False, default=None)

    @classmethod
    def of(cls, environ: Mapping[str, str], clock: IReactorTime) -> Supervisor:
        """As systemd has left it in the environment."""
        # A watchdog of another process (our parent's) is not ours to feed.
        ours = environ.get("WATCHDOG_PID", "") in ("", str(os.getpid()))
        microseconds = environ.get("WATCHDOG_USEC", "")
        watchdog = int(microseconds) / 2e6 if ours and microseconds.isascii() and microseconds.isdigit() else 0.0
        return cls(clock, environ.get("NOTIFY_SOCKET", ""), watchdog)

    def starting(self) -> None:
        """The reactor runs; a large database may take a while to open."""
        self._repeat(_PATIENCE, f"EXTEND_TIMEOUT_USEC={3 * _PATIENCE * 1_000_000}")

    def ready(self, status: str) -> None:
        """Ports are served. From now on the reactor gives signs of life."""
        self._tell("READY=1", f"STATUS={status}")
        self._repeat(self.watchdog, "WATCHDOG=1")

    def reloading(self) -> None:
        """The configuration is being read again; `ready` follows."""
        self._tell("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def stopping(self) -> None:
        """Sessions are told, deliveries under way may finish."""
        self._tell("STOPPING=1")
        self._repeat(_PATIENCE, f"EXTEND_TIMEOUT_USEC={3 * _PATIENCE * 1_000_000}", "WATCHDOG=1")

    def stopped(self) -> None:
        """The last word."""
        self._disarm()

    def _repeat(self, seconds: float, *lines: str) -> None:
        """Say it now and every so often, until something else is to be repeated."""
        self._disarm()
        if self.address and seconds:
            self._tell(*lines)
            self._timer = self.clock.callLater(seconds, self._repeat, seconds, *lines)

    def _disarm(self) -> None:
        timer, self._timer = self._timer, None
        if timer is not None and timer.active():
            timer.cancel()

    def _tell(self, *lines: str) -> None:
        if not self.address:
            return
        # An @ stands for the octet of the abstract namespace.
        address = f"\0{self.address[1:]}" if self.address.startswith("@") else self.address
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as channel:
                channel.setblocking(False)
                channel.sendto("\n".join(lines).encode(), address)
        except OSError:
            return
