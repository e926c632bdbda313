"""SMTP, submission and LMTP sessions: the wire machine's events against the pipeline (RFC 5321, 6409, 2033)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Mapping
from typing import Any

import attrs
from twisted.internet.interfaces import IDelayedCall
from twisted.python.failure import Failure
from zope.interface import implementer

from mailhub.delivery.unannounced import Unannounced
from mailhub.errors import AuthenticationFailed, Busy, MailError, NotYetKnown, TemporaryError
from mailhub.interfaces import (
    Committed,
    IAuthenticator,
    IBodyWriter,
    IConversation,
    IConversations,
    IHarvest,
    IService,
    ISubmitter,
    ITransaction,
    Origin,
    Service,
)
from mailhub.interfaces.services import House
from mailhub.log import Logger
from mailhub.message.envelope import Outcome, State
from mailhub.net.link import Link
from mailhub.protocols.smtp_options import SmtpOptions
from mailhub.wire.smtp.events import (
    BadCommand,
    BodyAborted,
    BodyChunk,
    BodyEnd,
    DataStart,
    Event,
    Forwarded,
    Hello,
    Login,
    MailFrom,
    Quit,
    RcptTo,
    Reset,
    SpeaksFor,
    StartTls,
    Turn,
)
from mailhub.wire.smtp.replies import Reply, reply
from mailhub.wire.smtp.server import SmtpServer

log = Logger(namespace="mailhub.smtp")

# RFC 6710: what follows the status begins with the priority that the message has.
_CHANGED = "2.3.6"
_NEW_PRIORITY = "is the new priority assigned to the message"
# How long a client may be silent that was refused with the greeting: it has only to say QUIT (RFC 5321 3.1).
_REFUSED_SECONDS = 10.0
_TOO_MANY_ERRORS = TemporaryError("Too many errors", status="4.7.0", rule="errors")

_Decided = RcptTo | MailFrom | Login | DataStart | BodyEnd | Hello | SpeaksFor | Turn

# Codes of errors that say more than "550" and "451"; the first digit is that of the status.
_CODES = {
    "5.1.2": 554,  # RFC 6409 4.2
    "5.1.7": 553,
    "5.5.4": 501,
    "5.1.8": 553,
    "5.1.10": 556,  # RFC 7505 4.1
    "5.2.2": 552,
    "5.2.3": 552,
    "5.3.4": 552,
    "5.6.7": 553,
    "5.7.8": 535,
    "5.7.17": 550,
    "4.2.2": 452,
    "4.3.1": 452,
    "4.5.3": 452,
}


def reply_to(error: MailError, permanent: int = 550) -> Reply:
    """The reply for a refusal. `permanent` is the code where neither error nor status says more than 5xx."""
    default = 451 if error.temporary else permanent
    return reply(error.code or _CODES.get(error.status, default), error.status, error.text)


def reply_for(outcome: Outcome, message_id: str, changed: str = "") -> Reply:
    """LMTP's reply for one recipient. `changed`: what is told of another priority than it was asked for."""
    if outcome.state is State.DELIVERED and changed:
        return reply(250, _CHANGED, f"{changed}delivered as {message_id}")
    if outcome.state is State.DELIVERED:
        return reply(250, outcome.status, f"Delivered as {message_id}")
    kind = TemporaryError if outcome.state is State.DELAYED else MailError
    return reply_to(kind(outcome.reply, status=outcome.status))


@implementer(IService)
@attrs.frozen
class SmtpService:
    """What the sessions of a listener share. `authenticator` is asked on submission only; `harvest` of recipients that
    are refused, except on LMTP. `now` tells the time (seconds since the epoch) where mail can be held (RFC 4865)."""

    pipeline: IConversations
    authenticator: IAuthenticator
    options: SmtpOptions = attrs.field(factory=SmtpOptions)
    harvest: IHarvest | None = None
    now: Callable[[], int] | None = None

    @classmethod
    def of(cls, service: Service, house: House) -> SmtpService:
        """SMTP, submission or LMTP, as the row says."""
        options = house.settings.of(
            SmtpOptions,
            hostname=house.hostname,
            submission=service.submission,
            each_recipient=service.each_recipient,
        )
        return cls(house.pipeline, house.authenticator, options, house.harvest, house.environment.now)

    def session(self, link: Link) -> SmtpSession:
        """A session for a new connection; what `DriverFactory` calls."""
        options = self.options
        link.idle_seconds = options.idle_seconds
        now = self.now() if self.now is not None and options.submission else None
        settings = options.settings(secure=link.secure, starttls=link.can_start_tls, peer=link.peer, now=now)
        machine = SmtpServer(settings)
        return SmtpSession(self, link, machine)


