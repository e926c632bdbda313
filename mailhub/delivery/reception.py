"""The way in of mail for somebody's own program (`IMailReceiver`): conversations and transactions as those of the
pipeline, at whose end the message is handed over instead of committed."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Collection, Sequence
from typing import Any

import attrs
from zope.interface import implementer

from mailhub.delivery.editing import TransactionView
from mailhub.delivery.intake import HEADERS_TOGETHER, IntakeWriter
from mailhub.delivery.limits import HOPS, LONG_LINES, LongLines
from mailhub.delivery.message_ids import message_id, token
from mailhub.delivery.pipeline import vouched
from mailhub.delivery.receiver import Receiver
from mailhub.delivery.spool import Spool
from mailhub.errors import NotPermitted, PermanentError, TemporaryError
from mailhub.interfaces import (
    Committed,
    Environment,
    IBlobReader,
    IBody,
    IBodyWriter,
    IConversation,
    IConversations,
    IReceivedMessage,
    ISubmitter,
    ITransaction,
    Origin,
)
from mailhub.keys import setting
from mailhub.log import Logger
from mailhub.message.dates import format_date
from mailhub.message.envelope import Mail, Outcome, Recipient, State
from mailhub.message.submission import mend_header
from mailhub.message.trace import received, return_path
from mailhub.wire.budget import Budget

_log = Logger(namespace="mailhub.delivery")

_ID = re.compile(r"[!-~]{1,64}")
_DELIVERED = Outcome.delivered()


# Who takes the mail of a session without a login, and what is to be called when the session is over.
Anonymous = Callable[[Origin], Awaitable[tuple[Receiver, Callable[[], Any]]]]


def _nothing() -> None:
    """Nobody is there to be told."""


@implementer(IConversations)
@attrs.frozen(kw_only=True, eq=False)
class Reception:
    """What all sessions share. `anonymous` is asked at the first MAIL of a session in which nobody logs in. Mail for
    other domains than `domains` is not taken where there are any, and `None` leaves that to the receiver. For the rest
    see `House`."""

    hostname: str
    environment: Environment
    spool: Spool
    anonymous: Anonymous
    domains: Collection[str] | None = None
    hop_limit: int = setting(HOPS)
    long_lines: LongLines = setting(LONG_LINES)
    headers: Budget = attrs.field(factory=lambda: Budget(HEADERS_TOGETHER))

    async def connected(self, origin: Origin) -> Talk:
        """See `IConversations`."""
        return Talk(self, origin)

    def mend(self, header: bytes) -> bytes:
        """What a submitted message's header lacks, or has too much of."""
        return mend_header(header, format_date(self.environment.now()), message_id(self.environment, self.hostname))


@implementer(IConversation)
@attrs.define(eq=False, repr=False)
class Talk:
    """One connection."""

    _reception: Reception
    origin: Origin
    _receiver: Receiver | None = None
    _logout: Callable[[], Any] = _nothing  # of the anonymous one

    async def hello(self, origin: Origin) -> None:
        """See `IConversation`."""
        self.origin = origin

    async def login(self, origin: Origin, submitter: ISubmitter) -> None:
        """See `IConversation`."""
        if not isinstance(submitter, Receiver):
            raise TypeError(f"{submitter!r} takes no mail")
        self.closed()
        self.origin, self._receiver = origin, submitter

    def secured(self, origin: Origin) -> None:
        """See `IConversation`."""
        self.closed()
        self.origin = origin

    async def begin(self, mail: Mail) -> Taking:
        """See `IConversation`."""
        reception, origin = self._reception, self.origin
        if origin.submission and not origin.user:
            raise NotPermitted("Authentication required", status="5.7.0")
        receiver = self._receiver
        if receiver is None:
            receiver, self._logout = await reception.anonymous(origin)
            self._receiver = receiver
        if origin.user and not await receiver.may_send_as(mail.reverse_path):
            raise NotPermitted("Sender address does not belong to your login")
        if mail.auth:
            mail = await vouched(mail, receiver if origin.user else None)
        reception.spool.check_space(mail.size)
        return Taking(reception, receiver, origin, mail)

    async def turn(self, node: str) -> int:
        """See `IConversation`. There is no queue."""
        return 0

    def closed(self, *, farewell: bool = False) -> None:
        """See `IConversation`."""
        logout, self._logout, self._receiver = self._logout, _nothing, None
        try:
            logout()
        except Exception:
            _log.failure("logout failed: session={session}", session=self.origin.session_id)


