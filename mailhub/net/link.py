"""The contract between the driver, a wire machine and the session that answers its events."""

from __future__ import annotations

from collections.abc import Callable, Container, Coroutine
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

import attrs

from mailhub.keys import COUNT_LOOPBACK, limit, setting
from mailhub.net.networks import PROXY_PROTOCOL, Networks

if TYPE_CHECKING:
    from twisted.internet.interfaces import IDelayedCall
    from twisted.python.failure import Failure

    from mailhub.interfaces import IBlobReader

Job: TypeAlias = Callable[[], Coroutine[Any, Any, None]]


class Disconnected(Exception):
    """Raised from `Link.send` and `Link.write_all`: the peer is gone. A handler may let it pass."""


class Machine(Protocol):
    """A wire machine, as far as the driver knows it.

    `next_event` returns None when there is no event now. It may do so early, while it has output: the driver then
    sends that, waits until the peer has taken it, and asks again. So a flood of commands that the machine answers
    alone does not pile up replies.
    """

    @property
    def closing(self) -> bool:
        """Close the connection once data_to_send() is out."""

    def receive_data(self, data: bytes) -> None:
        """Octets from the peer."""

    def receive_eof(self) -> None:
        """The peer will send no more."""

    def next_event(self) -> object | None:
        """What the session must answer next."""

    def data_to_send(self) -> bytes:
        """Take the replies collected so far."""

    def tls_started(self) -> None:
        """Forget everything learned, and every octet received, before TLS."""


class Session(Protocol):
    """One per connection: knows the machine and the domain objects, answers events through the machine.

    No two of `connected`, `handle` and the jobs of `Link.run` ever run at the same time. `disconnected` comes
    after the last of them has ended.
    """

    @property
    def machine(self) -> Machine:
        """The protocol."""

    async def connected(self) -> None:
        """Greet. With implicit TLS: after the handshake."""

    def handle(self, event: Any) -> Coroutine[Any, Any, None] | None:
        """Answer one event through the machine: None when that is done, else what does it (`async def` gives just
        that)."""

    def disconnected(self) -> None:
        """The connection is gone: release everything. Called exactly once."""

    def crashed(self, failure: Failure) -> None:
        """connected(), handle() or a job raised: give the protocol's "internal error" answer. The driver logs."""

    def timed_out(self) -> None:
        """The peer was silent for `Link.idle_seconds`: say farewell through the machine. The driver closes."""

    def shutting_down(self) -> None:
        """The server stops: say farewell through the machine. The driver closes."""


class Link(Protocol):
    """The connection as its session sees it."""

    idle_seconds: float

    @property
    def service(self) -> str:
        """The `[listen]` name of the service that was called."""

    @property
    def peer(self) -> str:
        """The peer's IP address as text (IPv4 where mapped into IPv6), "" for a local socket."""

    @property
    def local(self) -> str:
        """Our own IP address, "" for a local socket."""

    @property
    def session_id(self) -> str:
        """Unique in this process and most likely among all; stands on every log line."""

    @property
    def secure(self) -> bool:
        """TLS is on."""

    @property
    def tls(self) -> str:
        """Protocol and cipher, as `TLSv1.3/TLS_AES_256_GCM_SHA384`; "" without TLS, and until it is agreed."""

    @property
    def can_start_tls(self) -> bool:
        """TLS is off and there is a certificate to start it with."""

    @property
    def connected(self) -> bool:
        """The connection is neither lost nor closed from our side."""

    @property
    def silent_seconds(self) -> float:
        """How long the peer has neither said anything nor taken any of our octets; our own work is not its silence."""

    def speak_for(self, peer: str, local: str = "") -> bool:
        """The peer is trusted and speaks for the client `peer`, which has called `local` ("" where that is not known):
        from now on it counts as that one. False when there is no room for another connection of that address."""

    def start_tls(self) -> None:
        """From a handler that has accepted it: send what is pending, start TLS, then `machine.tls_started()`."""

    def flush(self) -> None:
        """Send the machine's output now; at any time, so also between events (IDLE)."""

    def write(self, octets: bytes) -> None:
        """Octets after the machine's output so far, without waiting. For small amounts."""

    async def send(self, octets: bytes = b"") -> None:
        """Like `write`, then wait while the peer is slow. Raises Disconnected."""

    async def write_all(self, reader: IBlobReader, offset: int = 0, length: int = -1) -> None:
        """A body or part of it (octets; -1: all the rest) with back-pressure and one block of read-ahead.

        Raises Disconnected and what the reader raises.
        """

    def run(self, job: Job) -> None:
        """Run `job` in the session's turn: after the handler at work, before the next event."""

    def call_later(self, seconds: float, function: Callable[[], None]) -> IDelayedCall:
        """Call `function` unless the connection has been lost by then."""

    def expel(self, farewell: Callable[[], None], seconds: float = 5.0) -> None:
        """End the session: `farewell` says so through the machine when the handler at work has ended. Then, and in any
        case after `seconds`, the connection is closed."""

    def close(self) -> None:
        """Send what is pending, then close."""

    def abort(self) -> None:
        """Cut the connection at once: the peer must not take what it has for complete."""


@attrs.frozen
class DriverLimits:
    """Bounds on connections of one service. Times in seconds. An "address" is an IPv4 address or an IPv6 /64; the
    larger networks are bounded as well, never below what is in them.

    `linger` is how long a peer may take to accept the last octets after we closed; `abandon` is how long a handler
    may go on after the connection is lost before it is cancelled. `proxies` are the addresses whose connections begin
    with a PROXY header.
    """

    connections: int = limit("connections_per_service", 10_000, 1, 1_000_000)
    connections_per_address: int = limit("connections_per_address", 100, 1, 1_000_000)
    connections_per_ipv4_24: int = limit("connections_per_ipv4_24", 1000, 1, 1_000_000)
    connections_per_ipv6_56: int = limit("connections_per_ipv6_56", 200, 1, 1_000_000)
    connections_per_ipv6_48: int = limit("connections_per_ipv6_48", 500, 1, 1_000_000)
    count_loopback: bool = setting(COUNT_LOOPBACK)
    proxies: Container[str] = setting(PROXY_PROTOCOL, Networks.of)
    idle_seconds: float = 600.0
    linger_seconds: float = 30.0
    abandon_seconds: float = 60.0
