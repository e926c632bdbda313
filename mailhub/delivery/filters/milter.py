"""The policy "milter": a filter that was written for Sendmail or Postfix has its say in what comes in.

A screen tells it each moment of its connection. Where the filter is lost on the way, that moment has failed, and the
guard says what that means; the next one connects again, be it that the filter was started anew, and tells it first what
it has to know. Nothing is taken for an answer that is none.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping
from ipaddress import ip_address
from operator import methodcaller
from typing import Any, Literal

import attrs
from zope.interface import implementer

from mailhub.delivery.filters.milter_peer import MilterFailed, MilterPeer, MilterPool, TakeBody, Times
from mailhub.delivery.filters.milter_words import (
    MACROS,
    Changes,
    ClientName,
    client_name,
    ends_connection,
    macros_of_client,
    macros_of_path,
    macros_of_refusal,
    path,
    refusal,
)
from mailhub.delivery.screening.rule import number
from mailhub.errors import MailError
from mailhub.interfaces import (
    ACCEPT,
    IBodyWriter,
    IHeadedBodyWriter,
    IHub,
    IMessageView,
    IPolicy,
    ITransactionView,
    Origin,
    ReplaceBody,
    Screen,
    Verdict,
)
from mailhub.keys import MESSAGE_SIZE
from mailhub.message.address import Address
from mailhub.message.envelope import Recipient
from mailhub.message.esmtp import mail_parameters, recipient_parameters
from mailhub.message.header import HEADER_LIMIT, fields_end, raw_fields
from mailhub.net.place import Place
from mailhub.wire.milter.client import Family, MilterClient, Offer
from mailhub.wire.milter.packets import DATA_LIMIT
from mailhub.wire.milter.vocabulary import BODY, HEADER, Answer, Stage, Step

ServiceName = Literal["smtp", "submission", "submissions", "lmtp"]


def _place(_instance: object, _field: object, text: str) -> None:
    Place.parse(text)


def _names(_instance: object, _field: object, macros: Mapping[str, str]) -> None:
    for name, value in macros.items():
        if not name.strip("{}").replace("_", "").isalnum() or "\0" in value:
            raise ValueError(f'"{name}" is no macro; such are j and {{daemon_name}}')


@attrs.frozen
class MilterOptions:
    """`address`: where the filter listens, `inet:HOST:PORT` or `unix:/path`. `services`: it looks at these alone, at
    all where there are none. `macros`: more of them, or others than ours, sent when a client connects.
    `keep_connections`: one serves many clients, where the filter really has version 6 of the protocol."""

    address: str = attrs.field(validator=_place)
    connect_seconds: int = number(10, 1, 600)
    command_seconds: int = number(30, 1, 600)
    message_seconds: int = number(300, 1, 600)
    services: tuple[ServiceName, ...] = ()
    macros: Mapping[str, str] = attrs.field(factory=dict, validator=_names)
    # libmilter as Debian builds it (with a pool of threads) takes leave of one client and never hears the next.
    keep_connections: bool = False

    @property
    def times(self) -> Times:
        """How long it is waited for."""
        return Times(self.connect_seconds, self.command_seconds, self.message_seconds)


@implementer(IPolicy)
@attrs.frozen(eq=False)
class Milter:
    """The policy of one hub."""

    options: MilterOptions
    hub: IHub
    pool: MilterPool

    @classmethod
    def of(cls, options: MilterOptions, hub: IHub) -> Milter:
        """The policy of a hub."""
        own = tuple(name.strip("{}") for name in options.macros)
        macros = {**MACROS, Stage.CONNECT: (*MACROS[Stage.CONNECT], *own)}
        offer = Offer(macros=macros, body_octets=hub.settings.value(MESSAGE_SIZE))
        return cls(options, hub, MilterPool(Place.parse(options.address), offer, options.times, hub.environment))

    def begin(self, origin: Origin) -> Screen:
        """See `IPolicy`. A rehearsal is none of the filter's business: what it counts would be wrong."""
        if origin.rehearsal or (self.options.services and origin.service not in self.options.services):
            return Screen()
        return _OfConnection(self)


