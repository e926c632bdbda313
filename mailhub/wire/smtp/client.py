"""The SMTP and LMTP client machine (RFC 5321, RFC 2033): messages in, octets and outcomes out.

It sets the session up by itself (EHLO, STARTTLS, AUTH), then takes one message after the other. Nothing the server says
is trusted: replies are bounded, and what is out of order ends the session with everything open DELAYED. A recipient is
DELIVERED only by a positive final reply to the data, so a lost connection may double a message but never lose it;
`in_doubt` tells when it may.

A server that has CHUNKING gets the message by BDAT (RFC 3030), a small one together with the envelope. That is done
with the first message of a session alone: of what was sent into a session that the server has closed meanwhile, nobody
knows whether it was taken. Nor is it done by LMTP, where the number of replies to the message follows from those to its
recipients: a reply too many among these would go unnoticed.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from typing import Literal

import attrs

from mailhub.credentials import PlainCredentials
from mailhub.message.envelope import Outcome, Source, State
from mailhub.wire.sasl import ClientExchange, SaslError, choose
from mailhub.wire.smtp.client_events import ClientEvent, Finished, Phase, Ready, SendBody, StartTls, Unusable
from mailhub.wire.smtp.hop import CannotSay, Hop, OutgoingMessage
from mailhub.wire.smtp.outgoing import TOO_MANY, ChunkedBody, DataBody, Transaction
from mailhub.wire.smtp.replies import BadReply, Reply, ReplyReader, TooManyLines
from mailhub.wire.stream import ENDLESS, LineBuffer, LineTooLong

# RFC 5321 4.5.3.1.5 says 512 octets; some servers write longer lines.
_REPLY_LINE = 2048
# Octets of a message that is sent before the server has taken its recipients.
_SMALL = 65536
# Chunks that may be on their way without an answer, where the server takes several commands at once.
_CHUNKS_AHEAD = 16


@attrs.frozen
class SmtpClientSettings:
    """How to talk to one server.

    `remote` names it in outcomes. `secure`: TLS is on from the first octet. Credentials are sent under TLS only.
    `extensions_off`: keywords that it may offer in vain.
    """

    helo: str
    remote: str = ""
    tls: Literal["never", "opportunistic", "required"] = "opportunistic"
    secure: bool = False
    credentials: PlainCredentials | None = None
    lmtp: bool = False
    extensions_off: frozenset[str] = frozenset()


@attrs.define
class _Command:
    """A command to send or sent, with the number of the recipient it is about."""

    phase: Phase
    line: bytes = b""
    recipient: int = -1


class SmtpClient:
    """One connection to a server. `closing`: close it once data_to_send() is out. `replies`: complete ones so far.
    `in_doubt`: the server may have the last message, although it has not said so to all of its recipients.
    `took_recipients`: of the last message it took some."""

    def __init__(self, settings: SmtpClientSettings) -> None:
        self._settings = settings
        self._buffer = LineBuffer(_REPLY_LINE)
        self._reader = ReplyReader()
        self._out: list[bytes] = []
        self._events: deque[ClientEvent] = deque()
        self._todo: deque[_Command] = deque()
        self._sent: deque[_Command] = deque([_Command(Phase.GREETING)])
        self._hop = Hop()
        self._exchange: ClientExchange | None = None
        self._transaction: Transaction | None = None
        self._reset_first = False
        self._fresh = True
        self._tls_refused = False
        self._state = Phase.GREETING
        self.replies = 0
        self.in_doubt = False
        self.took_recipients = False
        self.secure = settings.secure
        self.closing = False

    @property
    def phase(self) -> Phase:
        """What is waited for now."""
        return self._sent[0].phase if self._sent else self._state

    @property
    def hop(self) -> Hop:
        """The server, as its last answer to EHLO shows it."""
        return self._hop

    @property
    def wants_body(self) -> bool:
        """Whether the driver is to go on with the message."""
        return self._state is Phase.BODY and not self.closing

    @property
    def gathering(self) -> bool:
        """Envelope and message are to go out in one piece, of which there is more to come."""
        return self.wants_body and self._transaction is not None and self._transaction.early

    @property
    def full(self) -> bool:
        """The driver is to wait for replies before it goes on with the message."""
        return len(self._sent) >= (_CHUNKS_AHEAD if "PIPELINING" in self._hop.keywords else 1)

    @property
    def _unasked(self) -> bool:
        """Whether there are octets of a reply; at a time when nothing waits for one, there should not be."""
        return self._buffer.begun is not None or self._reader.begun is not None

    # --- Octets ----------------------------------------------------------------------------------------------------

    def receive_data(self, data: bytes) -> None:
        """Take octets from the server."""
        if not self.closing:
            self._buffer.feed(data)

    def data_to_send(self) -> bytes:
        """Take the octets to send."""
        octets = b"".join(self._out)
        self._out.clear()
        return octets

    def next_event(self) -> ClientEvent | None:
        """What happened next; None until more octets come or the driver has done its part."""
        self.look_ahead()
        return self._events.popleft() if self._events else None

    def look_ahead(self) -> None:
        """Work off the replies received, as far as the next event; `phase` and `closing` may change."""
        while not self._events and not self.closing and self._state is not Phase.TLS:
            try:
                line = self._next_line()
                answer = None if line is None else self._reader.line(line)
            except BadReply as error:
                self._broken(str(error), self._reader.begun if isinstance(error, TooManyLines) else None)
                break
            if line is None:
                if self._buffer.discarded > ENDLESS:
                    self._broken("endless line", self._reader.cut(self._buffer.head))
                break
            if answer is not None:
                self._answered(answer)

    def _next_line(self) -> bytes | None:
        """A reply counts however long its text is: to take a 250 for a failure would send the message twice."""
        try:
            return self._buffer.next_line()
        except LineTooLong as error:
            return error.head

    def _broken(self, why: str, begun: Reply | None) -> None:
        """The server breaks the protocol. What it has said of the whole message by a reply without end counts: to send
        it again would double it every time."""
        if begun is not None and self._sent and self._sent[0].phase is Phase.FINAL:
            self._answered(begun)
        self.fail("4.5.0", f"Server breaks the protocol: {why}")

    def _out_of_step(self) -> None:
        """The server has said more than it was asked, and nobody knows which reply was for what."""
        if self._transaction is not None:
            self._transaction.forget()
        self.fail("4.5.0", "Server says what it was not asked")

    def fail(self, status: str, text: str, source: Source | None = None) -> None:
        """The connection is lost, has timed out, or cannot go on: everything open is DELAYED for this reason."""
        if self.closing:
            return
        outcome = self._delayed(status, text, source) if status[0] == "4" else self._failed(status, text, source)
        phase = self.phase
        self.closing = True
        if self._transaction is not None:
            # Who says 421 has not taken it.
            self.in_doubt = self._transaction.in_doubt and source is not Source.REMOTE
            self._finish(outcome)
        elif self._state in _SET_UP:
            self._events.append(Unusable(outcome, phase))
        self._sent.clear()
        self._todo.clear()
        self._state = Phase.CLOSED

    # --- The driver's side -----------------------------------------------------------------------------------------

    def tls_started(self) -> None:
        """TLS is on: forget what was said before (RFC 3207 4.2) and introduce ourselves again."""
        if self._state is not Phase.TLS:
            raise RuntimeError("the server did not agree to STARTTLS")
        self._buffer.drop()
        self._hop = Hop()
        self.secure = True
        self._say_hello()

    def send(self, message: OutgoingMessage) -> None:
        """Begin to send a message; Finished follows, SendBody perhaps before."""
        if self._state is not Phase.READY or self.closing:
            raise RuntimeError("not ready for a message")
        self._transaction = transaction = self._begin(message)
        self._state = Phase.MAIL
        smtputf8 = message.needs_smtputf8 and self._hop.offer.smtputf8
        try:
            commands = [_Command(Phase.MAIL, self._hop.mail(message, smtputf8=smtputf8))]
        except CannotSay as error:
            self._finish(self._failed(error.status, error.text))
            return
        said: dict[bytes, int] = {}
        for number, recipient in enumerate(message.recipients):
            try:
                line = self._hop.rcpt(recipient, smtputf8=smtputf8)
            except CannotSay as error:
                transaction.outcomes[number] = self._failed(error.status, error.text)
                continue
            if (first := said.setdefault(line, number)) != number:
                transaction.same[number] = first
            else:
                commands.append(_Command(Phase.RECIPIENT, line, number))
        if len(commands) == 1:
            self._finish(None)
            return
        reset = [_Command(Phase.RESET, b"RSET")] if self._reset_first else []
        data = [] if transaction.chunked else [_Command(Phase.DATA, b"DATA")]
        self._todo.extend([*reset, *commands, *data])
        self._send_commands()

    def _begin(self, message: OutgoingMessage) -> Transaction:
        hop, wrap = self._hop, not self._settings.lmtp
        chunked = "CHUNKING" in hop.keywords
        body = ChunkedBody(wrap=wrap, binary=hop.takes_binary(message)) if chunked else DataBody(wrap=wrap)
        at_once = self._fresh and "PIPELINING" in hop.keywords and not self._settings.lmtp
        early = chunked and at_once and message.size <= _SMALL
        self._fresh = self.in_doubt = self.took_recipients = False
        return Transaction([None] * len(message.recipients), body, chunked, early)

    def send_body(self, octets: bytes) -> None:
        """After SendBody: octets of the message. Bare CR, bare LF and NUL are repaired on the way, and lines that are
        too long for SMTP are broken; a mail store behind LMTP gets them as they are, and who takes binary messages gets
        all as it is."""
        transaction = self._transaction
        if self._state is Phase.BODY and transaction is not None:
            out = transaction.body.feed(octets)
            if out and transaction.chunked:
                transaction.early = False
                self._sent.append(_Command(Phase.CHUNK))
            self._out.append(out)

    def end_body(self) -> None:
        """The message is complete."""
        transaction = self._transaction
        if self._state is Phase.BODY and transaction is not None:
            transaction.in_step = not self._sent
            if transaction.early or transaction.in_step:
                # No reply can be on its way that is for this.
                self.look_ahead()
                if self._unasked:
                    self._out_of_step()
                if self.closing:
                    return
            self._out.append(transaction.body.finish())
            self._state = Phase.FINAL
            self._sent.append(_Command(Phase.FINAL))
            transaction.ended = True

    def quit(self) -> None:
        """Take leave; the machine closes when the server has answered."""
        if self._state is Phase.READY and not self.closing:
            self._state = Phase.QUIT
            self._command(Phase.QUIT, b"QUIT")

    # --- Replies ---------------------------------------------------------------------------------------------------

    def _answered(self, answer: Reply) -> None:
        self.replies += 1
        if answer.code == 421:
            self.fail(answer.status or "4.3.2", answer.text, Source.REMOTE)
            return
        if self._state is Phase.BODY and not self._sent:
            self._interrupted(answer)
            return
        if not self._sent or self.gathering:
            self._out_of_step()
            return
        command = self._sent.popleft()
        _ANSWERS[command.phase](self, command, answer)
        if not self.closing:
            self._send_commands()

    def _interrupted(self, answer: Reply) -> None:
        """A verdict before the end of the message: the rest cannot be sent, so the connection is over."""
        if answer.code >= 400:
            self._settle(self._outcome(answer))
        else:
            self._settle(self._delayed("4.5.0", f"Premature reply: {answer.text}"))
        self.fail("4.5.0", "Server answered before the end of the message")
        self.in_doubt = answer.code < 400

    def _greeted(self, _command: _Command, answer: Reply) -> None:
        if answer.code == 521:
            # RFC 7504 3: this host takes no mail, now or ever.
            self._take_no_more(self._failed("5.3.2", answer.text, Source.REMOTE))
        elif answer.code != 220:
            self._unusable(answer)
        else:
            self._say_hello()

    def _say_hello(self) -> None:
        self._state = Phase.HELLO
        verb = b"LHLO " if self._settings.lmtp else b"EHLO "
        self._command(Phase.HELLO, verb + self._settings.helo.encode("ascii", "replace"))

    def _helloed(self, command: _Command, answer: Reply) -> None:
        if answer.code == 250:
            lines = () if command.line.startswith(b"HELO") else answer.lines
            self._hop = Hop(lines, secure=self.secure, off=self._settings.extensions_off)
            self._set_up()
        elif answer.code >= 500 and command.line.startswith(b"EHLO"):
            # RFC 5321 3.2: a server may know HELO only.
            self._command(Phase.HELLO, b"HELO " + self._settings.helo.encode("ascii", "replace"))
        else:
            self._unusable(answer)

    def _set_up(self) -> None:
        """The next step towards READY."""
        settings = self._settings
        if not self.secure and settings.tls != "never" and "STARTTLS" in self._hop.keywords and not self._tls_refused:
            self._state = Phase.STARTTLS
            self._command(Phase.STARTTLS, b"STARTTLS")
        elif not self.secure and settings.tls == "required":
            self._take_no_more(self._delayed("4.7.4", "TLS is required but the server does not offer it"))
        elif settings.credentials is not None:
            self._log_in(settings.credentials)
        else:
            self._ready()

    def _ready(self) -> None:
        if self._unasked:
            self._out_of_step()
            return
        self._state = Phase.READY
        self._events.append(Ready())

    def _starttls_answered(self, _command: _Command, answer: Reply) -> None:
        if answer.code == 220:
            self._state = Phase.TLS
            self._events.append(StartTls())
        elif self._settings.tls == "required":
            self._unusable(answer)
        else:
            self._tls_refused = True
            self._set_up()

    def _log_in(self, credentials: PlainCredentials) -> None:
        self._state = Phase.LOGIN
        mechanism = choose(self._hop.keywords.get("AUTH", "").split())
        if not self.secure:
            self._take_no_more(self._delayed("4.7.11", "The password is not sent without TLS"))
        elif mechanism is None:
            self._take_no_more(self._delayed("4.7.4", "The server offers no login we know"))
        else:
            self._exchange = ClientExchange(mechanism, credentials)
            initial = self._exchange.initial()
            line = b"AUTH " + mechanism.encode() + (b"" if initial is None else b" " + initial)
            self._command(Phase.LOGIN, line)

    def _login_answered(self, _command: _Command, answer: Reply) -> None:
        if answer.code == 235:
            self._exchange = None
            self._ready()
        elif answer.code != 334 or self._exchange is None:
            self._unusable(answer)
        else:
            try:
                response = self._exchange.receive(answer.lines[0].encode())
            except SaslError:
                self._exchange = None
                response = b"*"
            self._command(Phase.LOGIN, response)

    def _reset_answered(self, _command: _Command, answer: Reply) -> None:
        if answer.code // 100 != 2:
            self.fail("4.5.0", f"RSET was refused: {answer.text}")

    def _mail_answered(self, _command: _Command, answer: Reply) -> None:
        if answer.code // 100 == 2:
            self._reset_first = True
            return
        if answer.code < 400:
            self._out_of_step()
            return
        # What was pipelined behind it is answered by errors, which add nothing.
        self._settle_open(answer)
        self._todo.clear()
        self._out_of_recipients()

    def _rcpt_answered(self, command: _Command, answer: Reply) -> None:
        transaction = self._transaction
        recipient = command.recipient
        if transaction is None or transaction.outcomes[recipient] is not None:
            self._out_of_recipients()
            return
        if answer.code // 100 == 2:
            transaction.accepted.append(recipient)
            self.took_recipients = True
        elif transaction.is_full(answer):
            transaction.outcomes[recipient] = self._delayed(TOO_MANY, answer.text, Source.REMOTE)
        else:
            transaction.outcomes[recipient] = self._outcome(answer)
        self._out_of_recipients()

    def _out_of_recipients(self) -> None:
        """With nobody left nothing more of a message in chunks is sent; there is no DATA that would end it."""
        transaction = self._transaction
        if transaction is None or transaction.accepted or self._todo:
            return
        if self._sent and self._sent[0].phase is Phase.RECIPIENT:
            return
        if self._state is Phase.BODY:
            self._state = Phase.FINAL
        if not self._sent:
            self._finish(None)

    def _data_answered(self, _command: _Command, answer: Reply) -> None:
        transaction = self._transaction
        if transaction is None:
            return
        if answer.code >= 400:
            self._settle_open(answer)
            self._finish(None)
        elif answer.code != 354:
            self._out_of_step()
        elif transaction.accepted:
            self._state = Phase.BODY
            self._events.append(SendBody())
        else:
            # RFC 2920 3.1: a server that takes DATA after refusing all recipients gets an empty message.
            self._out.append(b".\r\n")
            self._sent.append(_Command(Phase.FINAL))

    def _chunk_answered(self, _command: _Command, answer: Reply) -> None:
        if answer.code // 100 != 2:
            # RFC 3030 2: it is the end of the transaction, and what was pipelined behind it is refused, too.
            self._settle_open(answer)
        self._out_of_recipients()

    def _final_answered(self, _command: _Command, answer: Reply) -> None:
        transaction = self._transaction
        if transaction is None:
            return
        outcome = self._outcome(answer)
        if self._settings.lmtp and transaction.accepted:
            recipient = transaction.accepted.popleft()
            transaction.outcomes[recipient] = outcome
            if transaction.accepted:
                transaction.in_step = False
                self._sent.append(_Command(Phase.FINAL))
                return
        else:
            self._settle(outcome)
        # A chunk that is refused may leave the transaction open (RFC 3030 2).
        self._reset_first = transaction.chunked and outcome.state is not State.DELIVERED
        self._finish(None)

    def _quit_answered(self, _command: _Command, _answer: Reply) -> None:
        self.closing = True
        self._state = Phase.CLOSED

    # --- Commands --------------------------------------------------------------------------------------------------

    def _command(self, phase: Phase, line: bytes) -> None:
        self._sent.append(_Command(phase, line))
        self._out.append(line + b"\r\n")

    def _send_commands(self) -> None:
        """RFC 2920 3.1: everything up to DATA at once where the server can; otherwise one after the other."""
        if self._todo and not self._sent and self._unasked:
            self._out_of_step()
            return
        while self._todo and (not self._sent or "PIPELINING" in self._hop.keywords):
            command = self._todo.popleft()
            nobody = self._transaction is None or not self._transaction.accepted
            if command.phase is Phase.DATA and nobody and not self._sent:
                self._finish(None)
                return
            self._sent.append(command)
            self._out.append(command.line + b"\r\n")
        transaction = self._transaction
        if self._state is not Phase.MAIL or transaction is None or not transaction.chunked or self._todo:
            return
        if transaction.early or not self._sent:
            self._state = Phase.BODY
            self._events.append(SendBody())

    # --- Outcomes --------------------------------------------------------------------------------------------------

    def _outcome(self, answer: Reply) -> Outcome:
        state, digit = _STATES.get(answer.code // 100, _STATES[4])
        status = answer.status if answer.status.startswith(digit) else f"{digit}.0.0"
        return Outcome(state, status, answer.text, self._settings.remote, Source.REMOTE)

    def _delayed(self, status: str, text: str, source: Source | None = None) -> Outcome:
        return Outcome.delayed(text, status=status, remote=self._settings.remote, source=source or self._source())

    def _failed(self, status: str, text: str, source: Source | None = None) -> Outcome:
        return Outcome.failed(text, status=status, remote=self._settings.remote, source=source or self._source())

    def _source(self) -> Source:
        """Of what we say ourselves."""
        return Source.SESSION if self.replies else Source.OURS

    def _unusable(self, answer: Reply) -> None:
        """Whatever keeps us from being served may be mended before the message expires, so it is never final."""
        status = f"4.{answer.status[2:]}" if answer.status else "4.0.0"
        self._take_no_more(self._delayed(status, answer.text, Source.REMOTE))

    def _take_no_more(self, outcome: Outcome) -> None:
        """The session cannot be used, but is in order: all that is left to be said is QUIT (RFC 5321 4.1.1.10)."""
        self._events.append(Unusable(outcome, self._state))
        self._state = Phase.READY

    def _settle(self, outcome: Outcome) -> None:
        """The same for all accepted recipients."""
        transaction = self._transaction
        if transaction is not None:
            for recipient in transaction.accepted:
                transaction.outcomes[recipient] = outcome
            transaction.accepted.clear()

    def _settle_open(self, answer: Reply) -> None:
        """A refusal of MAIL or DATA for everyone who has no outcome yet; a positive reply makes no sense there."""
        outcome = self._outcome(answer)
        if outcome.state is State.DELIVERED:
            outcome = self._delayed("4.5.0", f"Unexpected reply: {answer.text}")
        transaction = self._transaction
        if transaction is not None:
            transaction.outcomes = [told or outcome for told in transaction.outcomes]
            transaction.accepted.clear()

    def _finish(self, rest: Outcome | None) -> None:
        """The message is done with; `rest` is the outcome of recipients that have none."""
        transaction, self._transaction = self._transaction, None
        if transaction is not None:
            outcomes = [told for told in transaction.outcomes if told is not None]
            if len(outcomes) < len(transaction.outcomes):
                rest = rest or self._delayed("4.5.0", "No reply for this recipient")
                outcomes = [told or rest for told in transaction.outcomes]
            for recipient, first in transaction.same.items():
                outcomes[recipient] = outcomes[first]
            unasked = self._unasked and not self.closing
            if unasked and not transaction.agrees(outcomes, self._buffer.take_all()):
                outcomes = [self._delayed("4.5.0", "Server says what it was not asked")] * len(outcomes)
                self.in_doubt = transaction.ended
            self._events.append(Finished(tuple(outcomes)))
            if unasked:
                # It would be taken for the answer to what is said next.
                self._todo.clear()
                self.closing = True
        self._state = Phase.CLOSED if self.closing else Phase.READY


# By the first digit of a reply: what it is to a recipient, and the class of its enhanced status code.
_STATES = {2: (State.DELIVERED, "2"), 4: (State.DELAYED, "4"), 5: (State.FAILED, "5")}

_SET_UP = frozenset({Phase.GREETING, Phase.HELLO, Phase.STARTTLS, Phase.TLS, Phase.LOGIN})

_Answer = Callable[[SmtpClient, _Command, Reply], None]
_ANSWERS: Mapping[Phase, _Answer] = {
    Phase.GREETING: SmtpClient._greeted,
    Phase.HELLO: SmtpClient._helloed,
    Phase.STARTTLS: SmtpClient._starttls_answered,
    Phase.LOGIN: SmtpClient._login_answered,
    Phase.RESET: SmtpClient._reset_answered,
    Phase.MAIL: SmtpClient._mail_answered,
    Phase.RECIPIENT: SmtpClient._rcpt_answered,
    Phase.DATA: SmtpClient._data_answered,
    Phase.CHUNK: SmtpClient._chunk_answered,
    Phase.FINAL: SmtpClient._final_answered,
    Phase.QUIT: SmtpClient._quit_answered,
}
