"""The smallest protocol there is, to drive the driver: one line in, one line out, and a transport that fills up."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any, cast

import attrs
from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IAddress
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure

from mailhub.net.channel import Channel
from mailhub.net.connection import Connection
from mailhub.net.driver import DriverFactory
from mailhub.net.link import DriverLimits, Link

PEER = IPv4Address("TCP", "192.0.2.7", 4000)


class LineMachine:
    """Lines are events. `#...` is answered without one, `broken` is a bug, `bye` closes."""

    def __init__(self) -> None:
        self.closing = False
        self.octets = b""
        self.out = b""
        self.tls = False
        self.eof = False

    def receive_data(self, data: bytes) -> None:
        self.octets += data

    def receive_eof(self) -> None:
        self.eof = True

    def next_event(self) -> bytes | None:
        while b"\n" in self.octets and not self.closing:
            line, _, self.octets = self.octets.partition(b"\n")
            if line == b"broken":
                raise ZeroDivisionError
            if line == b"bye":
                self.closing = True
            if not line.startswith(b"#") and line != b"bye":
                return line
            self.out += line + b"\n"
            if len(self.out) > 1000:
                break
        return None

    def data_to_send(self) -> bytes:
        out, self.out = self.out, b""
        return out

    def tls_started(self) -> None:
        self.octets = b""
        self.tls = True


class LineSession:
    """Answers `x` with `x!`. A line in `waits` waits for its Deferred first; one in `does` calls a function."""

    def __init__(self, link: Link) -> None:
        self.link = link
        self.machine = LineMachine()
        self.waits: dict[bytes, Deferred[Any]] = {}
        self.does: dict[bytes, Callable[[], Any]] = {}
        self.seen: list[bytes] = []
        self.trace: list[str] = []

    async def connected(self) -> None:
        self.machine.out += b"hello\n"

    async def handle(self, event: bytes) -> None:
        self.seen.append(event)
        try:
            if event in self.waits:
                await self.waits[event]
            if event in self.does:
                work = self.does[event]()
                if work is not None:
                    await work
        except BaseException as error:
            self.trace.append(type(error).__name__)
            raise
        self.machine.out += event + b"!\n"

    def disconnected(self) -> None:
        self.trace.append("disconnected")

    def crashed(self, failure: Failure) -> None:
        self.machine.out += b"error\n"

    def timed_out(self) -> None:
        self.machine.out += b"timeout\n"

    def shutting_down(self) -> None:
        self.machine.out += b"shutdown\n"


class Peer(StringTransport):
    """A transport that, like Twisted's, holds back its producer above 64 KiB until `drain()`. `writes` are the single
    writes."""

    def __init__(self, peer: IAddress = PEER) -> None:
        self.writes: list[bytes] = []
        self.held = 0
        self.full = False
        self.slow = False
        super().__init__(peerAddress=peer)  # type: ignore[no-untyped-call]

    def write(self, data: bytes) -> None:
        self.writes.append(data)
        self.held += len(data) if self.slow else 0
        if self.held > 65536 and not self.full and self.producer is not None:
            self.full = True
            self.producer.pauseProducing()

    def drain(self) -> None:
        """The peer takes everything."""
        self.held = 0
        if self.full and self.producer is not None:
            self.full = False
            self.producer.resumeProducing()

    def taken(self) -> bytes:
        """What was written since the last time."""
        octets = b"".join(self.writes)
        self.writes.clear()
        return octets


@attrs.define
class Rig:
    """A factory, a clock, and one connection of it."""

    limits: DriverLimits = attrs.field(factory=DriverLimits)
    tls: Any = None
    implicit_tls: bool = False
    clock: Clock = attrs.field(factory=Clock)
    sessions: list[LineSession] = attrs.field(factory=list)
    factory: DriverFactory = attrs.field(init=False)
    channel: Channel = attrs.field(init=False)
    peer: Peer = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.factory = DriverFactory(
            self.make, self.clock, Random(1), "test", self.tls, self.implicit_tls, self.limits, b"too many\n"
        )
        self.channel, self.peer = self.connect()

    def make(self, link: Link) -> LineSession:
        self.sessions.append(LineSession(link))
        return self.sessions[-1]

    def connect(self, peer: IAddress = PEER) -> tuple[Channel, Peer]:
        """Twisted's side of another connection. What is one too many has a protocol that is no channel."""
        channel: Any = self.factory.buildProtocol(peer)
        transport = Peer(peer)
        channel.makeConnection(transport)
        return channel, transport

    @property
    def connection(self) -> Connection:
        """The first connection that has a session."""
        return cast(Connection, self.session.link)

    @property
    def session(self) -> LineSession:
        return self.sessions[0]

    def gate(self, line: bytes) -> Deferred[None]:
        """The session waits for this before it answers `line`."""
        gate: Deferred[None] = Deferred()
        self.session.waits[line] = gate
        return gate

    def send(self, data: bytes) -> bytes:
        self.channel.dataReceived(data)
        return self.peer.taken()

    def lose(self) -> None:
        self.peer.connected = False
        self.channel.connectionLost(Failure(ConnectionDone()))  # type: ignore[no-untyped-call]
