"""The SMTP and LMTP server machine (RFC 5321, RFC 2033): octets in, events and replies out.

It knows order, grammar and limits; who may do what is the session's business. Commands are taken strictly one at a
time, so pipelined ones (RFC 2920) are answered in order whatever the session waits for. What a command needs and does
is in the tables of verbs.py and extensions.py.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from enum import Enum
from typing import Any

from mailhub.message.envelope import Recipient
from mailhub.wire.foreign import is_foreign, is_foreign_octet
from mailhub.wire.smtp.chunks import chunk_received
from mailhub.wire.smtp.dialogue import RECIPIENT_OK, Dialogue, MailTransaction, Progress, answer_to_ehlo
from mailhub.wire.smtp.events import (
    BadCommand,
    BodyAborted,
    BodyChunk,
    BodyEnd,
    DataStart,
    Event,
    Hello,
    Login,
    MailFrom,
    RcptTo,
    SpeaksFor,
    StartTls,
    Turn,
)
from mailhub.wire.smtp.extensions import EXTENSIONS, SmtpSettings, offer
from mailhub.wire.smtp.grammar import CommandRefused, refused, split_command
from mailhub.wire.smtp.login import respond
from mailhub.wire.smtp.reception import TOO_LARGE, Chunk, Data, Reception
from mailhub.wire.smtp.replies import Reply, render, reply
from mailhub.wire.smtp.verbs import NAMES, Argument, Since, Verb, longest_line, spoken
from mailhub.wire.stream import ENDLESS, LineBuffer, LineTooLong


class _Phase(Enum):
    GREETING = "the session has not greeted yet"
    OPEN = "the client speaks"
    REFUSED = "the client was refused with the greeting"
    TLS = "TLS is being started"


# Up to Python 3.11, to name a member of an Enum is a call; these are asked for with every command.
_GREETING, _OPEN, _REFUSED = _Phase.GREETING, _Phase.OPEN, _Phase.REFUSED
_NO_ARGUMENT, _SOME_ARGUMENT = Argument.NONE, Argument.REQUIRED
_CONNECTED = Progress.CONNECTED

_Lines = tuple[str, ...]

# The usual answers, rendered once.
_TLS_OK = render(reply(220, "2.0.0", "Ready to start TLS"))
_LOGIN_OK = render(reply(235, "2.7.0", "Authentication successful"))
_SENDER_OK = render(reply(250, "2.1.0", "Sender OK"))
_GO_ON = render(reply(354, "", "End data with <CR><LF>.<CR><LF>"))
_INTERNAL_ERROR = reply(451, "4.3.0", "Internal error, please try again later")
_IN_CHUNKS = "The message is coming in chunks"
_REFUSALS = {row.keyword: row.refusal for row in EXTENSIONS}


class SmtpServer(Dialogue):
    """One connection. `closing`: close once data_to_send() is out. `secure`: TLS is on."""

    def __init__(self, settings: SmtpSettings) -> None:
        super().__init__(settings)
        self._verbs = spoken(settings.lmtp)
        self._buffer = LineBuffer(longest_line(self.offer, False))
        self._phase = _Phase.GREETING
        self._pending: Event | None = None
        self._bad_commands = self._idle_commands = self._login_failures = 0
        self._forgiven = 0  # commands that are to come in vain because of what we refused for a reason of our own
        # The client has spoken before it was its turn: before the greeting, or without waiting for a reply that it must
        # see first (RFC 5321 4.3.1, RFC 2920 3.1).
        self.early = False
        self._eof = False
        self._pipelines = True  # nobody has said yet that commands come one by one

    @property
    def data_octets(self) -> int:
        """Octets of the message under way that have come in, as they stand on the wire."""
        if self.transaction is not None and self.transaction.chunks is not None:
            return self.transaction.chunks.wire_size
        return self.reception.wire_size if isinstance(self.reception, Data) else 0

    @property
    def receiving(self) -> bool:
        """Octets are to come, not commands."""
        return self.reception is not None

    # --- Octets ----------------------------------------------------------------------------------------------------

    def receive_data(self, data: bytes) -> None:
        """Take octets from the peer."""
        if not self.closing:
            self.early = self.early or self._phase is _GREETING
            self._buffer.feed(data)

    def receive_eof(self) -> None:
        """The peer sends no more; what is complete is still worked off."""
        self._eof = True

    def data_to_send(self) -> bytes:
        """Take the replies collected so far."""
        if not self.out:
            return b""
        octets = b"".join(self.out)
        self.out.clear()
        return octets

    def next_event(self) -> Event | None:
        """What happened next; None until more octets come. RuntimeError when an answer to the last event is due."""
        if self._pending is not None:
            raise RuntimeError(f"{self._pending} is not answered")
        while not self.closing:
            body = self.reception
            if body is not None:
                progress, event = self._end_body(body) if body.ended else self._read_body(body)
            elif self._phase is _OPEN:
                progress, event = self._read_line()
            elif self._phase is _REFUSED:
                progress, event = self._turn_away(), None
            else:
                progress, event = False, None
            if event is not None:
                if type(event) in _ACCEPTED:
                    self._pending = event
                return event
            if not progress:
                self.closing = self.closing or self._eof
                return None
        return None

    # --- The session's side ----------------------------------------------------------------------------------------

    def greet(self, refusal: Reply | None = None) -> None:
        """Send 220, or a refusal: 421 closes, and after 554 the client has nothing more to say than QUIT."""
        if self._phase is not _Phase.GREETING:
            raise RuntimeError("greeted already")
        if refusal is not None:
            if refusal.code == 421:
                self.close_with(refusal)
            else:
                self.send(refusal)
                self._phase = _REFUSED
            return
        protocol = "LMTP" if self.settings.lmtp else "ESMTP"
        self.send(Reply(220, "", (f"{self.settings.hostname} {protocol} mailhub",)))
        self._phase = _Phase.OPEN

    def accept(self, *lines: str) -> None:
        """Answer the event positively, with a text of one's own or the usual one."""
        event, self._pending = self._pending, None
        if event is None:
            raise RuntimeError("no event waits for an answer")
        _ACCEPTED[type(event)](self, event, lines)

    def take_recipients(self, at_once: Callable[[Recipient], bool]) -> None:
        """Of the transaction that has been accepted: see `MailTransaction.take_at_once`."""
        if self.transaction is None:
            raise RuntimeError("there is no transaction")
        self.transaction.take_at_once = at_once

    def accept_changed(self, status: str, text: str) -> None:
        """Answer MAIL, or the end of the message, positively, with a status that tells what was not done as asked."""
        event = self._take_pending()
        answer = Reply(250, status, (text,))
        if isinstance(event, MailFrom):
            self.transaction = MailTransaction(event.mail.smtputf8, event.mail.body_type == "BINARYMIME")
            self.send(answer)
        elif isinstance(event, BodyEnd):
            self._finish_body([answer] * self._final_replies())
        else:
            raise RuntimeError(f"{event} is done as asked, or not")

    def refuse(self, refusal: Reply) -> None:
        """Answer the event with a 4xx or 5xx reply. 421 closes the connection."""
        event = self._take_pending()
        self._forgive(refusal)
        if isinstance(event, BodyEnd):
            self._finish_body([refusal] * self._final_replies())
        elif isinstance(self.reception, Chunk) and refusal.code != 421:
            self.reception.refusal = refusal  # its octets come all the same
        else:
            self.reception = None
            self.send(refusal)
        self.closing = self.closing or refusal.code == 421 or isinstance(event, SpeaksFor)
        if isinstance(event, Login) and refusal.code >= 500:
            self._login_failures += 1
            if self._login_failures >= self.settings.login_failure_limit:
                self.close_with(reply(421, "4.7.0", "Too many failed logins"))

    def finish(self, replies: Sequence[Reply]) -> None:
        """Answer BodyEnd in LMTP: one reply for each recipient that was accepted, in order (RFC 2033 4.2)."""
        if not self.settings.lmtp or len(replies) != self._final_replies():
            raise RuntimeError("one reply a recipient, in LMTP only")
        if not isinstance(self._take_pending(), BodyEnd):
            raise RuntimeError("the message has not ended")
        self._finish_body(replies)

    def turned(self, messages: int) -> None:
        """Answer Turn: so many messages are tried now (RFC 1985 5.3)."""
        event = self._take_pending()
        if not isinstance(event, Turn):
            raise RuntimeError("no mail was asked for")
        if messages:
            self.send(reply(253, "2.0.0", f"OK, {messages} pending messages for node {event.node} started"))
        else:
            self.send(reply(251, "2.0.0", f"OK, no messages waiting for node {event.node}"))

    def refuse_body(self, refusal: Reply) -> None:
        """While a message arrives: give out no more of it; the client is told at its end."""
        if self.reception is None:
            raise RuntimeError("no message is arriving")
        self.reception.refusal = self.reception.refusal or refusal

    def tls_started(self) -> None:
        """TLS is on: forget everything the peer said before (RFC 3207 4.2)."""
        if self._phase is not _Phase.TLS:
            raise RuntimeError("STARTTLS was not accepted")
        self._buffer.drop()
        self.hello = self.transaction = None
        self._pipelines = True
        self.authenticated, self.login_domain = False, ""
        self.secure = True
        self.offer = offer(self.settings, True)
        self._buffer.limit = longest_line(self.offer, False)
        self._phase = _Phase.OPEN

    def internal_error(self) -> None:
        """The session failed: give a 451 for whatever is open, now or at the end of the message."""
        if self._phase is _Phase.GREETING:
            self.close_with(reply(421, "4.3.0", "Internal error, please try again later"))
        elif self._pending is not None:
            self.refuse(_INTERNAL_ERROR)
        elif self.reception is not None:
            self.refuse_body(_INTERNAL_ERROR)

    def _take_pending(self) -> Event:
        if self._pending is None:
            raise RuntimeError("no event waits for an answer")
        event, self._pending = self._pending, None
        return event

    def _accept_hello(self, event: Hello, _lines: _Lines) -> None:
        self.hello = event
        self.transaction = None
        self._pipelines = event.extended and "PIPELINING" in self.offer.lines
        hostname = self.settings.hostname
        if event.extended:
            self.out.append(answer_to_ehlo(hostname, self.offer, self.authenticated))
        else:
            self.send(Reply(250, "", (hostname,)))

    def _accept_another(self, event: SpeaksFor, _lines: _Lines) -> None:
        # What was sent before the answer was not said by this client.
        self._buffer.drop()
        self.hello = self.transaction = None
        self._pipelines = True
        self.early = False
        self.authenticated, self.login_domain = bool(event.attributes.get("LOGIN")), ""
        self._phase = _Phase.GREETING
        self.greet()

    def _accept_tls(self, _event: StartTls, lines: _Lines) -> None:
        self.out.append(self.render(Reply(220, "2.0.0", lines)) if lines else _TLS_OK)
        self._phase = _Phase.TLS

    def _accept_login(self, _event: Login, lines: _Lines) -> None:
        self.out.append(self.render(Reply(235, "2.7.0", lines)) if lines else _LOGIN_OK)
        self.authenticated = True
        self._buffer.limit = longest_line(self.offer, True)

    def _accept_mail(self, event: MailFrom, lines: _Lines) -> None:
        self.transaction = MailTransaction(event.mail.smtputf8, event.mail.body_type == "BINARYMIME")
        self.out.append(self.render(Reply(250, "2.1.0", lines)) if lines else _SENDER_OK)

    def _accept_recipient(self, _event: RcptTo, lines: _Lines) -> None:
        if self.transaction is not None:
            self.transaction.recipients += 1
        self.out.append(self.render(Reply(250, "2.1.5", lines)) if lines else RECIPIENT_OK)

    def _accept_data(self, _event: DataStart, lines: _Lines) -> None:
        if isinstance(self.reception, Chunk):
            return
        self.out.append(self.render(Reply(354, "", lines)) if lines else _GO_ON)

    def _accept_body(self, _event: BodyEnd, lines: _Lines) -> None:
        answer = Reply(250, "2.0.0", lines or ("Message accepted",))
        self._finish_body([answer] * self._final_replies())

    # --- Lines -----------------------------------------------------------------------------------------------------

    def _read_line(self) -> tuple[bool, Event | None]:
        exchange = self.exchange
        try:
            line = self._buffer.next_line()
        except LineTooLong as too_long:
            if exchange is None and _is_foreign_beginning(too_long.head[0]):
                self._end_foreign()
                return False, None
            return True, self._line_too_long()
        if line is None:
            if exchange is None and _is_foreign_beginning(self._buffer.begun):
                self._end_foreign()
            elif self._buffer.discarded > ENDLESS:
                self.close_with(reply(421, "4.7.0", "Line too long"))
            return False, None
        try:
            return True, self._command(line) if exchange is None else respond(self, exchange, line)
        except CommandRefused as error:
            # What begins as a command cannot is no mistake in one.
            if exchange is None and line and is_foreign_octet(line[0]):
                self._end_foreign()
                return False, None
            return True, self._bad_command(error.answer)

    def _turn_away(self) -> bool:
        """RFC 5321 3.1: whatever a client says that was refused with the greeting, only QUIT ends it. Whether there was
        anything."""
        try:
            line = self._buffer.next_line()
        except LineTooLong:
            line = b""
        if line is None:
            if self._buffer.discarded > ENDLESS:
                self.close_with(reply(421, "4.7.0", "Line too long"))
            return False
        if line.strip(b" ").upper() == b"QUIT":
            self.close_with(reply(221, "2.0.0", "Bye"))
        else:
            self._bad_commands += 1
            self._answer_bad_command(reply(503, "5.5.1", "This connection was refused"))
        return True

    def _line_too_long(self) -> Event | None:
        if self.exchange is not None:
            self.exchange = None
            return self._bad_command(reply(500, "5.5.6", "Authentication exchange line is too long"))
        return self._bad_command(reply(500, "5.5.2", "Line too long"))

    def _command(self, line: bytes) -> Event | None:
        name, argument = split_command(line)
        verb = self._verbs.get(name)
        if verb is None:
            if is_foreign(line, NAMES):
                self._end_foreign()
                return None
            raise refused(500, "5.5.1", "Command not recognised")
        try:
            return self._carry_out(verb, name, argument, len(line) + 2)
        except CommandRefused as error:
            if not verb.follow_up(self, argument, error.answer):
                raise
            self._too_idle()
            return None

    def _carry_out(self, verb: Verb, name: str, argument: str, octets: int) -> Event | None:
        if octets > verb.limit + self.offer.octets.get(name, 0):
            raise refused(500, "5.5.2", "Line too long")
        if verb.idle and self._too_idle():
            return None
        state, settings = self.state, self.settings
        if state is _CONNECTED or settings.require_tls or settings.require_login:
            self._check_stage(verb, state)
        if argument and verb.argument is _NO_ARGUMENT:
            raise refused(501, "5.5.4", f"{name} takes no argument")
        if not argument and verb.argument is _SOME_ARGUMENT:
            raise refused(501, "5.5.4", f"{name} needs an argument")
        if verb.extension and verb.extension not in self.offer.lines:
            raise CommandRefused(_REFUSALS[verb.extension](self.settings, self.secure))
        if state not in verb.states:
            raise refused(503, "5.5.1", _IN_CHUNKS if state is Progress.CHUNKS else verb.order)
        # What follows BDAT is its chunk.
        alone = verb.last or not (self._pipelines or verb.extension == "CHUNKING")
        if alone and not self.early:
            self.early = self._buffer.first is not None
        return verb.action(self, argument)

    def _end_foreign(self) -> None:
        self.close_with(reply(554, "5.5.1", "This is a mail server"))

    def _forgive(self, refusal: Reply) -> None:
        """Whom we refuse for a reason of our own (RFC 3463 3.4: a full disk, say) may have sent what follows already,
        has RSET to say, and is not to be shut out for that."""
        if refusal.status.startswith("4.3."):
            self._forgiven = self.settings.recipient_limit + 3  # DATA or BDAT, RSET, one NOOP

    def _is_forgiven(self) -> bool:
        forgiven = self._forgiven > 0
        self._forgiven -= forgiven
        return forgiven

    def _too_idle(self) -> bool:
        if self._is_forgiven():
            return self.closing
        self._idle_commands += 1
        if self._idle_commands > self.settings.idle_command_limit:
            self.close_with(reply(421, "4.7.0", "Too many commands without a message"))
        return self.closing

    def _check_stage(self, verb: Verb, state: Progress) -> None:
        """What comes before mail, in this order: TLS, EHLO, login."""
        settings = self.settings
        if settings.require_tls and not self.secure and verb.since is not Since.START:
            raise refused(530, "5.7.0", "Issue STARTTLS first")
        if state is _CONNECTED and state not in verb.states:
            raise refused(503, "5.5.1", f"Say {'LHLO' if settings.lmtp else 'EHLO'} first")
        if settings.require_login and not self.authenticated and verb.since is Since.LOGIN:
            raise refused(530, "5.7.0", "Authentication required")

    def _bad_command(self, answer: Reply) -> Event | None:
        if answer.code in (503, 554) and self._is_forgiven():
            self.send(answer)
            return None
        self._bad_commands += 1
        if self._bad_commands > self.settings.free_bad_commands:
            return BadCommand(answer, self._bad_commands)
        self._answer_bad_command(answer)
        return None

    def _answer_bad_command(self, answer: Reply) -> None:
        self.send(answer)
        if self._bad_commands >= self.settings.bad_command_limit:
            self.close_with(reply(421, "4.7.0", "Too many errors"))

    def _accept_bad_command(self, event: BadCommand, _lines: _Lines) -> None:
        self._answer_bad_command(event.answer)

    # --- The message -----------------------------------------------------------------------------------------------

    def _read_body(self, body: Reception) -> tuple[bool, Event | None]:
        octets = self._buffer.take(body.wanted)
        if not octets and body.wanted:
            return False, None
        chunk = body.take(octets)
        if body.ended:
            self._buffer.feed(body.rest)
        elif body.endless:
            self.close_with(body.refusal or TOO_LARGE)
        return True, BodyChunk(chunk) if chunk else None

    def _end_body(self, body: Reception) -> tuple[bool, Event | None]:
        if body.refusal is None and body.complete:
            return True, BodyEnd()
        self.reception = None
        if body.refusal is None:
            assert isinstance(body, Chunk), "all else is complete"
            self.send(chunk_received(body))
            return bool(body.size) or not self._too_idle(), None
        transaction = self.transaction
        if transaction is None or (isinstance(body, Chunk) and transaction.chunks is None):
            self.send(body.refusal)  # a chunk of no message
            return True, None
        self._finish_body([body.refusal] * (self._final_replies() if body.complete else 1))
        return True, BodyAborted()

    def _final_replies(self) -> int:
        return self.transaction.recipients if self.settings.lmtp and self.transaction else 1

    def _finish_body(self, replies: Sequence[Reply]) -> None:
        for answer in replies:
            self.send(answer)
            if answer.positive:
                self._idle_commands = self.excess_recipients = self._forgiven = 0
            else:
                self._forgive(answer)
        self.transaction = self.reception = None


def _is_foreign_beginning(first: int | None) -> bool:
    return first is not None and is_foreign_octet(first)


# The events that need an answer, and what a positive one does; each takes the event that is its key.
_ACCEPTED: Mapping[type, Callable[[SmtpServer, Any, _Lines], None]] = {
    BadCommand: SmtpServer._accept_bad_command,
    Hello: SmtpServer._accept_hello,
    StartTls: SmtpServer._accept_tls,
    Turn: lambda server, _event, _lines: server.send(reply(250, "2.0.0", "OK, queuing started")),
    SpeaksFor: SmtpServer._accept_another,
    Login: SmtpServer._accept_login,
    MailFrom: SmtpServer._accept_mail,
    RcptTo: SmtpServer._accept_recipient,
    DataStart: SmtpServer._accept_data,
    BodyEnd: SmtpServer._accept_body,
}
