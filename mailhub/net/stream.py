"""Connections to programs that answer one question after the other, such as filters: send, and read up to a mark.

Nothing here knows how long an answer may take: whoever asks cancels what takes too long, and the connection is cut.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IAddress, IProtocol, IProtocolFactory, IReactorTime
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.python.failure import Failure
from zope.interface import implementer

from mailhub.errors import TemporaryError
from mailhub.interfaces import Environment, IClientTls
from mailhub.net.channel import Channel, words_of
from mailhub.net.place import Place

T = TypeVar("T")

_IDLE = 10  # connections that wait for another question
_IDLE_SECONDS = 30.0  # each
_LEAVE_SECONDS = 5.0  # for a peer to take our last octets


class StreamBroken(TemporaryError):
    """A program cannot be reached, closes the connection, or answers with what is no answer."""

    def __init__(self, why: str) -> None:
        super().__init__(why, status="4.7.1", detail=why)


@implementer(IProtocolFactory)
@attrs.define(eq=False)
class Stream:
    """One connection: the owner of its channel, and its own factory. `answered`: octets have come since it was taken
    for a question."""

    _clock: IReactorTime
    secure: bool = False
    channel: Channel = attrs.field(init=False)
    answered: bool = attrs.field(init=False, default=False)
    _heard: bytearray = attrs.field(init=False, factory=bytearray)
    _waiter: Deferred[None] | None = attrs.field(init=False, default=None)
    _over: str = attrs.field(init=False, default="")

    def __attrs_post_init__(self) -> None:
        self.channel = Channel(self, self._clock, self.secure)

    @property
    def usable(self) -> bool:
        """Whether it can be asked something: what has come unasked is no answer to it."""
        return not self._over and not self._heard and self.channel.alive

    async def send(self, octets: bytes) -> bool:
        """Send, and wait until there is room for more. False where something has come back: what has not been said need
        not be. Raises StreamBroken."""
        if not self._over:
            self.channel.write(octets)
            self.channel.flush()
        while self.channel.blocked and not self._heard and not self._over:
            await self._wait()
        if self._heard:
            return False
        self._require()
        return True

    async def until(self, mark: bytes, limit: int) -> bytes:
        """What comes before `mark`, up to `limit` octets. Raises StreamBroken."""
        searched = 0
        while (at := self._heard.find(mark, searched)) < 0 and len(self._heard) <= limit:
            searched = max(0, len(self._heard) - len(mark) + 1)
            await self._more()
        if not 0 <= at <= limit:
            raise StreamBroken(f"an answer of more than {limit} octets")
        octets = bytes(self._heard[:at])
        del self._heard[: at + len(mark)]
        return octets

    async def some(self) -> bytes:
        """What has come, at least one octet. Raises StreamBroken."""
        while not self._heard:
            await self._more()
        octets = bytes(self._heard)
        self._heard.clear()
        return octets

    def take(self) -> None:
        """For another question."""
        self.answered = False
        self.channel.disarm()

    def rest(self) -> None:
        """Until another question, but not for long."""
        self.channel.caught_up()
        self.channel.arm(_IDLE_SECONDS)

    def leave(self) -> None:
        """Close, when our last octets are gone."""
        self._end("the connection was given up")
        self.channel.close(_LEAVE_SECONDS)

    def abort(self) -> None:
        """Cut the connection."""
        self._end("the connection was given up")
        self.channel.abort()

    async def _more(self) -> None:
        self._require()
        self.channel.caught_up()
        await self._wait()

    def _require(self) -> None:
        if self._over:
            raise StreamBroken(self._over)

    async def _wait(self) -> None:
        self._waiter = Deferred()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def _end(self, why: str) -> None:
        self._over = self._over or why
        self._wake()

    def _wake(self) -> None:
        waiter, self._waiter = self._waiter, None
        if waiter is not None:
            waiter.callback(None)

    # --- Owner of the channel -----------------------------------------------------------------------------------------

    def made(self) -> None:
        """The transport is there."""

    def agreed(self) -> None:
        """TLS is on."""

    def received(self, data: bytes) -> None:
        """An answer, or a part of one."""
        self._heard += data
        self.answered = True
        self._wake()

    def ended(self) -> None:
        """A program that says no more takes no more either."""
        self._end("the connection was closed")
        self.channel.close(_LEAVE_SECONDS)

    def drained(self) -> None:
        """There is room for more."""
        self._wake()

    def rang(self) -> None:
        """Nobody has asked anything for long enough."""
        self.leave()

    def lost(self, reason: Failure) -> None:
        """The program is gone."""
        self._end(f"the connection was lost: {words_of(reason)}")

    # --- Its own factory ----------------------------------------------------------------------------------------------

    def buildProtocol(self, addr: IAddress | None) -> IProtocol:
        """See `IProtocolFactory`."""
        return self.channel

    def doStart(self) -> None:
        """Part of IProtocolFactory."""

    def doStop(self) -> None:
        """Part of IProtocolFactory."""


def _anywhere(_address: str) -> bool:
    return True


@attrs.define(eq=False)
class Streams:
    """All connections to one program. With `tls` they are to a host that a trusted certificate is for. `allowed` says
    to which addresses they may be."""

    place: Place
    environment: Environment
    connect_seconds: float = 10.0
    tls: IClientTls | None = None
    allowed: Callable[[str], bool] = _anywhere
    _idle: list[Stream] = attrs.field(init=False, factory=list)

    async def ask(self, question: Callable[[Stream], Awaitable[T]]) -> T:
        """What comes of a question on one connection, which is kept for the next unless the question has left it. A
        kept one that is lost before anything comes back may have been closed before: then it is asked on a fresh one.
        Raises TemporaryError, and what `question` raises."""
        self._idle = [each for each in self._idle if each.usable]
        if self._idle:
            stream = self._idle.pop()
            try:
                return await self._on(stream, question)
            except StreamBroken:
                if stream.answered:
                    raise
        return await self._on(await self._connected(), question)

    async def _on(self, stream: Stream, question: Callable[[Stream], Awaitable[T]]) -> T:
        stream.take()
        try:
            answer = await question(stream)
        except BaseException:
            stream.abort()
            raise
        if stream.usable and len(self._idle) < _IDLE:
            self._idle.append(stream)
            stream.rest()
        else:
            stream.leave()
        return answer

    async def _connected(self) -> Stream:
        failed: TemporaryError = StreamBroken(f"{self.place.host} has no address that it may be asked at")
        for address in await self.place.addresses(self.environment):
            if not self.allowed(address):
                continue
            try:
                return await self._connect(address)
            except TemporaryError as error:
                failed = error
        raise failed

    async def _connect(self, address: str) -> Stream:
        clock, network = self.environment.clock, self.environment.network
        stream = Stream(clock, self.tls is not None)
        factory: IProtocolFactory = stream
        if self.tls is not None:
            try:
                secured = TLSMemoryBIOFactory(self.tls.verifying(self.place.host), True, stream, clock)
            except ValueError:
                raise StreamBroken(f"no certificate can be for {self.place.host}") from None
            secured.noisy = False
            factory = secured
        await network.connect(address, self.place.port, factory, self.connect_seconds)
        return stream
