"""IMailReceiver over an `IMessageDelivery`, or over a factory of such."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

import attrs
from twisted.internet.defer import Deferred, DeferredList
from twisted.mail.interfaces import IMessageDeliveryFactory
from twisted.mail.smtp import Address, AddressError, SMTPClientError, SMTPServerError, User
from zope.interface import implementer

from mailhub.answers import answer
from mailhub.errors import MailError, PermanentError, TemporaryError
from mailhub.foreign.calls import Foreign, octets, sentence
from mailhub.interfaces import IMailReceiver, IReceivedMessage, ITransactionView
from mailhub.message.address import Address as MailAddress
from mailhub.message.envelope import Mail, Outcome, Recipient, outcome_of
from mailhub.store.nonsense import Nonsense, shown

END_SECONDS = 240.0  # for what eomReceived() does: it may relay
_BLOCK = 1 << 16  # octets that are given before others are served
_LINE = 1 << 20  # octets of one line
_TRACE = 1 << 16  # octets of what receivedHeader() gives

# Enhanced status codes (RFC 3463) of reply codes, by where they are said. A text may begin with one of its own.
_STATUS: Mapping[int, str] = {421: "4.3.2", 450: "4.2.1", 452: "4.3.1", 551: "5.1.6", 552: "5.2.2"}
_SENDER = {**_STATUS, 550: "5.7.1", 553: "5.1.8"}
_RECIPIENT = {**_STATUS, 550: "5.1.1", 553: "5.1.3", 452: "4.2.2"}
_ENHANCED = re.compile(r"([45]\.\d{1,3}\.\d{1,3})(?: |$)")
_RECEIVED = re.compile(rb"(?m)^Received:[^\r\n]*(?:\r\n[ \t][^\r\n]*)*")


@attrs.frozen
class Server:
    """What stands for the protocol in a `User`: who we are."""

    host: bytes


@attrs.frozen
class Envelope:
    """What MAIL and RCPT have become so far. `delivery` is who answers for it; `receivers` make the messages of the
    accepted recipients, and `users` are those."""

    mail: Mail
    delivery: Any
    helo: tuple[bytes, bytes]
    sender: Address
    users: dict[MailAddress, User] = attrs.field(factory=dict)
    receivers: dict[MailAddress, Callable[[], Any]] = attrs.field(factory=dict)


@attrs.define(eq=False)
class Copy:
    """One recipient's message on its way. `outcome`: why it has none; `ended`: nothing more is told the realm's
    object."""

    recipient: MailAddress
    message: Any = None
    outcome: Outcome | None = None
    ended: bool = False


@implementer(IMailReceiver)
class ForeignDelivery:
    """One session's delivery. The sender is validated with the first recipient, so a bad one is refused at RCPT.

    A message is given by lines to the object of each recipient at its end, as it has come; on top of it stands what
    `receivedHeader` makes, or, where that is nothing, our own Received field.
    """

    def __init__(self, avatar: Any, foreign: Foreign) -> None:
        self._avatar = avatar
        self._foreign = foreign
        self._envelope: Envelope | None = None

    # --- RCPT --------------------------------------------------------------------------------------------------------

    async def recipient(self, recipient: Recipient, transaction: ITransactionView) -> None:
        """By `validateFrom` and `validateTo`. Raises MailError."""
        envelope = self._envelope
        if envelope is None or envelope.mail is not transaction.mail:
            self._envelope = None
            self._envelope = envelope = await self._foreign.call("validateFrom", self._begun, transaction)
        await self._foreign.call("validateTo", self._validated, envelope, recipient.address)

    async def _begun(self, transaction: ITransactionView) -> Envelope:
        factory: Any = IMessageDeliveryFactory(self._avatar, None)
        delivery = self._avatar if factory is None else await answer(factory.getMessageDelivery())
        origin, mail = transaction.origin, transaction.mail
        helo = (origin.helo.encode("utf-8", "replace"), origin.peer.encode())
        sender = _address(mail.reverse_path, "5.1.7")
        given = await _told(_SENDER, delivery.validateFrom, helo, sender)
        if not isinstance(given, Address):
            raise Nonsense(f"gave {shown(given)}, no address")
        return Envelope(mail, delivery, helo, given)

    async def _validated(self, envelope: Envelope, address: MailAddress) -> None:
        server = Server(self._foreign.hostname.encode())
        user: Any = User
        user = user(_address(address, "5.1.3"), envelope.helo, server, envelope.sender)
        receiver = await _told(_RECIPIENT, envelope.delivery.validateTo, user)
        if not callable(receiver):
            raise Nonsense(f"gave {shown(receiver)}, which makes no message")
        envelope.users[address], envelope.receivers[address] = user, receiver

    # --- The message -------------------------------------------------------------------------------------------------

    async def message(self, message: IReceivedMessage) -> Sequence[Outcome]:
        """Once for each recipient. Up to `eomReceived` one that refuses keeps the message from all, so that nobody has
        it twice when it comes again; LMTP is told of each."""
        envelope, self._envelope = self._envelope, None
        copies = {recipient.address: Copy(recipient.address) for recipient in message.recipients}
        if envelope is None or envelope.mail is not message.mail or not copies.keys() <= envelope.receivers.keys():
            raise TemporaryError(detail="a message of which not all recipients were asked")
        alone = message.origin.each_recipient
        try:
            for copy in copies.values():
                await self._go_on(copy, alone, "receivedHeader", self._opened, envelope, message)
            async for lines in _lines(message):
                for copy in copies.values():
                    await self._go_on(copy, alone, "lineReceived", _fed, lines)
                await self._foreign.breathe()
            await DeferredList([Deferred.fromCoroutine(self._end(copy)) for copy in copies.values()])
        finally:
            for copy in copies.values():
                self._lose(copy)
        outcomes = {address: copy.outcome or Outcome.delivered() for address, copy in copies.items()}
        return [outcomes[recipient.address] for recipient in message.recipients]

    async def _go_on(
        self, copy: Copy, alone: bool, method: str, step: Callable[..., Awaitable[None]], *arguments: object
    ) -> None:
        """One more step of a copy that has no outcome yet. Raises MailError unless others are to go on."""
        if copy.outcome is None:
            try:
                await self._foreign.call(method, step, copy, *arguments)
            except MailError as error:
                if not alone:
                    raise
                copy.outcome = outcome_of(error)

    async def _opened(self, copy: Copy, envelope: Envelope, message: IReceivedMessage) -> None:
        copy.message = await _told(_STATUS, envelope.receivers[copy.recipient])
        user = envelope.users[copy.recipient]
        given = await _told(_STATUS, envelope.delivery.receivedHeader, envelope.helo, envelope.sender, [user])
        if given:
            await _fed(copy, [octets(given, _TRACE)])
        elif ours := _RECEIVED.search(message.trace):
            await _fed(copy, ours[0].split(b"\r\n"))

    async def _end(self, copy: Copy) -> None:
        if copy.outcome is None:
            copy.ended = True
            try:
                await self._foreign.call("eomReceived", _eom, copy, seconds=END_SECONDS)
            except MailError as error:
                copy.outcome = outcome_of(error)

    def _lose(self, copy: Copy) -> None:
        """It will not be complete."""
        if copy.message is not None and not copy.ended:
            copy.ended = True
            Deferred.fromCoroutine(self._lost(copy.message))

    async def _lost(self, message: Any) -> None:
        with suppress(MailError):
            await self._foreign.ask(message, "connectionLost")


async def _fed(copy: Copy, lines: Sequence[bytes]) -> None:
    try:
        for line in lines:
            copy.message.lineReceived(line)
    except (SMTPServerError, SMTPClientError) as error:
        raise refusal(error, _STATUS) from error


async def _eom(copy: Copy) -> None:
    await _told(_STATUS, copy.message.eomReceived)


async def _lines(message: IReceivedMessage) -> AsyncIterator[list[bytes]]:
    """Those below our trace fields, without their ends. Raises PermanentError for one that is longer than all that
    programs which take lines can be expected to hold."""
    reader = message.open()
    try:
        offset, rest = len(message.trace), b""
        while block := await reader.read(offset, _BLOCK):
            offset += len(block)
            *lines, rest = (rest + block).split(b"\r\n")
            if len(rest) > _LINE:
                raise PermanentError("A line of the message is too long", status="5.6.0")
            yield lines
        if rest:
            yield [rest]
    finally:
        reader.close()


# --- What realms say -------------------------------------------------------------------------------------------------


async def _told(status: Mapping[int, str], function: Callable[..., Any], *arguments: object) -> Any:
    """What a method gives. Raises MailError for what it refuses by a reply code."""
    try:
        return await answer(function(*arguments))
    except (SMTPServerError, SMTPClientError) as error:
        raise refusal(error, status) from error


def refusal(error: Any, status: Mapping[int, str]) -> MailError:
    """An error with a reply code, as ours with the enhanced status that leads to this code, or to one of its class."""
    code, text = error.code, sentence(error.resp)
    if not isinstance(code, int) or not 400 <= code < 600:
        return TemporaryError(detail=f"{type(error).__name__} with code {shown(code)}")
    kind = PermanentError if code >= 500 else TemporaryError
    own = _ENHANCED.match(text)
    if own is not None and own[1][0] == str(code)[0]:
        return kind(text[own.end() :], status=own[1])
    return kind(text, status=status.get(code, ""))


def _address(address: MailAddress | None, status: str) -> Address:
    """As realms are given addresses, which are all ASCII. Raises PermanentError."""
    made: Any = Address
    if address is None:
        found: Address = made(b"")
        return found
    local = str(address).rpartition("@")[0]
    if not local.isascii():
        raise PermanentError("This address cannot be taken here", status="5.6.7")
    try:
        found = made(f"{local}@{address.ascii_domain}".encode())
    except AddressError as error:
        raise PermanentError("This address cannot be taken here", status=status, detail=str(error)) from error
    return found
