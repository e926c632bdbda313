"""The SMTP and LMTP server machine (RFC 5321, RFC 2033): octets in, events and replies out.

It knows order, grammar and limits; who may do what is the session's business. Commands are taken strictly one at a
time, so pipelined ones (RFC 2920) are answered in order whatever the session waits for.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from enum import Enum
from typing import Any

import attrs

from mailhub.message.envelope import Mail, Recipient
from mailhub.wire.foreign import is_foreign, is_foreign_octet
from mailhub.wire.sasl import LINE_LIMIT, SERVER_MECHANISMS, PlainCredentials, SaslCancelled, SaslError, ServerExchange
from mailhub.wire.smtp.events import (
    BodyAborted,
    BodyChunk,
    BodyEnd,
    DataStart,
    Event,
    Hello,
    Login,
    MailFrom,
    Quit,
    RcptTo,
    Reset,
    StartTls,
)
from mailhub.wire.smtp.grammar import (
    CommandRefused,
    parse_auth,
    parse_hello,
    parse_mail,
    parse_rcpt,
    refused,
    split_command,
)
from mailhub.wire.smtp.replies import Reply, render, reply
from mailhub.wire.smtp.verbs import MAIL, MAIL_AND_AUTH, NAMES, PATH_LINE, VERBS, Argument, Verb
from mailhub.wire.stream import ENDLESS, BareLines, DataDecoder, LineBuffer, LineTooLong

_WIRE_SLACK = 1 << 16  # octets


@attrs.frozen
class SmtpSettings:
    """What one service offers, and its limits. Text lines of a message have no limit of their own: they are data.

    `mechanisms` are offered under TLS, in plaintext with `plaintext_login` only. `postmaster_domain` completes
    `<postmaster>` (RFC 5321 4.5.1). `secure`: TLS is on from the first octet. Sizes in octets. Limits a session:
    `bad_command_limit` of commands refused for syntax or order, `idle_command_limit` of commands since the last
    message that brought no mail nearer, `login_failure_limit` of refused logins, as many recipients above
    `recipient_limit` as that allows; each ends it with 421.
    """

    hostname: str
    postmaster_domain: str
    lmtp: bool = False
    secure: bool = False
    starttls: bool = False
    require_tls: bool = False
    mechanisms: tuple[str, ...] = ()
    plaintext_login: bool = False
    require_login: bool = False
    bare_lines: BareLines = BareLines.REJECT
    message_size_limit: int = 52428800
    recipient_limit: int = 1000
    bad_command_limit: int = 20
    idle_command_limit: int = 100
    login_failure_limit: int = 5


class _Phase(Enum):
    GREETING = "the session has not greeted yet"
    COMMAND = "a command line is next"
    EXCHANGE = "a line of a SASL exchange is next"
    DATA = "octets of a message are next"
    DATA_ENDED = "the final reply is due"
    TLS = "TLS is being started"


@attrs.define
class _Transaction:
    mail: Mail
    attempts: int = 0
    accepted: list[Recipient] = attrs.field(factory=list)


@attrs.define
class _Body:
    decoder: DataDecoder
    size: int = 0
    wire_size: int = 0
    refusal: Reply | None = None


@attrs.define
class _Exchange:
    mechanism: str
    steps: ServerExchange


_NEEDS_ANSWER = (MailFrom, RcptTo, DataStart, BodyEnd, Hello, StartTls, Login)

_Lines = tuple[str, ...]

# The usual answers, rendered once.
_TLS_OK = render(reply(220, "2.0.0", "Ready to start TLS"))
_LOGIN_OK = render(reply(235, "2.7.0", "Authentication successful"))
_SENDER_OK = render(reply(250, "2.1.0", "Sender OK"))
_RECIPIENT_OK = render(reply(250, "2.1.5", "Recipient OK"))
_GO_ON = render(reply(354, "", "End data with <CR><LF>.<CR><LF>"))
_TOO_LARGE = reply(552, "5.3.4", "Message is too large")
_INTERNAL_ERROR = reply(451, "4.3.0", "Internal error, please try again later")


class SmtpServer:
    """One connection. `closing`: close once data_to_send() is out. `secure`: TLS is on."""

    def __init__(self, settings: SmtpSettings) -> None:
        self._settings = settings
        self._buffer = LineBuffer(PATH_LINE)
        self._out: list[bytes] = []
        self._phase = _Phase.GREETING
        self._pending: Event | None = None
        self._hello: Hello | None = None
        self._transaction: _Transaction | None = None
        self._exchange: _Exchange | None = None
        self._body: _Body | None = None
        self._bad_commands = self._idle_commands = self._excess_recipients = self._login_failures = 0
        self._eof = False
        self.authenticated = False
        self.secure = settings.secure
        self.closing = False
        self._fit_line_limit()

    @property
    def recipients(self) -> Sequence[Recipient]:
        """The recipients accepted in this transaction, in order."""
        return () if self._transaction is None else tuple(self._transaction.accepted)

    @property
    def data_octets(self) -> int:
        """Octets of the message under way that have come in, as they stand on the wire."""
        return 0 if self._body is None else self._body.wire_size

    # --- Octets ----------------------------------------------------------------------------------------------------

    def receive_data(self, data: bytes) -> None:
        """Take octets from the peer."""
        if not self.closing:
            self._buffer.feed(data)

    def receive_eof(self) -> None:
        """The peer sends no more; what is complete is still worked off."""
        self._eof = True

    def data_to_send(self) -> bytes:
        """Take the replies collected so far."""
        octets = b"".join(self._out)
        self._out.clear()
        return octets

    def next_event(self) -> Event | None:
        """What happened next; None until more octets come. RuntimeError when an answer to the last event is due."""
        if self._pending is not None:
            raise RuntimeError(f"{self._pending} is not answered")
        while not self.closing:
            step = _STEPS.get(self._phase)
            progress, event = (False, None) if step is None else step(self)
            if event is not None:
                if isinstance(event, _NEEDS_ANSWER):
                    self._pending = event
                return event
            if not progress:
                self.closing = self.closing or self._eof
                return None
        return None

    # --- The session's side ----------------------------------------------------------------------------------------

    def greet(self, refusal: Reply | None = None) -> None:
        """Send 220, or a refusal (554 or 421) and close."""
        if self._phase is not _Phase.GREETING:
            raise RuntimeError("greeted already")
        if refusal is not None:
            self.close_with(refusal)
            return
        protocol = "LMTP" if self._settings.lmtp else "ESMTP"
        self._send(Reply(220, "", (f"{self._settings.hostname} {protocol} mailhub",)))
        self._phase = _Phase.COMMAND

    def accept(self, *lines: str) -> None:
        """Answer the event positively, with a text of one's own or the usual one."""
        event = self._take_pending()
        _ACCEPTED[type(event)](self, event, lines)

    def refuse(self, refusal: Reply) -> None:
        """Answer the event with a 4xx or 5xx reply. 421 closes the connection."""
        event = self._take_pending()
        if isinstance(event, BodyEnd):
            self._finish_body([refusal] * self._final_replies())
        else:
            self._send(refusal)
        self.closing = self.closing or refusal.code == 421
        if isinstance(event, Login) and refusal.code >= 500:
            self._login_failures += 1
            if self._login_failures >= self._settings.login_failure_limit:
                self.close_with(reply(421, "4.7.0", "Too many failed logins"))

    def finish(self, replies: Sequence[Reply]) -> None:
        """Answer BodyEnd in LMTP: one reply for each of `recipients`, in order (RFC 2033 4.2)."""
        if not self._settings.lmtp or len(replies) != len(self.recipients):
            raise RuntimeError("one reply a recipient, in LMTP only")
        if not isinstance(self._take_pending(), BodyEnd):
            raise RuntimeError("the message has not ended")
        self._finish_body(replies)

    def refuse_body(self, refusal: Reply) -> None:
        """While a message arrives: give out no more of it; the client is told at its end."""
        if self._body is None:
            raise RuntimeError("no message is arriving")
        self._body.refusal = self._body.refusal or refusal

    def tls_started(self) -> None:
        """TLS is on: forget everything the peer said before (RFC 3207 4.2)."""
        if self._phase is not _Phase.TLS:
            raise RuntimeError("STARTTLS was not accepted")
        self._buffer.drop()
        self._hello = self._transaction = None
        self.authenticated = False
        self.secure = True
        self._phase = _Phase.COMMAND
        self._fit_line_limit()

    def internal_error(self) -> None:
        """The session failed: give a 451 for whatever is open, now or at the end of the message."""
        if self._phase is _Phase.GREETING:
            self.close_with(reply(421, "4.3.0", "Internal error, please try again later"))
        elif self._pending is not None:
            self.refuse(_INTERNAL_ERROR)
        elif self._body is not None:
            self.refuse_body(_INTERNAL_ERROR)

    def close_with(self, farewell: Reply) -> None:
        """Say a last word (421) and close: time-out, shutdown, too many errors."""
        if not self.closing:
            self._send(farewell)
            self.closing = True

    def _accept_hello(self, event: Hello, _lines: _Lines) -> None:
        self._hello = event
        self._transaction = None
        keywords = self._keywords() if event.extended else []
        self._send(Reply(250, "", (self._settings.hostname, *keywords)))

    def _accept_tls(self, _event: StartTls, lines: _Lines) -> None:
        self._out.append(self._render(Reply(220, "2.0.0", lines)) if lines else _TLS_OK)
        self._phase = _Phase.TLS

    def _accept_login(self, _event: Login, lines: _Lines) -> None:
        self._out.append(self._render(Reply(235, "2.7.0", lines)) if lines else _LOGIN_OK)
        self.authenticated = True
        self._fit_line_limit()

    def _accept_mail(self, event: MailFrom, lines: _Lines) -> None:
        self._transaction = _Transaction(event.mail)
        self._out.append(self._render(Reply(250, "2.1.0", lines)) if lines else _SENDER_OK)

    def _accept_recipient(self, event: RcptTo, lines: _Lines) -> None:
        if self._transaction is not None:
            self._transaction.accepted.append(event.recipient)
        self._out.append(self._render(Reply(250, "2.1.5", lines)) if lines else _RECIPIENT_OK)

    def _accept_data(self, _event: DataStart, lines: _Lines) -> None:
        self._out.append(self._render(Reply(354, "", lines)) if lines else _GO_ON)
        self._body = _Body(DataDecoder(self._settings.bare_lines))
        self._phase = _Phase.DATA

    def _accept_body(self, _event: BodyEnd, lines: _Lines) -> None:
        answer = Reply(250, "2.0.0", lines or ("Message accepted",))
        self._finish_body([answer] * self._final_replies())

    # --- Commands --------------------------------------------------------------------------------------------------

    def _read_line(self) -> tuple[bool, Event | None]:
        in_exchange = self._phase is _Phase.EXCHANGE
        first = self._buffer.first
        if first is not None and not in_exchange and is_foreign_octet(first):
            self._end_foreign()
            return False, None
        try:
            line = self._buffer.next_line()
        except LineTooLong:
            self._line_too_long()
            return True, None
        if line is None:
            if self._buffer.discarded > ENDLESS:
                self.close_with(reply(421, "4.7.0", "Line too long"))
            return False, None
        try:
            if in_exchange:
                return True, self._exchange_step(line)
            return True, self._command(line)
        except CommandRefused as error:
            self._bad_command(error.answer)
            return True, None

    def _line_too_long(self) -> None:
        if self._phase is _Phase.EXCHANGE:
            self._end_exchange()
            self._bad_command(reply(500, "5.5.6", "Authentication exchange line is too long"))
        else:
            self._bad_command(reply(500, "5.5.2", "Line too long"))

    def _command(self, line: bytes) -> Event | None:
        name, argument = split_command(line)
        verb = VERBS.get(name)
        if verb is None and is_foreign(line, NAMES):
            self._end_foreign()
            return None
        if verb is None or not self._speaks(verb):
            raise refused(500, "5.5.1", "Command not recognised")
        if len(line) + 2 > verb.limit:
            raise refused(500, "5.5.2", "Line too long")
        if verb.idle and self._too_idle():
            return None
        self._check_order(verb)
        if argument and verb.argument is Argument.NONE:
            raise refused(501, "5.5.4", f"{name} takes no argument")
        if not argument and verb.argument is Argument.REQUIRED:
            raise refused(501, "5.5.4", f"{name} needs an argument")
        return _COMMANDS[name](self, argument)

    def _speaks(self, verb: Verb) -> bool:
        return verb.lmtp if self._settings.lmtp else verb.smtp

    def _end_foreign(self) -> None:
        self.close_with(reply(554, "5.5.1", "This is a mail server"))

    def _too_idle(self) -> bool:
        self._idle_commands += 1
        if self._idle_commands > self._settings.idle_command_limit:
            self.close_with(reply(421, "4.7.0", "Too many commands without a message"))
        return self.closing

    def _check_order(self, verb: Verb) -> None:
        if self._settings.require_tls and not self.secure and not verb.before_tls:
            raise refused(530, "5.7.0", "Issue STARTTLS first")
        if self._hello is None and not verb.before_hello:
            raise refused(503, "5.5.1", f"Say {'LHLO' if self._settings.lmtp else 'EHLO'} first")
        if self._settings.require_login and not self.authenticated and not verb.before_login:
            raise refused(530, "5.7.0", "Authentication required")

    def _bad_command(self, answer: Reply) -> None:
        self._send(answer)
        self._bad_commands += 1
        if self._bad_commands >= self._settings.bad_command_limit:
            self.close_with(reply(421, "4.7.0", "Too many errors"))

    def _ehlo(self, argument: str) -> Event:
        return Hello(parse_hello(argument), extended=True)

    def _helo(self, argument: str) -> Event:
        return Hello(parse_hello(argument), extended=False)

    def _keywords(self) -> list[str]:
        settings = self._settings
        keywords = ["PIPELINING", f"SIZE {settings.message_size_limit}", "8BITMIME", "SMTPUTF8", "ENHANCEDSTATUSCODES"]
        if self._may_start_tls():
            keywords.append("STARTTLS")
        if self._offered() and not self.authenticated:
            keywords.append("AUTH " + " ".join(self._offered()))
        return [*keywords, "HELP"]

    def _may_start_tls(self) -> bool:
        return self._settings.starttls and not self.secure

    def _offered(self) -> tuple[str, ...]:
        return self._settings.mechanisms if self.secure or self._settings.plaintext_login else ()

    def _starttls(self, _argument: str) -> Event:
        if not self._may_start_tls():
            text = "TLS is on already" if self.secure else "TLS is not available"
            raise refused(503 if self.secure else 502, "5.5.1", text)
        return StartTls()

    def _mail(self, argument: str) -> Event:
        if self._transaction is not None:
            raise refused(503, "5.5.1", "A sender is given already")
        mail = parse_mail(argument, MAIL_AND_AUTH if self._offered() else MAIL)
        if mail.size > self._settings.message_size_limit:
            raise CommandRefused(_TOO_LARGE)
        return MailFrom(mail)

    def _rcpt(self, argument: str) -> Event | None:
        transaction = self._transaction
        if transaction is None:
            raise refused(503, "5.5.1", "Give a sender first")
        recipient = parse_rcpt(
            argument,
            {},
            smtputf8=transaction.mail.smtputf8,
            postmaster_domain=self._settings.postmaster_domain,
        )
        if transaction.attempts >= self._settings.recipient_limit:
            self._excess_recipients += 1
            self._send(reply(452, "4.5.3", "Too many recipients"))
            if self._excess_recipients > self._settings.recipient_limit:
                self.close_with(reply(421, "4.7.0", "Too many recipients"))
            return None
        transaction.attempts += 1
        return RcptTo(recipient)

    def _data(self, _argument: str) -> Event:
        transaction = self._transaction
        if transaction is None:
            raise refused(503, "5.5.1", "Give a sender first")
        if not transaction.accepted:
            # RFC 2033 4.2 wants 503 here; RFC 5321 4.1.1.4 gives the choice.
            attempted = transaction.attempts and not self._settings.lmtp
            raise refused(554 if attempted else 503, "5.5.1", "No valid recipients")
        return DataStart()

    def _rset(self, _argument: str) -> Event:
        self._transaction = None
        self._send(reply(250, "2.0.0", "Reset"))
        return Reset()

    def _noop(self, _argument: str) -> None:
        self._send(reply(250, "2.0.0", "OK"))

    def _help(self, _argument: str) -> None:
        missing = {"EXPN"}
        missing |= set() if self._may_start_tls() else {"STARTTLS"}
        missing |= set() if self._offered() else {"AUTH"}
        names = [name for name, verb in VERBS.items() if self._speaks(verb) and name not in missing]
        self._send(reply(214, "2.0.0", "Commands:", " ".join(names)))

    def _vrfy(self, _argument: str) -> None:
        # RFC 5321 3.5.3: who will not tell says 252, never something that could be taken for an answer.
        self._send(reply(252, "2.1.5", "Cannot verify the user, but will take mail for it and try"))

    def _expn(self, _argument: str) -> None:
        self._send(reply(502, "5.5.1", "Lists are not expanded here"))

    def _quit(self, _argument: str) -> Event:
        self.close_with(reply(221, "2.0.0", "Bye"))
        return Quit()

    # --- AUTH ------------------------------------------------------------------------------------------------------

    def _auth(self, argument: str) -> Event | None:
        self._check_auth()
        mechanism, initial = parse_auth(argument)
        if mechanism not in self._offered() or mechanism not in SERVER_MECHANISMS:
            raise refused(504, "5.5.4", "Mechanism not supported")
        self._exchange = _Exchange(mechanism, ServerExchange(mechanism))
        self._phase = _Phase.EXCHANGE
        steps = self._exchange.steps
        return self._sasl(lambda: steps.start(initial))

    def _check_auth(self) -> None:
        if not self._settings.mechanisms:
            raise refused(502, "5.5.1", "Authentication is not available")
        if not self._offered():
            raise refused(538, "5.7.11", "Encryption required for authentication")
        if self.authenticated:
            raise refused(503, "5.5.1", "Already authenticated")
        if self._transaction is not None:
            raise refused(503, "5.5.1", "Not during a mail transaction")

    def _exchange_step(self, line: bytes) -> Event | None:
        if self._exchange is None:
            raise RuntimeError("no exchange")
        steps = self._exchange.steps
        return self._sasl(lambda: steps.receive(line))

    def _sasl(self, step: Callable[[], bytes | PlainCredentials]) -> Event | None:
        try:
            result = step()
        except SaslError as error:
            self._end_exchange()
            status = "5.7.0" if isinstance(error, SaslCancelled) else "5.5.2"
            raise refused(501, status, str(error).capitalize()) from None
        if isinstance(result, bytes):
            self._out.append(b"334 " + result + b"\r\n")
            return None
        return Login(self._end_exchange(), result)

    def _end_exchange(self) -> str:
        mechanism = self._exchange.mechanism if self._exchange else ""
        self._exchange = None
        self._phase = _Phase.COMMAND
        return mechanism

    # --- The message -----------------------------------------------------------------------------------------------

    def _read_body(self) -> tuple[bool, Event | None]:
        body = self._body
        octets = self._buffer.take_all()
        if body is None or not octets:
            return False, None
        chunk = body.decoder.feed(octets)
        body.size += len(chunk)
        body.wire_size += len(octets)
        if body.decoder.ended:
            self._buffer.feed(body.decoder.rest)
            self._phase = _Phase.DATA_ENDED
        self._check_body(body)
        return True, BodyChunk(chunk) if chunk and not body.refusal else None

    def _check_body(self, body: _Body) -> None:
        violation = body.decoder.violation
        limit = self._settings.message_size_limit
        if body.refusal is None and violation and self._settings.bare_lines is BareLines.REJECT:
            text = f"Message has a {violation.value}; its lines must end with CRLF and have no NUL"
            body.refusal = reply(554, "5.6.0", text)
        if body.refusal is None and body.size > limit:
            body.refusal = _TOO_LARGE
        # To the end of data, so that the client hears the refusal, but not for ever.
        if not body.decoder.ended and body.wire_size > 2 * limit + _WIRE_SLACK:
            self.close_with(body.refusal or _TOO_LARGE)

    def _end_body(self) -> tuple[bool, Event | None]:
        refusal = self._body.refusal if self._body else None
        if refusal is None:
            return True, BodyEnd()
        self._finish_body([refusal] * self._final_replies())
        return True, BodyAborted()

    def _final_replies(self) -> int:
        return len(self.recipients) if self._settings.lmtp else 1

    def _finish_body(self, replies: Sequence[Reply]) -> None:
        for answer in replies:
            self._send(answer)
        if any(answer.positive for answer in replies):
            self._idle_commands = self._excess_recipients = 0
        self._transaction = self._body = None
        self._phase = _Phase.COMMAND

    # --- Small parts -----------------------------------------------------------------------------------------------

    def _take_pending(self) -> Event:
        if self._pending is None:
            raise RuntimeError("no event waits for an answer")
        event, self._pending = self._pending, None
        return event

    def _send(self, answer: Reply) -> None:
        self._out.append(self._render(answer))

    def _render(self, answer: Reply) -> bytes:
        return render(answer, utf8=self._transaction is not None and self._transaction.mail.smtputf8)

    def _fit_line_limit(self) -> None:
        login_possible = self._offered() and not self.authenticated
        self._buffer.limit = LINE_LIMIT if login_possible else PATH_LINE


