"""The policy "clamav": clamd looks for malware in each message before it is taken."""

from __future__ import annotations

from typing import Literal

import attrs
from zope.interface import implementer

from mailhub.delivery.filters import clamd
from mailhub.delivery.filters.looks import ServiceName, check_place, concerns, message_pieces, message_size
from mailhub.delivery.screening.rule import number
from mailhub.interfaces import ACCEPT, IHub, IMessageView, IPolicy, Origin, Screen, Verdict
from mailhub.log import Logger
from mailhub.net.place import Place
from mailhub.net.stream import Stream, StreamBroken, Streams

_log = Logger(namespace="mailhub.delivery")


@attrs.frozen
class ClamavOptions:
    """`address`: where clamd listens, `inet:HOST:PORT` or `unix:/path`. `found`: what becomes of a message in which it
    finds something. Of a message with more than `scan_octets` nothing is scanned, or the beginning. `services`: it
    looks at these alone, at all where there are none."""

    address: str = attrs.field(validator=check_place)
    found: Literal["reject", "quarantine", "discard"] = "reject"
    scan_octets: int = number(25_000_000, 1024, 4_000_000_000)
    larger: Literal["pass", "beginning", "quarantine"] = "pass"
    connect_seconds: int = number(10, 1, 600)
    services: tuple[ServiceName, ...] = ()


@implementer(IPolicy)
@attrs.frozen(eq=False)
class Clamav:
    """The policy of one hub. What clamd does not say is a failure, and the guard says what that means."""

    options: ClamavOptions
    name: str
    streams: Streams

    @classmethod
    def of(cls, options: ClamavOptions, hub: IHub) -> Clamav:
        """The policy of a hub."""
        streams = Streams(Place.parse(options.address), hub.environment, options.connect_seconds)
        return cls(options, hub.part.name, streams)

    def begin(self, origin: Origin) -> Screen:
        """See `IPolicy`."""
        return _OfConnection(self) if concerns(self.options.services, origin) else Screen()

    async def judge(self, message: IMessageView) -> Verdict:
        """What becomes of a message. Raises TemporaryError."""
        size, limit = message_size(message), self.options.scan_octets
        if size > limit and self.options.larger != "beginning":
            return self._larger(message, size)

        async def question(stream: Stream) -> clamd.Scanned:
            scanned = await _scan(stream, message, limit)
            stream.leave()  # a connection is for one scan
            return scanned

        scanned = await self.streams.ask(question)
        if scanned.kind == "larger":
            return self._larger(message, size)
        if scanned.kind == "found":
            text = f"Message has malware in it: {scanned.name}"
            return Verdict(self.options.found, "5.7.1", text, rule=self.name)
        if size > limit:
            self._note(message, size)
        return ACCEPT

    def _larger(self, message: IMessageView, size: int) -> Verdict:
        self._note(message, size)
        return Verdict("quarantine", rule=self.name) if self.options.larger == "quarantine" else ACCEPT

    def _note(self, message: IMessageView, size: int) -> None:
        fields = {"session": message.origin.session_id, "policy": self.name, "octets": size}
        _log.event("not scanned as a whole", fields)


async def _scan(stream: Stream, message: IMessageView, limit: int) -> clamd.Scanned:
    going_on = await stream.send(clamd.COMMAND)
    async for octets in message_pieces(message, limit):
        # One that has said what it has to say, such as that it takes no more, hears no more.
        going_on = going_on and await stream.send(clamd.chunk(octets))
        if not going_on:
            break
    if going_on:
        await stream.send(clamd.END)
    try:
        return clamd.parse(await stream.until(b"\0", clamd.ANSWER_LIMIT))
    except ValueError as error:
        raise StreamBroken(str(error)) from None


async def ping(stream: Stream) -> None:
    """Whether it is clamd, and answers. Raises StreamBroken."""
    await stream.send(clamd.PING)
    answer = await stream.until(b"\0", clamd.ANSWER_LIMIT)
    if answer != clamd.PONG:
        raise StreamBroken(f"it answers {answer!r:.100} to PING")
    stream.leave()


@attrs.frozen(eq=False)
class _OfConnection(Screen):
    _policy: Clamav

    async def message(self, message: IMessageView) -> Verdict:
        """See `IScreen`."""
        return await self._policy.judge(message)
