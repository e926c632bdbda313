"""Connections to a milter: the machine of `wire/milter` on a channel, and those that wait for another client."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IAddress, IProtocol, IProtocolFactory, IReactorTime
from twisted.python.failure import Failure
from zope.interface import implementer

from mailhub.errors import TemporaryError
from mailhub.interfaces import Environment
from mailhub.net.channel import Channel, words_of
from mailhub.net.place import Place
from mailhub.wire.milter.client import MilterClient, Offer
from mailhub.wire.milter.vocabulary import Answer, Broken, Event, Negotiated, NewBody

_IDLE = 10  # connections that wait for another client
_IDLE_SECONDS = 30.0  # each
_LEAVE_SECONDS = 5.0  # for a filter to take our last octets

TakeBody = Callable[[bytes], Awaitable[None]]


class MilterFailed(TemporaryError):
    """A filter cannot be reached, gives no answer in time, ends, or breaks the protocol."""

    def __init__(self, why: str) -> None:
        super().__init__(why, status="4.7.1", detail=why)


@attrs.frozen
class Times:
    """Seconds: to connect and agree on the protocol, for the answer to one command, and for that to the end of a
    message, each anew when the filter says that it is at work."""

    connect: float
    command: float
    message: float


@implementer(IProtocolFactory)
@attrs.define(eq=False)
class MilterPeer:
    """One connection. `machine` is told what is to be said; `ask` sends it and waits for the answer.

    The owner of its channel: whatever the channel tells wakes the one who waits.
    """

    _clock: IReactorTime
    machine: MilterClient
    channel: Channel = attrs.field(init=False)
    used: bool = attrs.field(init=False, default=False)  # by another client before
    _resting: bool = attrs.field(init=False, default=False)
    _waiter: Deferred[None] | None = attrs.field(init=False, default=None)
    _deadline: float = attrs.field(init=False, default=0.0)
    _over: str = attrs.field(init=False, default="")

    def __attrs_post_init__(self) -> None:
        self.channel = Channel(self, self._clock)

    @property
    def usable(self) -> bool:
        """Whether something can be said."""
        return not self._over and not self.machine.closing and self.channel.alive

    @property
    def busy(self) -> bool:
        """Whether somebody waits for an answer."""
        return self._waiter is not None

    async def negotiate(self, seconds: float) -> None:
        """Agree on what is said. Raises MilterFailed."""
        event = await self._next(seconds)
        assert isinstance(event, Negotiated), f"nothing comes before that, not {event}"

    async def ask(self, answered: bool, seconds: float, take: TakeBody | None = None) -> Answer | None:
        """Send what the machine was told to say; `answered` is what it gave. None where there is no answer. A new body
        is given to `take`. Raises MilterFailed, and what `take` raises; the connection is cut then."""
        try:
            if not answered:
                await self._sent(seconds)
                return None
            while not isinstance(event := await self._next(seconds), Answer):
                if isinstance(event, NewBody) and take is not None:
                    await take(event.octets)
            return event
        except BaseException:
            self.abort()
            raise

    def rest(self) -> bool:
        """Its client is gone: wait for another; false where there is no such thing, and the connection ends."""
        if self.usable and not self.busy and self.machine.next_client():
            self.used = self._resting = True
            self._flush()
            self._deadline = self._clock.seconds() + _IDLE_SECONDS
            self.channel.arm(_IDLE_SECONDS)
            return True
        self.leave()
        return False

    def awake(self) -> MilterPeer:
        """For another client."""
        self._resting = False
        return self

    def leave(self) -> None:
        """Take leave, and close. Harmless on a connection that is lost."""
        if self.usable and not self.busy:
            self.machine.quit()
            self._flush()
            self.channel.close(_LEAVE_SECONDS)
        else:
            self.abort()

    def abort(self) -> None:
        """Cut the connection."""
        self._end("the connection was given up")
        self.channel.abort()

    async def _next(self, seconds: float) -> Event:
        self._flush()
        self._deadline = self._clock.seconds() + seconds
        while (event := self.machine.next_event()) is None:
            await self._wait()
        if isinstance(event, Broken):
            self.abort()
            raise MilterFailed(f"the filter breaks the protocol: {event.reason}")
        return event

    async def _sent(self, seconds: float) -> None:
        """The filter has taken enough of what was said for more to be."""
        self._flush()
        self._deadline = self._clock.seconds() + seconds
        while self.channel.blocked:
            await self._wait()

    async def _wait(self) -> None:
        """Until something happens. Raises MilterFailed when that is the end."""
        if self._over:
            raise MilterFailed(self._over)
        self.channel.caught_up()
        self.channel.arm(max(0.0, self._deadline - self._clock.seconds()))
        self._waiter = Deferred()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def _flush(self) -> None:
        if octets := self.machine.data_to_send():
            self.channel.write(octets)
            self.channel.flush()

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
        """There is no TLS."""

    def received(self, data: bytes) -> None:
        """Answers, or a part of one. One that nobody waits for is the end."""
        self.machine.receive_data(data)
        self._wake()
        if self.machine.closing and self._waiter is None:
            self.abort()

    def ended(self) -> None:
        """A filter that says no more takes no more either."""
        self._end("the filter has closed the connection")
        self.channel.close(_LEAVE_SECONDS)

    def drained(self) -> None:
        """There is room for more."""
        self._wake()

    def rang(self) -> None:
        """The filter has had its time, unless it has answered since the channel was armed."""
        left = self._deadline - self._clock.seconds()
        if left > 0:
            self.channel.arm(left)
        elif self.busy:
            self._end("the filter gives no answer in time")
            self.channel.abort()
        elif self._resting:
            self.leave()  # nobody has come; where there is a client, it may take its time

    def lost(self, reason: Failure) -> None:
        """The filter is gone."""
        self._end(f"the connection was lost: {words_of(reason)}")

    # --- Its own factory ----------------------------------------------------------------------------------------------

    def buildProtocol(self, addr: IAddress | None) -> IProtocol:
        """See `IProtocolFactory`."""
        return self.channel

    def doStart(self) -> None:
        """Part of IProtocolFactory."""

    def doStop(self) -> None:
        """Part of IProtocolFactory."""


@attrs.define(eq=False)
class MilterPool:
    """All connections to one filter. Those whose client is gone serve another, where the filter knows how."""

    _place: Place
    _offer: Offer
    _times: Times
    _environment: Environment
    _idle: list[MilterPeer] = attrs.field(factory=list)

    async def take(self, *, fresh: bool = False) -> MilterPeer:
        """One that is nobody's. Raises MilterFailed."""
        while self._idle and not fresh:
            peer = self._idle.pop()
            if peer.usable:
                return peer.awake()
        try:
            addresses = await self._place.addresses(self._environment)
        except TemporaryError as error:
            raise MilterFailed(error.text) from None
        failed: TemporaryError = MilterFailed(f"{self._place.host} has no address")
        for address in addresses:
            try:
                return await self._connect(address)
            except TemporaryError as error:
                failed = error
        raise MilterFailed(failed.text)

    async def _connect(self, address: str) -> MilterPeer:
        environment = self._environment
        peer = MilterPeer(environment.clock, MilterClient(self._offer))
        try:
            await environment.network.connect(address, self._place.port, peer, self._times.connect)
            await peer.negotiate(self._times.connect)
        except BaseException:
            peer.abort()
            raise
        return peer

    def give_back(self, peer: MilterPeer) -> None:
        """Its client is gone."""
        self._idle = [each for each in self._idle if each.usable]
        if len(self._idle) >= _IDLE:
            peer.leave()
        elif peer.rest():
            self._idle.append(peer)
