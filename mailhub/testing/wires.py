"""A network in memory: connections on a `task.Clock`, with latency and faults chosen by a seed.

Octets, back-pressure, half-closed connections and TLS handshakes behave as a session sees them on Twisted's TCP. TLS is
played, not computed: contexts are not looked at, but who speaks plainly where the other expects TLS is cut off.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping
from enum import Enum
from random import Random
from typing import Any, Literal, get_args

import attrs
from twisted.internet import error
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import (
    IAddress,
    IConsumer,
    IHalfCloseableProtocol,
    IHandshakeListener,
    IProtocolFactory,
    IReactorTime,
    ITransport,
)
from twisted.internet.task import deferLater
from twisted.python.failure import Failure
from zope.interface import implementer

from mailhub.config.reader import one_of
from mailhub.errors import TemporaryError
from mailhub.interfaces import INetwork
from mailhub.testing.dialogue import INJECTED, STAGES, Dialogue, Piece, Side
from mailhub.testing.played_tls import PlayedConnections

_HIGH = 65536  # octets on the way before a producer is paused


class _Signal(Enum):
    """What travels between the octets."""

    END = "end"
    LOST = "lost"
    HELLO = "TLS hello"


@attrs.frozen
class Weather:
    """How connections to a host fare. Shares are 0.0 to 1.0 of the connections, decided by the network's seed.

    `refused`: nobody listens. `lost`: no answer until the caller's time is up. `cut`: lost after the calling side has
    sent at most `cut_octets`. `tls_broken`: the handshake fails. With `split`, octets arrive in pieces of any size.
    """

    latency_seconds: float = 0.01
    refused: float = 0.0
    lost: float = 0.0
    cut: float = 0.0
    cut_octets: int = 1000
    tls_broken: float = 0.0
    split: bool = False


TroubleKind = Literal["refused", "unanswered", "reset", "silent", "slow", "answer"]
TROUBLES: tuple[str, ...] = get_args(TroubleKind)
_ONE_SIDED: Mapping[str, Side] = {"greeting": "reply", "body": "command"}


@attrs.frozen
class Trouble:
    """What befalls one connection.

    `refused`: nobody listens. `unanswered`: the call is not answered until the caller's time is up. `reset`: both ends
    lose it. `silent`: it is half-open, nothing arrives at either end any more and neither is told. `slow`: from then on
    all that is sent takes `seconds`. `answer`: the server does not get to see the command, which is answered by `reply`
    in its stead; where it is the "end" of a message, by one for each recipient in LMTP, and what the client says then
    by 421, for the server has lost the connection.

    The last four come when a `stage` of an SMTP conversation is reached (`mailhub.testing.dialogue.STAGES`): before
    the `side` "command" of it gets to the server, before the "reply" gets to the client, or "after" that. With
    `octets`, when so many have been sent by both together. Raises ValueError for what could never come.
    """

    kind: TroubleKind
    stage: str = ""
    side: Side = "reply"
    octets: int = 0
    seconds: float = 30.0
    reply: bytes = b"451 4.3.0 Not now\r\n"

    def __attrs_post_init__(self) -> None:
        if self.kind not in TROUBLES:
            raise ValueError(f"there is no trouble {self.kind!r}; {one_of(self.kind, TROUBLES)}")
        if self.kind in ("refused", "unanswered"):
            return
        if not self.stage and not self.octets:
            raise ValueError(f"{self.kind!r} needs a stage, or octets; {one_of('', STAGES)}")
        if self.stage and self.stage not in STAGES:
            raise ValueError(f"there is no stage {self.stage!r}; {one_of(self.stage, STAGES)}")
        sides = get_args(Side)
        if self.side not in sides:
            raise ValueError(f"there is no side {self.side!r}; {one_of(self.side, sides)}")
        if self.stage in _ONE_SIDED and (self.side == "command") is not (_ONE_SIDED[self.stage] == "command"):
            raise ValueError(f"the stage {self.stage!r} has a {_ONE_SIDED[self.stage]} alone")
        if self.kind == "answer" and (self.side != "command" or not self.stage or not self.reply.strip()):
            raise ValueError("'answer' needs a stage, the side 'command' and a reply")


@attrs.define(eq=False)
class Listener:
    """A port that is listened on."""

    factory: IProtocolFactory
    implicit_tls: bool = False


class MemoryNetwork:
    """All hosts and their ports. `events` is what happened: (seconds, line), the same for the same seed.

    `trouble(source, host, port)` is asked what befalls each connection. The certificates of addresses in `expired` are
    not good, for whoever looks at them. Those in `away` have no power, and answer nobody; those in `refusing` refuse
    all connections.
    """

    def __init__(self, clock: IReactorTime, random: Random, weather: Weather | None = None) -> None:
        self.clock = clock
        self.random = random
        self.weather = weather or Weather()
        self.weather_at: dict[str, Weather] = {}
        self.trouble: Callable[[str, str, int], Trouble | None] = lambda source, host, port: None
        self.expired: set[str] = set()
        self.away: set[str] = set()
        self.refusing: set[str] = set()
        self.events: list[tuple[float, str]] = []
        self._wires: dict[Wire, None] = {}
        self._listeners: dict[tuple[str, int], Listener] = {}
        self._ports = 40_000

    def listen(self, host: str, port: int, factory: IProtocolFactory, *, implicit_tls: bool = False) -> None:
        """Serve connections to `host` (an IP address or `unix:/path`) and `port`."""
        self._listeners[host, port] = Listener(factory, implicit_tls)

    def unlisten(self, host: str, port: int) -> None:
        """Refuse connections from now on; those there are go on."""
        del self._listeners[host, port]

    def at(self, address: str, alive: Callable[[], bool] = lambda: True) -> HostNetwork:
        """The network as the host with this address sees it, while it is `alive`."""
        return HostNetwork(self, address, alive)

    @property
    def open_connections(self) -> tuple[str, ...]:
        """Those that at least one end has not closed or lost yet."""
        return tuple(wire.name for wire in self._wires)

    def cut_off(self, address: str, *, silently: bool) -> None:
        """The process at an address has ended: its protocols hear nothing any more. The other ends lose their
        connections or, where it went `silently` (the power has failed), are not told."""
        for wire in tuple(self._wires):
            wire.cut_off(address, silently=silently)

    def note(self, line: str) -> None:
        """Write an event down."""
        self.events.append((self.clock.seconds(), line))

    async def dial(
        self,
        source: str,
        host: str,
        port: int,
        factory: IProtocolFactory,
        timeout: float,
        alive: Callable[[], bool] = lambda: True,
    ) -> Any:
        """Connect from one host to another. Raises TemporaryError. A caller that is not `alive` any more gets no
        answer."""
        weather = self.weather_at.get(host, self.weather)
        trouble = self.trouble(source, host, port)
        kind = "" if trouble is None else trouble.kind
        if host in self.away or kind == "unanswered" or self.random.random() < weather.lost:
            self.note(f"lost {source} -> {host}:{port}")
            await deferLater(self.clock, timeout)
            raise TemporaryError(f"Cannot connect to {host}: timed out", status="4.4.1")
        await deferLater(self.clock, weather.latency_seconds)
        if not alive():
            await Deferred()
        listener = self._listeners.get((host, port))
        if listener is None or kind == "refused" or host in self.refusing or self.random.random() < weather.refused:
            self.note(f"refused {source} -> {host}:{port}")
            raise TemporaryError(f"Cannot connect to {host}: connection refused", status="4.4.1")
        self._ports += 1
        here, there = _address(source, self._ports), _address(host, port)
        wire = Wire(self, weather, f"{source} -> {host}:{port} #{self._ports}", trouble)
        return self._join(wire, here, there, factory, listener)

    def _join(self, wire: Wire, here: IAddress, there: IAddress, factory: IProtocolFactory, listener: Listener) -> Any:
        caller, served = factory.buildProtocol(there), listener.factory.buildProtocol(here)
        if caller is None or served is None:
            raise TemporaryError(f"Cannot connect to {_text(there)}: connection refused", status="4.4.1")
        wire.caller = MemoryTransport(wire, caller, here, there)
        wire.served = MemoryTransport(wire, served, there, here)
        self._wires[wire] = None
        self.note(f"connected {wire.name}")
        if listener.implicit_tls:
            wire.served.startTLS(None)
        served.makeConnection(wire.served)
        caller.makeConnection(wire.caller)
        return caller

    def ended(self, wire: Wire) -> None:
        """Both ends have closed or lost a connection."""
        self._wires.pop(wire, None)


@implementer(INetwork)
@attrs.frozen
class HostNetwork:
    """`INetwork` of one host."""

    network: MemoryNetwork
    address: str
    alive: Callable[[], bool] = lambda: True

    async def connect(self, host: str, port: int, factory: IProtocolFactory, timeout: float, source: str = "") -> Any:
        """See `INetwork`."""
        if not self.alive():
            await Deferred()
        return await self.network.dial(source or self.address, host, port, factory, timeout, self.alive)


class Wire:
    """One connection: keeps the order of what travels, and cuts it when its time has come."""

    caller: MemoryTransport
    served: MemoryTransport

    def __init__(self, network: MemoryNetwork, weather: Weather, name: str, trouble: Trouble | None = None) -> None:
        random = network.random
        self.network = network
        self.weather = weather
        self.name = name
        self.tls_broken = random.random() < weather.tls_broken
        self._left = random.randint(1, weather.cut_octets) if random.random() < weather.cut else -1
        self._severed = False
        self._trouble = trouble
        self._struck = False
        self._injected: bytes | None = None
        self._swallowed = 0  # octets from the client that go nowhere
        self._deaf = False  # none that the client sends gets to the server any more
        self._overheard = Dialogue()
        self._octets = 0
        self._latency = weather.latency_seconds

    def other(self, end: MemoryTransport) -> MemoryTransport:
        """The far end."""
        return self.served if end is self.caller else self.caller

    def carry(self, sender: MemoryTransport, item: bytes | _Signal) -> None:
        """Bring an item to the far end."""
        if self._trouble is None or not isinstance(item, bytes):
            self._carry(sender, item)
            return
        from_client = sender is self.caller
        for piece, stage in (self._overheard.client if from_client else self._overheard.server)(item):
            if from_client and (self._swallowed or self._deaf):
                self._swallow(piece)
                continue
            if self._strikes(self._trouble, "command" if from_client else "reply", (piece, stage)):
                if self._trouble.kind == "answer":
                    self._gone(piece)
                    self._answer(self._trouble, stage)
                    continue
                if stage == "body" and self._trouble.kind != "slow":
                    self._carry(sender, piece[: len(piece) // 2])
                self._strike(self._trouble)
            self._carry(sender, piece)
            if not from_client and self._strikes(self._trouble, "after", (b"", stage)):
                self._strike(self._trouble)
            if not from_client and self._injected is not None and self._overheard.is_next(INJECTED):
                self._inject(self._injected)

    def _swallow(self, piece: bytes) -> None:
        """Octets of the client go nowhere; where there is no server to it any more, it learns that from these."""
        self._gone(piece)
        if not self._deaf:
            self._swallowed = max(0, self._swallowed - len(piece))
        elif self._injected is None:
            self._carry(self.served, b"421 4.3.2 Closing\r\n")
            self._carry(self.served, _Signal.LOST)
            self._severed = True

    def _gone(self, piece: bytes) -> None:
        """Octets of the client fill no buffer any more."""
        self.network.clock.callLater(self._latency, self.caller.taken, len(piece))

    def _answer(self, trouble: Trouble, stage: str) -> None:
        """The command just overheard gets this reply, when those to the commands before it have come."""
        self._struck = True
        self._injected = trouble.reply
        self._swallowed = self._overheard.take_over()
        self._deaf = stage == "end"
        if self._overheard.is_next(INJECTED):
            self._inject(trouble.reply)

    def _inject(self, octets: bytes) -> None:
        self.network.note(f"answered {self.name}")
        self._injected = None
        count = self._overheard.end_replies if self._deaf else 1
        self._overheard.answered()
        self._carry(self.served, octets * count)
        if self._deaf:
            self.network.clock.callLater(self._latency, self.served.arrived, _Signal.LOST)

    def _strikes(self, trouble: Trouble, side: Side, piece: Piece) -> bool:
        octets, stage = piece
        self._octets += len(octets)
        if self._struck:
            return False
        if trouble.octets:
            return self._octets > trouble.octets
        return stage == trouble.stage and side == trouble.side

    def _strike(self, trouble: Trouble) -> None:
        self._struck = True
        if trouble.kind == "reset":
            self._sever()
        elif trouble.kind == "silent":
            self.network.note(f"silent {self.name}")
            self._severed = True
        elif trouble.kind == "slow":
            self.network.note(f"slow {self.name}")
            self._latency = trouble.seconds

    def _carry(self, sender: MemoryTransport, item: bytes | _Signal) -> None:
        if self._severed:
            return
        if isinstance(item, bytes) and sender is self.caller and self._left >= 0:
            if len(item) > self._left:
                self._send(sender, item[: self._left])
                self._sever()
                return
            self._left -= len(item)
        self._send(sender, item)

    def _send(self, sender: MemoryTransport, item: bytes | _Signal) -> None:
        for piece in self._pieces(item):
            self.network.clock.callLater(self._latency, self.other(sender).arrived, piece)

    def cut_off(self, address: str, *, silently: bool) -> None:
        """See `MemoryNetwork.cut_off`."""
        for end in (self.caller, self.served):
            if getattr(end.getHost(), "host", "") == address and not end.disconnected:
                if not silently and not self._severed:
                    # What was on the way is lost with it, as by TCP's reset.
                    self.network.clock.callLater(self.weather.latency_seconds, self.other(end).arrived, _Signal.LOST)
                self._severed = True
                end.vanish()

    def end_lost(self) -> None:
        """One of them is closed or lost."""
        if self.caller.disconnected and self.served.disconnected:
            self.network.ended(self)

    def _pieces(self, item: bytes | _Signal) -> Iterable[bytes | _Signal]:
        if not isinstance(item, bytes) or not self.weather.split:
            return [item] if item else []
        pieces, start = [], 0
        while start < len(item):
            size = self.network.random.choice((1, 2, 5, 100, 5000))
            pieces.append(item[start : start + size])
            start += size
        return pieces

    def _sever(self) -> None:
        self.network.note(f"cut {self.name}")
        for end in (self.caller, self.served):
            self.network.clock.callLater(self.weather.latency_seconds, end.arrived, _Signal.LOST)
        self._severed = True


@implementer(ITransport, IConsumer)
class MemoryTransport:
    """One end of a connection, as much of Twisted's TCP transport as mailhub and most protocols use."""

    def __init__(self, wire: Wire, protocol: Any, host: IAddress, peer: IAddress) -> None:
        self._wire = wire
        self.protocol = protocol
        self._host = host
        self._peer = peer
        self._clock = wire.network.clock
        self._inbox: deque[bytes | _Signal] = deque()
        self._on_the_way = 0
        self._paused = False
        self._producer: Any = None
        self._producer_paused = False
        self._handshaking = False
        self._tls: PlayedConnections | None = None
        self._greeted = False
        self._held: list[bytes] = []
        self._ended = False
        self.disconnecting = False
        self.disconnected = False

    # --- Writing ---------------------------------------------------------------------------------------------------

    def write(self, data: bytes) -> None:
        """Send octets, when TLS that is being agreed on is there; they are lost when the connection is."""
        if self.disconnected or self._ended or not data:
            return
        self._on_the_way += len(data)
        if self._handshaking:
            self._held.append(bytes(data))
        else:
            self._wire.carry(self, bytes(data))
        if self._on_the_way > _HIGH and self._producer is not None and not self._producer_paused:
            self._producer_paused = True
            self._producer.pauseProducing()

    def writeSequence(self, iovec: Iterable[bytes]) -> None:
        """Send all of them."""
        self.write(b"".join(iovec))

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        """Tell the producer to pause while too much is on the way."""
        if self.disconnected:
            producer.stopProducing()
            return
        self._producer = producer
        if not streaming:
            producer.resumeProducing()

    def unregisterProducer(self) -> None:
        """The producer has finished."""
        self._producer = None
        self._close_when_empty()

    def loseConnection(self) -> None:
        """Close once everything written is on its way."""
        self.disconnecting = True
        self._close_when_empty()

    def loseWriteConnection(self) -> None:
        """Close this direction alone."""
        if not self._ended:
            self._ended = True
            self._wire.carry(self, _Signal.END)

    def abortConnection(self) -> None:
        """Cut the connection."""
        if not self.disconnected:
            self._wire.carry(self, _Signal.LOST)
            self._clock.callLater(0, self._lose, error.ConnectionAborted())

    def _close_when_empty(self) -> None:
        empty = self._on_the_way <= _HIGH and not self._held
        if self.disconnecting and not self.disconnected and self._producer is None and empty:
            self.loseWriteConnection()
            self._clock.callLater(0, self._lose, error.ConnectionDone())

    def taken(self, count: int) -> None:
        """The far end has read octets."""
        self._on_the_way -= count
        if self._on_the_way <= 0 and self._producer_paused:
            self._producer_paused = False
            if self._producer is not None:
                self._producer.resumeProducing()
        self._close_when_empty()

    # --- Reading ---------------------------------------------------------------------------------------------------

    def pauseProducing(self) -> None:
        """Hold what arrives."""
        self._paused = True

    def resumeProducing(self) -> None:
        """Give out what was held, and go on."""
        if self._paused:
            self._paused = False
            self._clock.callLater(0, self._read)

    def stopProducing(self) -> None:
        """Close."""
        self.loseConnection()

    def arrived(self, item: bytes | _Signal) -> None:
        """Something comes in from the far end."""
        if self.disconnected:
            if isinstance(item, bytes):
                # Nobody is here any more: TCP answers with a reset.
                self._wire.carry(self, _Signal.LOST)
            return
        if item is _Signal.LOST:
            self._lose(error.ConnectionLost())
            return
        self._inbox.append(item)
        self._read()

    def _read(self) -> None:
        while self._inbox and not self._paused and not self.disconnected:
            item = self._inbox.popleft()
            if isinstance(item, bytes):
                self._wire.other(self).taken(len(item))
                if self._handshaking != self._greeted:
                    self._break("plain octets where TLS was agreed")
                elif not self.disconnecting:
                    self.protocol.dataReceived(item)
            elif item is _Signal.HELLO:
                self._hello()
            elif IHalfCloseableProtocol.providedBy(self.protocol):
                self.protocol.readConnectionLost()
            else:
                self._lose(error.ConnectionDone())

    def _lose(self, reason: Exception) -> None:
        if not self.disconnected:
            self.disconnected = True
            self._inbox.clear()
            producer, self._producer = self._producer, None
            if producer is not None:
                producer.stopProducing()
            self._wire.network.note(f"closed {self._wire.name} at {_text(self._host)}: {type(reason).__name__}")
            self._wire.end_lost()
            self.protocol.connectionLost(Failure(reason))  # type: ignore[no-untyped-call]

    def vanish(self) -> None:
        """The process is gone, and its protocol with it: nobody is told."""
        self.disconnected = True
        self._inbox.clear()
        self._held.clear()
        self._producer = None
        self._wire.end_lost()

    # --- TLS -------------------------------------------------------------------------------------------------------

    def startTLS(self, contextFactory: Any, normal: bool = True) -> bool:
        """Play a handshake: done when the far end has said hello too."""
        self._handshaking = True
        if isinstance(contextFactory, PlayedConnections):
            self._tls = contextFactory
        self._wire.carry(self, _Signal.HELLO)
        if self._greeted:
            self._clock.callLater(0, self._hello)
        return True

    def _hello(self) -> None:
        self._greeted = not self._handshaking
        if self._wire.tls_broken:
            self._break("TLS handshake failed")
        elif self._tls is not None and not self._tls.accepts(expired=_text(self._peer) in self._wire.network.expired):
            self._break("certificate has expired")
        elif self._handshaking:
            self._handshaking = False
            held, self._held = self._held, []
            for octets in held:
                self._wire.carry(self, octets)
            self._close_when_empty()
            if IHandshakeListener.providedBy(self.protocol):
                self.protocol.handshakeCompleted()

    def _break(self, reason: str) -> None:
        self._wire.carry(self, _Signal.LOST)
        self._lose(error.ConnectionLost(reason))

    # --- Who is where ----------------------------------------------------------------------------------------------

    def getHost(self) -> IAddress:
        """This end."""
        return self._host

    def getPeer(self) -> IAddress:
        """The far end."""
        return self._peer


def _address(host: str, port: int) -> IAddress:
    if host.startswith("unix:"):
        return UNIXAddress(host.removeprefix("unix:"))
    return (IPv6Address if ":" in host else IPv4Address)("TCP", host, port)


def _text(address: Any) -> str:
    return str(getattr(address, "host", "socket"))