@attrs.define(eq=False, repr=False)
class SmtpSession:
    """One connection. What is written of a message goes away unless its end is committed."""

    _service: SmtpService
    link: Link
    machine: SmtpServer
    _conversation: IConversation | None = None
    _transaction: ITransaction | None = None
    _writer: IBodyWriter | None = None  # the transaction's
    _refused: int = 0  # recipients since the last message
    _errors: int = 0  # other commands refused for good since then
    _messages: int = 0
    _asked: int | None = None  # MT-PRIORITY of the message
    _receiving: bool = False
    _speaks_for: Mapping[str, str] = attrs.field(factory=dict)
    _writing: bool = False
    _farewell: bool = False
    _pace: IDelayedCall | None = None

    async def connected(self) -> None:
        """Greet, or say why not."""
        if self.machine.settings.speaks_for:
            self._conversation = Unannounced(self._service.pipeline, self._origin())
            self.machine.greet()
            return
        try:
            self._conversation = await self._service.pipeline.connected(self._origin())
        except MailError as error:
            self._log_refusal({"at": "connect"}, error)
            self.link.idle_seconds = min(self.link.idle_seconds, _REFUSED_SECONDS)
            self.machine.greet(reply(421 if error.temporary else 554, error.status, error.text))
        else:
            self.machine.greet()

    def _origin(self) -> Origin:
        """What is known before anything is said."""
        options, link = self._service.options, self.link
        return Origin(
            link.service,
            link.peer,
            link.session_id,
            link.secure,
            local=link.local,
            submission=options.submission,
            each_recipient=options.each_recipient,
        )

    def handle(self, event: Event) -> Coroutine[Any, Any, None] | None:
        """Answer one event."""
        return _ANSWERS[type(event)](self, event)

    def crashed(self, failure: Failure) -> None:
        """451 for what is under way. A message of which a part is missing is given up."""
        if self._writer is not None:
            self._abort()
        self.machine.internal_error()

    def timed_out(self) -> None:
        """RFC 5321 4.5.3.2.7."""
        self.machine.close_with(reply(421, "4.4.2", f"{self._service.options.hostname} Idle for too long"))

    def shutting_down(self) -> None:
        """RFC 5321 3.8."""
        self.machine.close_with(reply(421, "4.3.2", f"{self._service.options.hostname} Service shutting down"))

    def _revoked(self) -> None:
        # RFC 5321 3.8: the client reads it as the answer to its next command.
        self.link.expel(lambda: self.machine.close_with(reply(421, "4.7.0", "Password or account has changed")))

    def disconnected(self) -> None:
        """A message that was not complete is gone."""
        self._service.authenticator.logged_out(self.link.session_id)
        self._drop_transaction()
        if self._conversation is not None:
            self._conversation.closed(farewell=self._farewell)
        if self._pace is not None and self._pace.active():
            self._pace.cancel()

    # --- Events that may be refused ----------------------------------------------------------------------------------

    async def _decide(self, event: _Decided) -> None:
        try:
            await _DECISIONS[type(event)](self, event)
        except MailError as error:
            await self._refuse(event, error)

    async def _refuse(self, event: _Decided, error: MailError) -> None:
        self._log_refusal(_subject(event), error)
        if isinstance(event, RcptTo) and not await self._go_on_after(error):
            self.machine.refuse(reply(421, "4.7.0", "Too many refused recipients"))
        elif not isinstance(event, RcptTo) and not await self._go_on_after_error(event, error):
            self.machine.refuse(reply(421, "4.7.0", "Too many errors"))
        else:
            self.machine.refuse(_refusal(event, error))

    async def _hello(self, event: Hello) -> None:
        talk = self._talk
        helo = self._speaks_for.get("HELO") or event.domain
        extended = event.extended and self._speaks_for.get("PROTO") != "SMTP"
        early, tls = self.machine.early, self.link.tls
        await talk.hello(attrs.evolve(talk.origin, helo=helo, extended=extended, tls=tls, early=early))
        # RFC 5321 4.1.1.1: one that is refused changes nothing.
        self._drop_transaction()
        self.machine.accept()

    async def _recipient(self, event: RcptTo) -> None:
        await self._in_transaction.recipient(event.recipient)
        self.machine.accept()

    async def _login(self, event: Login) -> None:
        talk, authenticator = self._talk, self._service.authenticator
        submitter = await authenticator.login(event.credentials, ISubmitter, talk.origin, self._revoked)
        try:
            await talk.login(attrs.evolve(talk.origin, user=submitter.user), submitter)
        except BaseException:
            authenticator.logged_out(self.link.session_id)
            raise
        self.machine.login_domain = submitter.user.rpartition("@")[2]
        self.machine.accept()

    async def _speak_for(self, event: SpeaksFor) -> None:
        """XCLIENT: another client, another conversation. What cannot be is said instead of the greeting."""
        given, link, authenticator = event.attributes, self.link, self._service.authenticator
        log.event("speaks for", self._said_of_another(given))
        self._drop_transaction()
        authenticator.logged_out(link.session_id)
        conversation, self._conversation = self._conversation, None
        if conversation is not None:
            conversation.closed()
        if not link.speak_for(given.get("ADDR") or link.peer, given.get("DESTADDR", "")):
            raise Busy("Too many connections, try again later")
        self._speaks_for = given
        origin, submitter = self._origin(), None
        if login := given.get("LOGIN"):
            submitter = await authenticator.vouched(login, ISubmitter, origin, self._revoked)
            # Known before policies look: they are to see a user of ours, and no stranger.
            origin = attrs.evolve(origin, user=submitter.user)
        talk = self._conversation = await self._service.pipeline.connected(origin)
        if submitter is not None:
            await talk.login(origin, submitter)
        self.machine.accept()

    async def _turn(self, event: Turn) -> None:
        self.machine.turned(await self._talk.turn(event.node))

    async def _mail(self, event: MailFrom) -> None:
        talk = self._talk
        if self.machine.early and not talk.origin.early:
            talk.origin = attrs.evolve(talk.origin, early=True)
        transaction = self._transaction = await talk.begin(event.mail)
        self._asked = event.mail.priority
        if transaction.mail.priority == self._asked:
            self.machine.accept()
        else:
            self.machine.accept_changed(_CHANGED, f"{transaction.mail.priority} {_NEW_PRIORITY}")
        self.machine.take_recipients(transaction.recipient_at_once)

    async def _go_on_after(self, error: MailError) -> bool:
        """Whether a refused recipient may be answered, perhaps after a while. Full mailboxes and what is mended later
        tell nothing about names."""
        harvest = self._service.harvest
        telling = isinstance(error, NotYetKnown) or not (error.temporary or error.status.startswith("5.2."))
        if harvest is None or not telling or self._service.options.each_recipient:
            return True
        self._refused += 1
        return await harvest.refused("" if self._talk.origin.user else self.link.peer, self._refused)

    async def _go_on_after_error(self, event: _Decided, error: MailError) -> bool:
        """The same for another command. Logins have limits of their own."""
        if error.temporary or isinstance(event, Login) or self._service.options.each_recipient:
            return True
        self._errors += 1
        if self._errors >= self._service.options.bad_commands:
            self._log_refusal({"at": "command"}, _TOO_MANY_ERRORS)
            return False
        return await self._hold_back(self._errors)

    async def _answer_late(self, event: BadCommand) -> None:
        if event.count >= self._service.options.bad_commands:
            self._log_refusal({"at": "command"}, _TOO_MANY_ERRORS)
        if await self._hold_back(event.count):
            self.machine.accept()
        else:
            self.machine.refuse(reply(421, "4.7.0", "Too many errors"))

    async def _hold_back(self, errors: int) -> bool:
        """Whether a refused command may be answered, perhaps after a while: who makes many errors gets few answers."""
        harvest, count = self._service.harvest, errors - self._service.options.free_errors
        if harvest is None or count <= 0 or self._user or self._service.options.each_recipient:
            return True
        return await harvest.erred(self.link.peer, count)

    @property
    def _user(self) -> str:
        return self._conversation.origin.user if self._conversation is not None else ""

    def _start_body(self, event: DataStart) -> Coroutine[Any, Any, None] | None:
        transaction = self._in_transaction
        if self.machine.early and not transaction.origin.early:
            transaction.origin = attrs.evolve(transaction.origin, early=True)
        try:
            self._writer = transaction.body()
        except MailError as error:
            return self._refuse(event, error)
        self.machine.accept()
        self._messages += 1
        self._receiving = True
        # A timer that is left from another message serves this one too.
        if self._pace is None:
            self._watch_pace()
        return None

    def _watch_pace(self) -> None:
        before = (self._messages, self.machine.data_octets)
        self._pace = self.link.call_later(self._service.options.pace_seconds, lambda: self._look_at_pace(*before))

    def _look_at_pace(self, message: int, before: int) -> None:
        """Whether the message goes on, of which `before` octets were there a while ago."""
        self._pace = None
        if not self._receiving:
            return
        options = self._service.options
        # While we are at work, it is not the client who is slow.
        came = self.machine.data_octets - before
        # Nor between two chunks: then a command is waited for.
        busy = self._writing or not self.machine.receiving or message != self._messages
        if busy or came >= options.pace_octets:
            self._watch_pace()
            return
        self._log_refusal({"at": "message"}, TemporaryError("Message arrives too slowly", status="4.4.2"))
        self._abort()
        self.machine.close_with(reply(421, "4.4.2", f"{options.hostname} Message arrives too slowly"))
        self.link.close()

    async def _commit(self, _event: BodyEnd) -> None:
        transaction = self._in_transaction
        # Whatever comes of it, it is over.
        self._transaction = self._writer = None
        self._receiving = False
        try:
            committed = await transaction.commit()
        finally:
            self._forget_forwarded()
        priority = transaction.mail.priority
        if priority == self._asked:
            self._answer(committed)
        else:
            self._answer(committed, f"{priority} {_NEW_PRIORITY}; ")
        self._refused = self._errors = 0

    def _answer(self, committed: Committed, changed: str = "") -> None:
        """`changed`: of the priority, what it is instead (RFC 6710: the number stands first)."""
        if self._service.options.each_recipient:
            self.machine.finish([reply_for(outcome, committed.id, changed) for outcome in committed.outcomes])
        elif changed:
            self.machine.accept_changed(_CHANGED, f"{changed}queued as {committed.id}")
        else:
            self.machine.accept(f"Queued as {committed.id}")

    # --- Events that may not -----------------------------------------------------------------------------------------

    def _write(self, event: BodyChunk) -> Coroutine[Any, Any, None] | None:
        # Without a writer the message is refused already.
        return None if self._writer is None else self._write_to(self._writer, event.octets)

    async def _write_to(self, writer: IBodyWriter, octets: bytes) -> None:
        self._writing = True
        try:
            await writer.write(octets)
        except MailError as error:
            self._log_refusal({"at": "message"}, error)
            self._abort()
            self.machine.refuse_body(reply_to(error, 554))
        finally:
            self._writing = False

    def _reset(self, _event: Reset | BodyAborted) -> None:
        self._drop_transaction()

    def _start_tls(self, _event: StartTls) -> None:
        self._drop_transaction()
        talk = self._talk
        talk.secured(attrs.evolve(talk.origin, secure=True, helo="", extended=True, user=""))
        self.machine.accept()
        self.link.start_tls()

    def _quit(self, _event: Quit) -> None:
        self._farewell = True

    # --- Small parts -------------------------------------------------------------------------------------------------

    @property
    def _talk(self) -> IConversation:
        assert self._conversation is not None, "the machine gives events after the greeting only"
        return self._conversation

    @property
    def _in_transaction(self) -> ITransaction:
        assert self._transaction is not None, "the machine keeps the order of commands"
        return self._transaction

    def _drop_transaction(self) -> None:
        self._abort()
        self._receiving = False
        self._forget_forwarded()

    def _forward(self, event: Forwarded) -> None:
        """XFORWARD: it may be said in several commands, and is of the next message alone."""
        talk = self._talk
        log.event("forwarded", self._said_of_another(event.attributes))
        talk.origin = attrs.evolve(talk.origin, forwarded={**talk.origin.forwarded, **event.attributes})

    def _forget_forwarded(self) -> None:
        talk = self._conversation
        if talk is not None and talk.origin.forwarded:
            talk.origin = attrs.evolve(talk.origin, forwarded={})

    def _abort(self) -> None:
        transaction, self._transaction, self._writer = self._transaction, None, None
        if transaction is not None:
            transaction.abort()

    def _said_of_another(self, attributes: Mapping[str, str]) -> dict[str, object]:
        """The fields of a log line: what a trusted client says of another."""
        known = {"session": self.link.session_id, "peer": self.link.peer}
        return {**known, **{name.lower(): value for name, value in attributes.items() if value}}

    def _log_refusal(self, subject: Mapping[str, object], error: MailError) -> None:
        original = {} if self._conversation is None else self._conversation.origin.original
        known = {"session": self.link.session_id, "peer": self.link.peer, **original}
        log.event("refused", {**known, **subject, "status": error.status, "reply": error.text, **_detail(error)})


