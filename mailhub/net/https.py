"""Small texts from and to web servers, over TLS with a certificate that is valid for the host (RFC 9110)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import attrs
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.protocol import Protocol
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.python.failure import Failure

from mailhub.errors import TemporaryError
from mailhub.interfaces import IClientTls, INetwork, IResolver
from mailhub.net.dns_exchange import OneProtocol
from mailhub.net.networks import may_be_sent_to
from mailhub.wire.http import Answer, AnswerReader, BadAnswer, request

HTTPS_PORT = 443
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
