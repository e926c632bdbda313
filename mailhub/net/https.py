"""Small texts from and to web servers, over TLS with a certificate that is valid for the host (RFC 9110).

`Https` asks those that strangers name, `WebService` one that the operator has named, again and again."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from ipaddress import ip_address
from typing import Any
from urllib.parse import urlsplit
from weakref import WeakKeyDictionary

import attrs
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.protocol import Protocol
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.python.failure import Failure

from mailhub.errors import TemporaryError
from mailhub.interfaces import Environment, IClientTls, INetwork, IResolver
from mailhub.net.dns_exchange import OneProtocol
from mailhub.net.networks import may_be_sent_to
from mailhub.net.place import Place
from mailhub.net.stream import Stream, StreamBroken, Streams
from mailhub.wire.http import Answer, AnswerReader, BadAnswer, Exchanges, request

HTTPS_PORT = 443
HTTP_PORT = 80
_ADDRESSES = 3  # of a host that are tried
_CONNECT_SECONDS = 20.0


class CertificateInvalid(TemporaryError):
    """The host shows no certificate that is good for it."""


@attrs.frozen
class Https:
    """Asks web servers, which are named by strangers: none on our own machine. A call ends within `seconds`, whatever
    the host does."""

    network: INetwork
    resolver: IResolver
    clock: IReactorTime
    tls: IClientTls

    async def get(self, host: str, path: str, *, limit: int, seconds: float) -> Answer:
        """What is at `https://host/path`, of up to `limit` octets; redirections are not followed. Raises
        TemporaryError, of which CertificateInvalid is one."""
        return await self._in_time(host, HTTPS_PORT, request("GET", host, path), limit, seconds)

    async def post(
        self, host: str, port: int, path: str, media_type: str, body: bytes, *, limit: int, seconds: float
    ) -> Answer:
        """Hand `body` over. Raises TemporaryError; ValueError for a path that there cannot be."""
        name = host if port == HTTPS_PORT else f"{host}:{port}"
        octets = request("POST", name, path, (("Content-Type", media_type),), body)
        return await self._in_time(host, port, octets, limit, seconds)

    async def _in_time(self, host: str, port: int, octets: bytes, limit: int, seconds: float) -> Answer:
        asking = Deferred.fromCoroutine(self._ask(host, port, octets, limit))
        late = False

        def too_late() -> None:
            nonlocal late
            late = True
            asking.cancel()

        timer = self.clock.callLater(seconds, too_late)
        try:
            return await asking
        except CancelledError:
            if not late:
                raise
            raise TemporaryError(f"{host} gives no answer in time") from None
        finally:
            if timer.active():
                timer.cancel()

    async def _ask(self, host: str, port: int, octets: bytes, limit: int) -> Answer:
        addresses = [each for each in await self.resolver.addresses(host) if may_be_sent_to(each)]
        if not addresses:
            raise TemporaryError(f"{host} has no address on the network")
        failed = TemporaryError(f"{host} cannot be reached")
        for address in addresses[:_ADDRESSES]:
            exchange = _Exchange(octets, limit)
            try:
                creator = self.tls.verifying(host)
                factory = TLSMemoryBIOFactory(creator, True, OneProtocol(exchange), self.clock)
            except ValueError:
                raise TemporaryError(f"no certificate can be for {host}") from None
            factory.noisy = False
            try:
                await self.network.connect(address, port, factory, _CONNECT_SECONDS)
                return await exchange.answer
            except BadAnswer as error:
                raise TemporaryError(f"{host}: {error}") from None
            except TemporaryError as error:
                if creator.failure:
                    raise CertificateInvalid(f"{host}: {creator.failure}") from None
                failed = error
            finally:
                exchange.close()
        raise failed


class _Exchange(Protocol):
    """One request and its answer."""

    def __init__(self, octets: bytes, limit: int) -> None:
        self.answer: Deferred[Answer] = Deferred()
        self._octets = octets
        self._reader = AnswerReader(limit)

    def connectionMade(self) -> None:
        """Ask."""
        transport: Any = self.transport
        transport.write(self._octets)

    def dataReceived(self, data: bytes) -> None:
        """The answer, or a part of it."""
        if not self.answer.called:
            self._tell(lambda: self._reader.feed(data))

    def connectionLost(self, reason: Failure | None = None) -> None:
        """That may be the end of the answer."""
        if not self.answer.called:
            self._tell(self._reader.end, reason)

    def _tell(self, read: Callable[[], Answer | None], reason: Failure | None = None) -> None:
        try:
            answer = read()
        except BadAnswer as error:
            text = " ".join(reason.getErrorMessage().split())[:200] if reason is not None else ""
            self.answer.errback(TemporaryError(text) if text else error)
        else:
            if answer is not None:
                self.answer.callback(answer)

    def close(self) -> None:
        """Cut the connection."""
        transport: Any = self.transport
        if transport is not None:
            transport.abortConnection()


@attrs.frozen
class WebAddress:
    """A URL that an operator has named."""

    secure: bool
    host: str
    port: int
    path: str

    @classmethod
    def parse(cls, url: str) -> WebAddress:
        """`https://HOST[:PORT]/PATH`, or `http://` to this machine or a private network. Raises ValueError."""
        parts = urlsplit(url)
        sound = url.isascii() and url.isprintable() and " " not in url
        if not sound or parts.scheme not in ("http", "https") or not parts.hostname or parts.fragment or "@" in url:
            raise ValueError(f'"{url}" must be https://HOST/PATH or http://HOST/PATH')
        secure = parts.scheme == "https"
        address = cls(
            secure,
            parts.hostname,
            parts.port or (HTTPS_PORT if secure else HTTP_PORT),
            (parts.path or "/") + (f"?{parts.query}" if parts.query else ""),
        )
        try:
            allowed = secure or is_private(str(ip_address(address.host)))
        except ValueError:
            allowed = True  # a name, whose addresses are looked at when it is asked
        if not allowed:
            raise ValueError(f'"{url}" is on the network of all: ask it over https')
        return address

    @property
    def authority(self) -> str:
        """The host as its own server calls it."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == (HTTPS_PORT if self.secure else HTTP_PORT) else f"{host}:{self.port}"