# What may be refused, and what decides it in its own time.
_DECISIONS: Mapping[type, Callable[[SmtpSession, Any], Awaitable[None]]] = {
    Hello: SmtpSession._hello,
    Login: SmtpSession._login,
    SpeaksFor: SmtpSession._speak_for,
    Turn: SmtpSession._turn,
    MailFrom: SmtpSession._mail,
    RcptTo: SmtpSession._recipient,
    BodyEnd: SmtpSession._commit,
}
_ANSWERS: Mapping[type, Callable[[SmtpSession, Any], Coroutine[Any, Any, None] | None]] = {
    **dict.fromkeys(_DECISIONS, SmtpSession._decide),
    DataStart: SmtpSession._start_body,
    BodyChunk: SmtpSession._write,
    BodyAborted: SmtpSession._reset,
    Reset: SmtpSession._reset,
    StartTls: SmtpSession._start_tls,
    Forwarded: SmtpSession._forward,
    BadCommand: SmtpSession._answer_late,
    Quit: SmtpSession._quit,
}


def _detail(error: MailError) -> dict[str, object]:
    """What is for the log alone."""
    told = {"rule": error.rule, "reason": error.detail}
    return {name: value for name, value in told.items() if value}


def _refusal(event: _Decided, error: MailError) -> Reply:
    match event:
        case Login():
            return reply(454 if error.temporary else 535, error.status, error.text)
        case Turn(node):
            return reply(458, error.status, f"Unable to queue messages for node {node}, try again later")
        case SpeaksFor():
            refused = 535 if error.status == AuthenticationFailed.default_status else 554
            return reply(421 if error.temporary else refused, error.status, error.text)
        case MailFrom() if error.status == "5.7.0":
            return reply(530, error.status, error.text)
        case BodyEnd():
            return reply_to(error, 554)
        case _:
            return reply_to(error)


def _subject(event: _Decided) -> dict[str, object]:
    match event:
        case RcptTo(recipient):
            return {"to": recipient.address}
        case MailFrom(mail):
            return {"from": mail.reverse_path or ""}
        case Login():
            return {"at": "login"}
        case Hello():
            return {"at": "hello"}
        case SpeaksFor():
            return {"at": "connect"}
        case Turn():
            return {"at": "etrn"}
        case _:
            return {"at": "message"}
