"""The policy "http": a program in any language is asked over HTTP what becomes of a client, a recipient, a message."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable
from pathlib import Path
from typing import Any

import attrs
from zope.interface import implementer

from mailhub.answers import Nonsense
from mailhub.delivery.filters import web_words
from mailhub.delivery.filters.looks import ServiceName, check_url, concerns, message_pieces, message_size
from mailhub.delivery.filters.web_words import Stage
from mailhub.delivery.screening.rule import number
from mailhub.delivery.screens import obey
from mailhub.errors import ConfigurationError, MailError
from mailhub.interfaces import ACCEPT, IHub, IMessageView, IPolicy, ITransactionView, Origin, Screen, Verdict
from mailhub.message.envelope import Recipient
from mailhub.net.https import WebAddress, WebService
from mailhub.net.stream import StreamBroken

_TOKEN_LIMIT = 4096  # octets


def _some(_instance: object, _field: object, stages: tuple[Stage, ...]) -> None:
    if not stages:
        raise ValueError('needs at least one stage, such as "message"')


@attrs.frozen
class WebPolicyOptions:
    """`url` is asked at `stages`. `token_file` has what it knows us by, a bearer token. Of a message it is
    told the header, and of the body up to `body_octets`."""

    url: str = attrs.field(validator=check_url)
    stages: tuple[Stage, ...] = attrs.field(default=("message",), validator=_some)
    token_file: Path | None = None
    body_octets: int = number(0, 0, 16_777_216)
    connect_seconds: int = number(10, 1, 600)
    services: tuple[ServiceName, ...] = ()


@implementer(IPolicy)
@attrs.frozen(eq=False)
class WebPolicy:
    """The policy of one hub. An answer that the protocol does not have is a failure, and the guard says what that
    means."""

    options: WebPolicyOptions
    hostname: str
    service: WebService
    fields: tuple[tuple[str, str], ...]

    @classmethod
    def of(cls, options: WebPolicyOptions, hub: IHub) -> WebPolicy:
        """The policy of a hub. Raises ConfigurationError."""
        address = WebAddress.parse(options.url)
        service = WebService.of(address, hub.environment, hub.client_tls, options.connect_seconds)
        fields: tuple[tuple[str, str], ...] = (("Content-Type", "application/json"), ("Accept", "application/json"))
        if options.token_file is not None:
            fields = (*fields, ("Authorization", f"Bearer {_token(options.token_file)}"))
        return cls(options, hub.hostname, service, fields)

    def begin(self, origin: Origin) -> Screen | Awaitable[Screen]:
        """See `IPolicy`."""
        if not concerns(self.options.services, origin):
            return Screen()
        return self._connect(origin) if "connect" in self.options.stages else _OfConnection(self)

    async def _connect(self, origin: Origin) -> Screen:
        """Raises NotPermitted, TemporaryError when that is its answer."""
        try:
            verdict = await self.ask("connect", origin, {})
        except MailError as error:
            raise Nonsense(error.text) from None  # to fail is no answer, which a MailError would be here
        if verdict.edits:
            raise Nonsense("there is nothing to be edited when a client connects")
        obey(attrs.evolve(verdict, action="reject") if verdict.action == "discard" else verdict)
        return _OfConnection(self)

    async def ask(self, stage: Stage, origin: Origin, more: dict[str, Any]) -> Verdict:
        """What it says at one stage. Raises TemporaryError."""
        octets = web_words.question({**web_words.of_client(stage, origin, self.hostname), **more})

        async def body() -> AsyncIterator[bytes]:
            yield octets

        answer = await self.service.post(self.fields, len(octets), body, web_words.ANSWER_LIMIT)
        if answer.status == 204:
            return ACCEPT
        if answer.status != 200:
            raise StreamBroken(f"{self.service.address.host} answers with the status {answer.status}")
        try:
            return web_words.parse(answer.body)
        except ValueError as error:
            raise StreamBroken(f"{self.service.address.host}: {error}") from None

    async def about(self, message: IMessageView) -> dict[str, Any]:
        """What is told of a message."""
        limit = self.options.body_octets
        size = message_size(message)
        # What is read begins with the empty line, and where the header is too large to be held, with that.
        body = b"".join([each async for each in message_pieces(message, len(message.header) + limit)])
        body = body[len(message.header) :]
        whole = len(message.header) + len(body) >= size
        return web_words.of_message(message.header, size, body, whole=whole)


def _token(path: Path) -> str:
    try:
        with path.open("rb") as file:
            token = file.read(_TOKEN_LIMIT + 1).decode("ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"token_file {path}: cannot be read: {error}") from None
    if not token or len(token) > _TOKEN_LIMIT or " " in token or not token.isprintable():
        raise ConfigurationError(f"token_file {path}: must have one token, without spaces")
    return token


@attrs.frozen(eq=False)
class _OfConnection(Screen):
    _policy: WebPolicy

    async def hello(self, origin: Origin) -> Verdict:
        """See `IScreen`."""
        return await self._ask("hello", origin)

    async def mail(self, transaction: ITransactionView) -> Verdict:
        """See `IScreen`."""
        return await self._ask("mail", transaction.origin, transaction)

    async def recipient(self, transaction: ITransactionView, recipient: Recipient) -> Verdict:
        """See `IScreen`."""
        return await self._ask("recipient", transaction.origin, transaction, recipient)

    async def message(self, message: IMessageView) -> Verdict:
        """See `IScreen`."""
        if "message" not in self._policy.options.stages:
            return ACCEPT
        about = {"envelope": web_words.of_envelope(message), "message": await self._policy.about(message)}
        return await self._policy.ask("message", message.origin, about)

    async def _ask(
        self,
        stage: Stage,
        origin: Origin,
        transaction: ITransactionView | None = None,
        recipient: Recipient | None = None,
    ) -> Verdict:
        if stage not in self._policy.options.stages:
            return ACCEPT
        about = {} if transaction is None else {"envelope": web_words.of_envelope(transaction, recipient)}
        return await self._policy.ask(stage, origin, about)