def is_private(address: str) -> bool:
    """Whether an address is of this machine or of a network of our own, where mail may go without TLS."""
    found = ip_address(address.partition("%")[0])
    mapped = getattr(found, "ipv4_mapped", None)
    return bool((mapped or found).is_private)


@attrs.frozen(eq=False)
class WebService:
    """One that the operator has named. Its connections are kept; nothing here knows how long an answer may take."""

    address: WebAddress
    streams: Streams
    _exchanges: WeakKeyDictionary[Stream, Exchanges] = attrs.field(factory=WeakKeyDictionary)

    @classmethod
    def of(
        cls, address: WebAddress, environment: Environment, tls: IClientTls, connect_seconds: float = _CONNECT_SECONDS
    ) -> WebService:
        """Not asked yet."""
        place = Place(address.host, address.port)
        if address.secure:
            return cls(address, Streams(place, environment, connect_seconds, tls))
        return cls(address, Streams(place, environment, connect_seconds, allowed=is_private))

    async def post(
        self, fields: Sequence[tuple[str, str]], length: int, body: Callable[[], AsyncIterator[bytes]], limit: int
    ) -> Answer:
        """Hand a body of `length` octets over; the answer has up to `limit`. Where a connection was closed before it
        was asked, `body` is called again. Raises TemporaryError."""
        fields = [("Host", self.address.authority), *fields]

        async def question(stream: Stream) -> Answer:
            exchanges = self._exchanges.setdefault(stream, Exchanges())
            try:
                if await stream.send(exchanges.begin(self.address.path, fields, length)):
                    await _send_body(stream, exchanges, body())
                answer = await _answer(stream, exchanges.answer(limit))
            except ValueError as error:
                raise StreamBroken(f"{self.address.host}: {error}") from None
            if not exchanges.lasting:
                stream.leave()
            return answer

        return await self.streams.ask(question)


async def _send_body(stream: Stream, exchanges: Exchanges, body: AsyncIterator[bytes]) -> None:
    """A server that has answered already, such as that it is too much, hears no more."""
    async for octets in body:
        if not await stream.send(exchanges.data(octets)):
            return
    await stream.send(exchanges.end())


async def _answer(stream: Stream, reader: AnswerReader) -> Answer:
    while True:
        try:
            octets = await stream.some()
        except StreamBroken:
            if not stream.answered:
                raise
            return reader.end()
        answer = reader.feed(octets)
        if answer is not None:
            return answer