@implementer(IReceivedMessage)
@attrs.frozen
class ReceivedMessage(TransactionView):
    """See `IReceivedMessage`."""

    header: bytes
    hops: int
    trace: bytes
    _rest: IBlobReader
    _whole: IBody

    @property
    def size(self) -> int:
        """See `IMessageView`."""
        return self._rest.size

    async def read(self, offset: int = 0, length: int = -1) -> bytes:
        """See `IMessageView`."""
        if offset < 0:
            raise ValueError(f"offset {offset} is before the message's first octet")
        return await self._rest.read(offset, length)

    def open(self) -> IBlobReader:
        """See `IReceivedMessage`."""
        return self._whole.open()


@implementer(ITransaction)
@attrs.define(eq=False, repr=False)
class Taking:
    """One message on its way to a receiver. The order of calls is the session's."""

    _reception: Reception
    _receiver: Receiver
    origin: Origin
    mail: Mail
    recipients: tuple[Recipient, ...] = ()
    _writer: IntakeWriter | None = None

    async def recipient(self, recipient: Recipient) -> None:
        """See `ITransaction`."""
        domains = self._reception.domains
        if domains is not None and not self.origin.user and recipient.address.ascii_domain not in domains:
            raise NotPermitted("Relaying denied")
        await self._receiver.recipient(recipient, TransactionView(self))
        self.recipients += (recipient,)

    def recipient_at_once(self, recipient: Recipient) -> bool:
        """The receiver is always asked."""
        return False

    def body(self, size: int = 0) -> IBodyWriter:
        """See `ITransaction`."""
        reception, origin = self._reception, self.origin
        self._writer = IntakeWriter(
            reception.spool.new_body(),
            return_path(self.mail.reverse_path),
            received(
                hostname=reception.hostname,
                origin=origin,
                date=format_date(reception.environment.now()),
                recipient=self.recipients[0].address if len(self.recipients) == 1 else None,
                smtputf8=self.mail.smtputf8,
            ),
            reception.mend if origin.submission else None,
            hostname=reception.hostname,
            budget=reception.headers,
            long_lines=reception.long_lines if origin.submission else None,
            held=True,
            binary=self.mail.body_type == "BINARYMIME",
        )
        return self._writer

    async def commit(self) -> Committed:
        """See `ITransaction`."""
        writer, self._writer = self._writer, None
        assert writer is not None, "there is one from body() on"
        try:
            await writer.end()
            if writer.hops > self._reception.hop_limit:
                raise PermanentError("Too many hops, this message goes round in a loop", status="5.4.6", rule="hops")
            rest = await writer.written()
            body = await writer.finish()
            trace = await body.open().read(0, body.trace)
            return await self._hand_over(
                ReceivedMessage(self, writer.header, writer.hops, trace, rest, body), body.size
            )
        finally:
            writer.abort()

    def abort(self) -> None:
        """See `ITransaction`."""
        writer, self._writer = self._writer, None
        if writer is not None:
            writer.abort()

    async def _hand_over(self, message: ReceivedMessage, size: int) -> Committed:
        given = await self._receiver.message(message)
        outcomes = [_DELIVERED] * len(self.recipients) if given is None or isinstance(given, str) else given
        named = isinstance(given, str) and _ID.fullmatch(given)
        known = given if named else token(self._reception.environment.random, 16)
        self._log(str(known), size, outcomes)
        if not self.origin.each_recipient:
            _one_answer(outcomes)
        return Committed(str(known), tuple(outcomes))

    def _log(self, message_id: str, size: int, outcomes: Sequence[Outcome]) -> None:
        """A line for each recipient, as for those of the pipeline."""
        origin = self.origin
        about = {"id": message_id, "session": origin.session_id, "from": self.mail.reverse_path or "", "size": size}
        client = {"peer": origin.peer, "helo": origin.helo, "tls": origin.tls, "user": origin.user}
        for recipient, outcome in zip(self.recipients, outcomes, strict=True):
            fields = {**about, "to": recipient.address, **client}
            if outcome.state is State.DELIVERED:
                _log.event("received", fields)
            else:
                _log.event("refused", {**fields, "status": outcome.status, "reply": outcome.reply})


def _one_answer(outcomes: Sequence[Outcome]) -> None:
    """What SMTP says of all recipients. Raises TemporaryError when one is to come again, else PermanentError when one
    is refused."""
    for state, kind in ((State.DELAYED, TemporaryError), (State.FAILED, PermanentError)):
        for outcome in outcomes:
            if outcome.state is state:
                raise kind(outcome.reply, status=outcome.status)
