"""The policy "policy-service": a program that was written for Postfix's `check_policy_service` is asked."""

from __future__ import annotations

from typing import Literal

import attrs
from zope.interface import implementer

from mailhub.delivery.filters import policy_words
from mailhub.delivery.filters.looks import ServiceName, check_place, concerns, message_size
from mailhub.delivery.filters.milter_words import ClientName, client_name
from mailhub.delivery.screening.rule import number
from mailhub.interfaces import ACCEPT, IHub, IMessageView, IPolicy, ITransactionView, Origin, Screen, Verdict
from mailhub.log import Logger
from mailhub.message.envelope import Recipient
from mailhub.net.place import Place
from mailhub.net.stream import Stream, StreamBroken, Streams

_log = Logger(namespace="mailhub.delivery")

Stage = Literal["recipient", "end-of-message"]


def _some(_instance: object, _field: object, stages: tuple[Stage, ...]) -> None:
    if not stages:
        raise ValueError('needs at least one stage, such as "recipient"')


@attrs.frozen
class PolicyServiceOptions:
    """`address`: where the program listens, `inet:HOST:PORT` or `unix:/path`. It is asked at `stages`."""

    address: str = attrs.field(validator=check_place)
    stages: tuple[Stage, ...] = attrs.field(default=("recipient",), validator=_some)
    connect_seconds: int = number(10, 1, 600)
    services: tuple[ServiceName, ...] = ()


@implementer(IPolicy)
@attrs.frozen(eq=False)
class PolicyService:
    """The policy of one hub. What is no answer is a failure, and the guard says what that means."""

    options: PolicyServiceOptions
    hub: IHub
    name: str
    streams: Streams

    @classmethod
    def of(cls, options: PolicyServiceOptions, hub: IHub) -> PolicyService:
        """The policy of a hub."""
        streams = Streams(Place.parse(options.address), hub.environment, options.connect_seconds)
        return cls(options, hub, hub.part.name, streams)

    def begin(self, origin: Origin) -> Screen:
        """See `IPolicy`."""
        return _OfConnection(self) if concerns(self.options.services, origin) else Screen()

    async def ask(self, told: dict[str, str], session_id: str) -> Verdict:
        """What it says. Raises TemporaryError."""
        octets = policy_words.question(told)

        async def question(stream: Stream) -> policy_words.Said:
            await stream.send(octets)
            try:
                return policy_words.parse(await stream.until(policy_words.END, policy_words.ANSWER_LIMIT))
            except ValueError as error:
                raise StreamBroken(str(error)) from None

        said = await self.streams.ask(question)
        if said.note:
            _log.event("policy notes", {"session": session_id, "policy": self.name, "reason": said.note})
        verdict = said.verdict
        return verdict if verdict.action == "accept" else attrs.evolve(verdict, rule=self.name)


@attrs.define(eq=False)
class _OfConnection(Screen):
    _policy: PolicyService
    _client: ClientName | None = None
    _messages: int = 0

    def mail(self, transaction: ITransactionView) -> Verdict:
        """See `IScreen`."""
        self._messages += 1
        return ACCEPT

    async def recipient(self, transaction: ITransactionView, recipient: Recipient) -> Verdict:
        """See `IScreen`."""
        if "recipient" not in self._policy.options.stages:
            return ACCEPT
        return await self._ask(transaction, recipient, transaction.mail.size)

    async def message(self, message: IMessageView) -> Verdict:
        """See `IScreen`."""
        if "end-of-message" not in self._policy.options.stages:
            return ACCEPT
        return await self._ask(message, None, message_size(message))

    async def _ask(self, transaction: ITransactionView, recipient: Recipient | None, size: int) -> Verdict:
        origin, environment = transaction.origin, self._policy.hub.environment
        if self._client is None:
            self._client = await client_name(origin, environment.resolver, environment.clock)
        # One for all that is asked about one message, as Postfix has it.
        instance = f"{origin.session_id}.{self._messages}"
        told = policy_words.attributes(transaction, recipient, client=self._client, instance=instance, size=size)
        return await self._policy.ask(told, origin.session_id)