class _Settled(Exception):
    """Nothing more is to be asked at this moment."""

    def __init__(self, verdict: Verdict) -> None:
        super().__init__(verdict.action)
        self.verdict = verdict


@attrs.define(eq=False)
class _Message:
    """What the filter has heard of a message. `settled`: what becomes of it whatever follows."""

    id: str
    begun: bool = False  # on the connection that there is
    settled: Verdict | None = None
    refused: Recipient | None = None  # by the filter, the last one


@attrs.define(eq=False)
class _OfConnection(Screen):
    """The screen of one connection. `_refused`: the filter wants nothing of this client. `_passed`: it does not want to
    look at it."""

    _policy: Milter
    _client: ClientName | None = None
    _peer: MilterPeer | None = None
    _connected: bool = False
    _greeted: tuple[str, str] | None = None  # by which name, under which TLS, the filter knows the client
    _message: _Message | None = None
    _messages: int = 0
    _refused: Verdict | None = None
    _passed: bool = False
    _closed: bool = False
    _body: IBodyWriter | None = None  # another one, until it has been read

    # --- The moments --------------------------------------------------------------------------------------------------

    async def hello(self, origin: Origin) -> Verdict:
        """See `IScreen`."""
        self._drop_message()
        self._greeted = None
        return await self._moment(self._reach(origin))

    async def mail(self, transaction: ITransactionView) -> Verdict:
        """See `IScreen`."""
        self._drop_message()
        self._new_message(transaction)
        return await self._moment(self._begun(transaction))

    async def recipient(self, transaction: ITransactionView, recipient: Recipient) -> Verdict:
        """See `IScreen`."""
        return await self._moment(self._recipient(transaction, recipient))

    async def recipient_refused(self, transaction: ITransactionView, recipient: Recipient, error: MailError) -> None:
        """See `IScreen`."""
        peer, message = self._peer, self._message
        if peer is None or message is None or not message.begun or message.settled or message.refused == recipient:
            return
        if peer.usable and peer.machine.has(Step.REFUSED_RECIPIENTS):
            macros = {**self._macros(transaction.origin), **macros_of_refusal(error)}
            await self._moment(self._tell_of(recipient, macros))

    async def message(self, message: IMessageView) -> Verdict:
        """See `IScreen`."""
        verdict = await self._moment(self._whole(message))
        known = self._message
        return known.settled if known is not None and known.settled is not None else verdict

    def closed(self) -> None:
        """See `IScreen`."""
        self._closed = True
        self._drop_message()
        peer, self._peer = self._peer, None
        if peer is None:
            return
        if self._policy.options.keep_connections:
            self._policy.pool.give_back(peer)
        else:
            peer.leave()

    async def _moment(self, asked: Coroutine[Any, Any, Verdict]) -> Verdict:
        """What comes of it. A filter that has failed is left, and what it has heard counts for nothing."""
        message = self._message
        if self._refused is not None or self._passed or (message is not None and message.settled is not None):
            asked.close()
            return self._refused or ACCEPT
        try:
            return await asked
        except _Settled as settled:
            return settled.verdict
        except BaseException:
            self._forget()
            raise

    # --- What is said -------------------------------------------------------------------------------------------------

    async def _reach(self, origin: Origin) -> Verdict:
        """The filter knows the client. Raises MilterFailed, _Settled."""
        peer = self._peer
        if peer is None or not peer.usable:
            self._forget()
            peer = await self._take()
        if not self._connected:
            try:
                await self._connect(peer, origin)
            except MilterFailed:
                if not peer.used:
                    raise
                # It may have been closed before it was asked: that is no failure.
                peer = await self._take(fresh=True)
                await self._connect(peer, origin)
            self._connected = True
        greeting = (origin.helo, origin.tls)
        if origin.helo and self._greeted != greeting:
            await self._say(lambda machine: machine.helo(origin.helo, self._macros(origin)), of_connection=True)
            self._greeted = greeting
        return ACCEPT

    async def _take(self, *, fresh: bool = False) -> MilterPeer:
        """A connection to the filter. Raises MilterFailed."""
        peer = self._peer = await self._policy.pool.take(fresh=fresh)
        if self._closed:
            self._forget()
            raise MilterFailed("the client is gone")
        return peer

    async def _connect(self, peer: MilterPeer, origin: Origin) -> None:
        environment = self._policy.hub.environment
        if self._client is None:
            self._client = await client_name(origin, environment.resolver, environment.clock)
        name, family = self._client.name, _family(origin.peer)
        macros = {**self._macros(origin), **{k.strip("{}"): v for k, v in self._policy.options.macros.items()}}
        await self._say(
            lambda machine: machine.connect(name, family, origin.peer.partition("%")[0], macros=macros),
            of_connection=True,
        )

    async def _begun(self, transaction: ITransactionView) -> Verdict:
        """The filter knows of the message, and whom it is for up to now."""
        await self._reach(transaction.origin)
        message = self._message or self._new_message(transaction)
        if message.begun:
            return ACCEPT
        mail = transaction.mail
        sender = mail.reverse_path
        macros = {**self._macros(transaction.origin), **macros_of_path("mail", sender, ours=self._is_ours(sender))}
        if mail.auth:
            macros["auth_author"] = mail.auth
        parameters = f"BODY={mail.body_type} " if mail.body_type != "7BIT" else ""
        parameters += "SMTPUTF8 " if mail.smtputf8 else ""
        parameters += mail_parameters(mail)
        message.begun = True
        try:
            await self._say(lambda machine: machine.mail(path(sender), parameters, macros))
            for recipient in transaction.recipients:
                await self._say_recipient(recipient, transaction.origin)
        except _Settled as settled:
            if settled.verdict.action != "accept":
                self._end_message()
            raise
        return ACCEPT

    async def _recipient(self, transaction: ITransactionView, recipient: Recipient) -> Verdict:
        await self._begun(transaction)
        try:
            await self._say_recipient(recipient, transaction.origin)
        except _Settled as settled:
            if settled.verdict.action != "accept" and self._message is not None:
                self._message.refused = recipient
            raise
        return ACCEPT

    async def _say_recipient(self, recipient: Recipient, origin: Origin) -> None:
        address = recipient.address
        macros = {**self._macros(origin), **macros_of_path("rcpt", address, ours=self._is_ours(address))}
        parameters = recipient_parameters(recipient)
        await self._say(lambda machine: machine.rcpt(path(address), parameters, macros))

    async def _tell_of(self, recipient: Recipient, macros: Mapping[str, str]) -> Verdict:
        """What it says of one that is refused already does not count."""
        assert self._peer is not None, "it is there"
        parameters = recipient_parameters(recipient)
        answered = self._peer.machine.rcpt(path(recipient.address), parameters, macros)
        await self._peer.ask(answered, self._policy.options.command_seconds)
        return ACCEPT

    async def _whole(self, message: IMessageView) -> Verdict:
        await self._begun(message)
        macros = self._macros(message.origin)
        await self._say(lambda machine: machine.data(macros))
        header, whole, offset = await _parts(message)
        for _, octets in raw_fields(header):
            name, colon, value = octets.partition(b":")
            if colon and self._machine.wants(HEADER):
                value = value.removesuffix(b"\n").removesuffix(b"\r")
                await self._say(methodcaller("header", name.rstrip(), value))
        await self._say(lambda machine: machine.end_of_header(macros))
        while offset < message.size and self._machine.wants(BODY):
            octets = await message.read(offset, DATA_LIMIT)
            if not octets:
                break
            offset += len(octets)
            await self._say(methodcaller("body", octets))
        return await self._end(macros, Changes.of(header, whole=whole, spaced=self._machine.has(Step.LEADING_SPACE)))

    async def _end(self, macros: Mapping[str, str], changes: Changes) -> Verdict:
        writer: IHeadedBodyWriter | None = None

        async def take(octets: bytes) -> None:
            nonlocal writer
            if writer is None:
                writer = self._policy.hub.queue.new_body()
                self._body = writer
            await writer.write(octets)

        def end(machine: MilterClient) -> bool:
            return machine.end_of_message(macros)

        answer = await self._say(end, take=take, seconds=self._policy.options.message_seconds, last=True)
        assert answer is not None, "the end is always answered"
        if self._message is not None:
            self._message.begun = False  # it is over
        changes.add(answer.changes)
        if writer is not None:
            changes.edits.append(ReplaceBody(await writer.written()))
        action: Literal["accept", "quarantine"] = "accept" if changes.quarantine is None else "quarantine"
        return Verdict(action, edits=changes.edits, rule=changes.quarantine or "")

    async def _say(
        self,
        say: Callable[[MilterClient], bool],
        *,
        of_connection: bool = False,
        take: TakeBody | None = None,
        seconds: float | None = None,
        last: bool = False,
    ) -> Answer | None:
        """Say it, and go on with the answer. Raises MilterFailed, _Settled."""
        peer = self._peer
        if peer is None:
            raise MilterFailed("the connection is closed")  # while the filter was thinking
        command_seconds = self._policy.options.command_seconds
        answer = await peer.ask(say(peer.machine), command_seconds if seconds is None else seconds, take)
        if answer is None:
            return None
        if last and self._message is not None:
            self._message.begun = False
        refused = refusal(answer)
        if refused is not None:
            if of_connection or ends_connection(answer):
                self._refused = refused
            raise _Settled(refused)
        if answer.kind == "accept" and of_connection:
            self._passed = True
        elif answer.kind in ("accept", "discard") and self._message is not None and not last:
            self._message.settled = ACCEPT if answer.kind == "accept" else Verdict("discard")
        elif answer.kind == "discard":
            raise _Settled(Verdict("discard"))
        else:
            return answer
        raise _Settled(ACCEPT)

    # --- Small parts --------------------------------------------------------------------------------------------------

    @property
    def _machine(self) -> MilterClient:
        if self._peer is None:
            raise MilterFailed("the connection is closed")
        return self._peer.machine

    def _is_ours(self, address: Address | None) -> bool:
        return address is not None and address.ascii_domain in self._policy.hub.domains

    def _macros(self, origin: Origin) -> dict[str, str]:
        assert self._client is not None, "it is looked up before something is said"
        known = macros_of_client(origin, self._policy.hub.hostname, self._client)
        return known if self._message is None else {**known, "i": self._message.id}

    def _new_message(self, transaction: ITransactionView) -> _Message:
        self._messages += 1
        self._message = _Message(f"{transaction.origin.session_id or 'message'}-{self._messages}")
        return self._message

    def _drop_message(self) -> None:
        """Whatever was begun is over."""
        self._end_message()
        self._message = None
        body, self._body = self._body, None
        if body is not None:
            body.abort()

    def _end_message(self) -> None:
        """The filter is to forget what it was told of it."""
        message, peer = self._message, self._peer
        if message is not None and message.begun and peer is not None and peer.usable and not peer.busy:
            message.begun = False
            peer.machine.abort()

    def _forget(self) -> None:
        """Have nothing to do any more with the connection that there is."""
        peer, self._peer = self._peer, None
        self._connected, self._greeted = False, None
        if self._message is not None:
            self._message.begun = False
        if peer is not None:
            peer.abort()


def _family(peer: str) -> Family:
    try:
        return "inet6" if ip_address(peer.partition("%")[0]).version == 6 else "inet"
    except ValueError:
        return "unknown"


async def _parts(message: IMessageView) -> tuple[bytes, bool, int]:
    """The header, whether it is held as a whole, and where the body begins in what can be read. Of a header that is too
    large to be held the filter is told the first MiB."""
    header, whole = message.header, True
    start = await message.read(0, 2 if header else HEADER_LIMIT)
    offset = 0
    if not header:
        offset = fields_end(start, 0, len(start))
        header, whole = start[:offset], not offset
        start = start[offset : offset + 2]
    if start.startswith(b"\r\n"):
        return header, whole, offset + 2
    return header, whole, offset + start.startswith(b"\n")