_COMMANDS: Mapping[str, Callable[[SmtpServer, str], Event | None]] = {
    "EHLO": SmtpServer._ehlo,
    "HELO": SmtpServer._helo,
    "LHLO": SmtpServer._ehlo,
    "STARTTLS": SmtpServer._starttls,
    "AUTH": SmtpServer._auth,
    "MAIL": SmtpServer._mail,
    "RCPT": SmtpServer._rcpt,
    "DATA": SmtpServer._data,
    "RSET": SmtpServer._rset,
    "NOOP": SmtpServer._noop,
    "QUIT": SmtpServer._quit,
    "HELP": SmtpServer._help,
    "VRFY": SmtpServer._vrfy,
    "EXPN": SmtpServer._expn,
}

_STEPS: Mapping[_Phase, Callable[[SmtpServer], tuple[bool, Event | None]]] = {
    _Phase.COMMAND: SmtpServer._read_line,
    _Phase.EXCHANGE: SmtpServer._read_line,
    _Phase.DATA: SmtpServer._read_body,
    _Phase.DATA_ENDED: SmtpServer._end_body,
}

# Each takes the event that is its key.
_ACCEPTED: Mapping[type, Callable[[SmtpServer, Any, _Lines], None]] = {
    Hello: SmtpServer._accept_hello,
    StartTls: SmtpServer._accept_tls,
    Login: SmtpServer._accept_login,
    MailFrom: SmtpServer._accept_mail,
    RcptTo: SmtpServer._accept_recipient,
    DataStart: SmtpServer._accept_data,
    BodyEnd: SmtpServer._accept_body,
}
