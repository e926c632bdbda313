"""A client by hand: says octets, and waits for what it is to hear."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.protocol import Protocol

RunUntil = Callable[[Callable[[], bool], float, float], bool]


class Caller(Protocol):
    """One connection, on a clock that runs while somebody waits. `heard` is all that came."""

    def __init__(self, run_until: RunUntil, *, secure: bool) -> None:
        """`run_until(condition, seconds, step)` lets time go by. `secure`: TLS is spoken from the first octet."""
        self.heard = b""
        self.lost = False
        self._run_until = run_until
        self._secure = secure

    def connectionMade(self) -> None:
        """See `IProtocol`."""
        if self._secure:
            self._transport.startTLS(None)

    def dataReceived(self, data: bytes) -> None:
        """See `IProtocol`."""
        self.heard += data

    def connectionLost(self, reason: Any = None) -> None:
        """See `IProtocol`."""
        self.lost = True

    def say(self, octets: bytes) -> None:
        """Say `octets`, and wait for nothing."""
        self._transport.write(octets)

    def ask(self, octets: bytes, until: bytes, seconds: float = 60) -> bytes:
        """Say `octets` and return what comes, up to a line that begins with `until`. Raises AssertionError when it does
        not come within `seconds`."""
        start = len(self.heard)
        if octets:
            self._transport.write(octets)
        return self.expect(until, start, seconds)

    def expect(self, until: bytes, start: int = 0, seconds: float = 60) -> bytes:
        """What has been heard from `start` on, up to a line that begins with `until`."""

        def came() -> bool:
            return any(line.startswith(until) for line in self.heard[start:].split(b"\r\n")[:-1])

        if not self._run_until(came, seconds, 0.1):
            raise AssertionError(f"no line {until!r} within {seconds} seconds, but {self.heard[start:]!r}")
        return self.heard[start:]

    def wait_for_end(self, seconds: float = 60) -> None:
        """Until the server has closed the connection. Raises AssertionError when it does not."""
        if not self._run_until(lambda: self.lost, seconds, 0.1):
            raise AssertionError(f"still open after {seconds} seconds")

    def start_tls(self) -> None:
        """After the server has agreed."""
        self._transport.startTLS(None)
        self._run_until(lambda: False, 1.0, 1.0)

    @property
    def _transport(self) -> Any:
        return self.transport
