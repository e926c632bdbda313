"""The server's side of an IMAP connection, without I/O: octets in, events and octets out (RFC 3501)."""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum

from mailhub.credentials import PlainCredentials
from mailhub.wire.budget import Budget
from mailhub.wire.foreign import is_foreign, is_foreign_octet
from mailhub.wire.imap import commands, grammar, responses
from mailhub.wire.imap.collector import Announced, Collector, Complete, Flood
from mailhub.wire.imap.commands import Command, Event
from mailhub.wire.imap.grammar import Refused
from mailhub.wire.imap.server_settings import ImapSettings
from mailhub.wire.imap.state import ALLOWED, EXTENSION, SessionState, after_no, after_ok
from mailhub.wire.imap.tokens import BLANKS, BadSyntax, OverLimit, Tokens
from mailhub.wire.sasl import LINE_LIMIT, SaslError, ServerExchange
from mailhub.wire.stream import ENDLESS, LineTooLong

# With this many octets waiting to be sent, next_event() pauses: the driver sends them and asks again.
_OUTPUT_MARK = 8192
_NAMES = frozenset(name.encode() for name in ALLOWED)


class _Step(Enum):
    """What came of looking at the input, other than an event."""

    WAIT = "more octets are needed"
    AGAIN = "something is done, look again"


_Outcome = Event | _Step


class _Misplaced(Exception):
    """A command that does not exist, or not in this state."""


class ImapServer:
    """One connection.

    `next_event` gives commands one at a time, in order. Each must be answered by `ok`, `no` or `bad` with its tag
    before the next is asked for (the classes in `commands` say which events differ). `untagged` may be called at any
    time. After `bye` nothing more is written.
    """

    def __init__(self, settings: ImapSettings, budget: Budget | None = None) -> None:
        """`budget` is what all connections share, see `ImapSettings.unauthenticated_share`."""
        self.settings = settings
        self.state = SessionState.NOT_AUTHENTICATED
        self.secure = settings.secure
        self.closing = False
        self.enabled: frozenset[str] = frozenset()
        self._input = Collector(settings.unauthenticated_line_limit, settings.discard_limit)
        self._output: list[bytes] = []
        self._output_size = 0
        self._read: Callable[[], _Outcome] = self._read_command
        self._pending: Command | commands.AppendEnd | commands.IdleDone | None = None
        self._append: grammar.AppendLiteral | None = None
        self._idle: str | None = None
        self._idle_broken = False
        self._exchange: tuple[grammar.Authenticate, ServerExchange] | None = None
        self._awaiting_tls = False
        self._budget = budget or Budget()
        self._taken = 0  # of the budget
        self._bad_commands = 0
        self._commands_before_login = 0
        self._failed_logins = 0

    # --- octets ------------------------------------------------------------------------------------------------------

    def receive_data(self, data: bytes) -> None:
        """Octets from the peer."""
        if not self.closing:
            self._input.receive(data)

    def receive_eof(self) -> None:
        """The peer will send no more; what is complete is still answered."""

    def data_to_send(self) -> bytes:
        """Take the octets to be sent."""
        octets = b"".join(self._output)
        self._output.clear()
        self._output_size = 0
        return octets

    def disconnected(self) -> None:
        """The connection is lost: hold nothing any more."""
        self._input.drop()
        self._give_back()

    def held(self) -> int:
        """Octets of input held at the moment."""
        return len(self._input)

    # --- events ------------------------------------------------------------------------------------------------------

    def next_event(self) -> Event | None:
        """The next event; None until more octets come (or, with much output waiting, until that is taken).

        Raises RuntimeError if the command given last has not been answered.
        """
        if self._pending is not None:
            raise RuntimeError(f"{type(self._pending).__name__} has not been answered")
        while not (self.closing or self._awaiting_tls or self._output_size >= _OUTPUT_MARK):
            try:
                outcome = self._read()
            except LineTooLong as error:
                self._line_too_long(error.head)
            except Flood:
                self._flooded()
            else:
                if outcome is _Step.WAIT:
                    if self._input.discarded > ENDLESS:
                        self.bye("Command line is too long", responses.TOOBIG)
                    self._account()
                    return None
                if not isinstance(outcome, _Step):
                    return outcome
        return None

    # --- answers -----------------------------------------------------------------------------------------------------

    def greet(self) -> None:
        """The first line (7.1.1)."""
        self.untagged(responses.ok(f"{self.settings.hostname} ready", responses.capability_code(self.capabilities())))

    def ok(self, tag: str, text: str = "", code: bytes = b"") -> None:
        """Answer OK. SELECT gets READ-WRITE or READ-ONLY, a login its CAPABILITY, unless there is a `code`."""
        event = self._take_pending(tag)
        if isinstance(event, commands.Append):
            self._pending = event
            raise RuntimeError("APPEND is accepted by accept_append()")
        if isinstance(event, commands.IdleDone) and self._idle_broken:
            self._bad(tag, "Expected DONE")
            return
        self.state = after_ok(self.state, event)
        if isinstance(event, commands.Select):
            code = code or (responses.READ_ONLY if event.read_only else responses.READ_WRITE)
        elif isinstance(event, commands.Login):
            self._logged_in()
            code = code or responses.capability_code(self.capabilities())
        elif isinstance(event, commands.Logout):
            self._reply("*", "BYE", "Logging out")
        self._reply(tag, "OK", text or "Completed", code)
        self._awaiting_tls = isinstance(event, commands.StartTls)
        if isinstance(event, commands.Logout):
            self._close()

    def no(self, tag: str, text: str, code: bytes = b"") -> None:
        """Answer NO. Allowed between the chunks of an APPEND too, whose rest is then discarded."""
        event = self._take_pending(tag)
        self.state = after_no(self.state, event)
        self._give_up_append()
        self._reply(tag, "NO", text, code)
        if isinstance(event, commands.Login):
            self._login_failed()

    def bad(self, tag: str, text: str, code: bytes = b"") -> None:
        """Answer BAD: the command makes no sense here (a sequence number out of range). The state stays."""
        self._take_pending(tag)
        self._give_up_append()
        self._bad(tag, text, code)

    def untagged(self, octets: bytes) -> None:
        """Write complete responses, see `responses`."""
        self._write(octets)

    def bye(self, text: str, code: bytes = b"") -> None:
        """Say farewell and close, in any state."""
        self._reply("*", "BYE", text, code)
        self._close()

    def unselected(self) -> None:
        """The selected mailbox is no more: back to the authenticated state. To be said before the answer to the
        command by which this very session has deleted it."""
        if self.state is SessionState.SELECTED:
            self.state = SessionState.AUTHENTICATED

    def accept_append(self) -> None:
        """Have the message of the APPEND just given sent: chunks and an end follow."""
        if self._append is None or self._pending is not self._append.command:
            raise RuntimeError("no APPEND is to be accepted")
        self._pending = None
        if self._append.synchronising:
            self._write(b"+ OK\r\n")
        self._input.stream()
        self._read = self._read_append

    def tls_started(self) -> None:
        """TLS is on: forget all that was received or learned without it."""
        self._input.drop()
        self._awaiting_tls = False
        self._pending = None
        self._read = self._read_command
        self.secure = True

    def internal_error(self) -> None:
        """A handler failed: answer what it owed, or close where nothing was asked."""
        tag = self._pending.tag if self._pending is not None else self._append.command.tag if self._append else ""
        if self._awaiting_tls:
            # The peer waits for a TLS handshake and cannot read a reply.
            self._close()
        elif tag:
            self.state = after_no(self.state, self._pending)
            self._pending = None
            self._give_up_append()
            self._reply(tag, "NO", "Internal error, please try again later", responses.SERVERBUG)
        else:
            self.bye("Internal error, please try again later", responses.UNAVAILABLE)

    def capabilities(self) -> list[str]:
        """What is offered in this state (6.1.1)."""
        offered = ["IMAP4rev1", "LITERAL+", *self.settings.capabilities]
        if self.state is not SessionState.NOT_AUTHENTICATED:
            return offered
        offered.append("SASL-IR")
        if self._starttls_offered():
            offered.append("STARTTLS")
        if self._login_disabled():
            return [*offered, "LOGINDISABLED"]
        return [*offered, *(f"AUTH={mechanism}" for mechanism in self.settings.mechanisms)]

    # --- commands ----------------------------------------------------------------------------------------------------

    def _read_command(self) -> _Outcome:
        # After a login nobody else speaks through the client, and what looks foreign may be a message: clients send the
        # literal of an APPEND without waiting for our word, which was NO.
        stranger = self.state is SessionState.NOT_AUTHENTICATED
        first = self._input.first
        if stranger and first is not None and is_foreign_octet(first):
            return self._end_foreign()
        item = self._input.next()
        if item is None:
            return _Step.WAIT
        if self._too_many_before_login():
            return _Step.AGAIN
        if stranger and is_foreign(item.octets, _NAMES, tagged=True):
            return self._end_foreign()
        tokens = Tokens(item.octets)
        tag = "*"
        try:
            tokens.blanks()
            tag = tokens.tag()
            tokens.space()
            name = grammar.read_name(tokens)
            self._check_allowed(name)
            if isinstance(item, Announced):
                return self._literal_announced(item, tag, name, tokens)
            return self._dispatch(grammar.read_arguments(tag, name, tokens))
        except OverLimit as limit:
            self._reply(tag, "NO", limit.text, responses.LIMIT)
        except BadSyntax as error:
            self._bad(tag, f"{error.text} at octet {error.position + 1}")
        except _Misplaced as misplaced:
            self._bad(tag, str(misplaced))
        except Refused as refusal:
            self._reply(tag, "NO", refusal.text, refusal.code)
            if refusal.code == responses.AUTHENTICATIONFAILED:
                self._login_failed()
        self._skip()
        return _Step.AGAIN

    def _end_foreign(self) -> _Outcome:
        self.bye("This is an IMAP server")
        return _Step.AGAIN

    def _too_many_before_login(self) -> bool:
        if self.state is SessionState.NOT_AUTHENTICATED:
            self._commands_before_login += 1
            if self._commands_before_login > self.settings.unauthenticated_count_limit:
                self.bye("Too many commands before login")
        return self.closing

    def _check_allowed(self, name: str) -> None:
        extension = EXTENSION.get(name)
        if name not in ALLOWED or (extension and extension not in self.settings.capabilities):
            raise _Misplaced("Unknown command")
        if self.state not in ALLOWED[name]:
            raise _Misplaced(f"Not allowed in the {self.state.value} state")
        if name in ("LOGIN", "AUTHENTICATE") and self._login_disabled():
            # Before a synchronising literal is asked for: the password is best never sent.
            raise Refused(responses.PRIVACYREQUIRED, "Please start TLS first")

    def _literal_announced(self, item: Announced, tag: str, name: str, tokens: Tokens) -> _Outcome:
        if name == "APPEND" and (append := grammar.read_append(tag, tokens)):
            return self._append_announced(append)
        limit, in_all = self.settings.literal_limit, self.settings.command_limit
        if self.state is SessionState.NOT_AUTHENTICATED:
            limit, in_all = self.settings.unauthenticated_literal_limit, self.settings.unauthenticated_command_limit
        if item.size > limit or self._input.size + item.size > in_all:
            raise Refused(responses.TOOBIG, "Literal is too large")
        if self._input.literals >= self.settings.literal_count_limit:
            raise Refused(responses.TOOBIG, "Too many literals")
        self._input.collect()
        if item.synchronising:
            self._write(b"+ OK\r\n")
        return _Step.AGAIN

    def _append_announced(self, append: grammar.AppendLiteral) -> _Outcome:
        if append.command.size > self.settings.message_limit:
            raise Refused(responses.TOOBIG, "Message is too large")
        if not append.command.size:
            raise Refused(responses.CANNOT, "Message is empty")
        self._append = append
        self._pending = append.command
        return append.command

    def _dispatch(self, command: Command) -> _Outcome:
        match command:
            case grammar.Capability():
                return self._capability(command)
            case grammar.Id():
                return self._id(command)
            case grammar.Enable():
                return self._enable(command)
            case grammar.Authenticate():
                return self._authenticate(command)
            case commands.StartTls() if not self._starttls_offered():
                self._bad(command.tag, "TLS is on already" if self.secure else "TLS is not offered")
                return _Step.AGAIN
            case commands.Idle():
                return self._start_idle(command)
        self._pending = command
        return command

    # --- commands that the machine answers ---------------------------------------------------------------------------

    def _capability(self, command: grammar.Capability) -> _Outcome:
        self._write(responses.capability(self.capabilities()))
        self._reply(command.tag, "OK", "Completed")
        return _Step.AGAIN

    def _id(self, command: grammar.Id) -> _Outcome:
        self._write(responses.identity(self.settings.identity))
        self._reply(command.tag, "OK", "Completed")
        return commands.Identified(command.fields)

    def _enable(self, command: grammar.Enable) -> _Outcome:
        wanted = dict.fromkeys(command.capabilities)
        fresh = [name for name in wanted if name in self.settings.enableable - self.enabled]
        self.enabled |= frozenset(fresh)
        self._write(responses.enabled(fresh))
        self._reply(command.tag, "OK", "Completed")
        return _Step.AGAIN

    def _start_idle(self, command: commands.Idle) -> _Outcome:
        self._write(b"+ idling\r\n")
        self._idle = command.tag
        self._read = self._read_idle
        return command

    def _authenticate(self, command: grammar.Authenticate) -> _Outcome:
        if command.mechanism not in self.settings.mechanisms:
            self._reply(command.tag, "NO", "Mechanism is not offered", responses.CANNOT)
            return _Step.AGAIN
        exchange = ServerExchange(command.mechanism)
        self._exchange = (command, exchange)
        self._read = self._read_sasl
        # The line of a response may be longer than any other before login (RFC 4954 4, the same in all protocols).
        self._input.limit_lines(max(LINE_LIMIT, self.settings.unauthenticated_line_limit))
        return self._sasl_step(command, lambda: exchange.start(command.initial))

    # --- the other things that lines may be --------------------------------------------------------------------------

    def _read_append(self) -> _Outcome:
        assert self._append is not None
        tag = self._append.command.tag
        chunk = self._input.take()
        if b"\0" in chunk:
            # RFC 3501 9: a literal has no NUL (that would take RFC 3516's literal8).
            self._give_up_append()
            self._reply(tag, "NO", "A message must not have NUL octets", responses.CANNOT)
            return commands.AppendAborted(tag)
        if chunk:
            return commands.BodyChunk(chunk)
        item = None if self._input.streaming else self._input.next()
        if item is None:
            return _Step.WAIT
        if isinstance(item, Complete) and not item.octets.strip(BLANKS):
            self._append = None
            self._read = self._read_command
            self._pending = commands.AppendEnd(tag)
            return self._pending
        self._give_up_append()
        self._bad(tag, "Unexpected octets after the message")
        return commands.AppendAborted(tag)

    def _give_up_append(self) -> None:
        if self._append is not None:
            self._append = None
            self._read = self._read_command
            self._skip()

    def _skip(self) -> None:
        try:
            self._input.skip()
        except Flood:
            self._flooded()

    def _flooded(self) -> None:
        self.bye("Too much was sent in vain", responses.TOOBIG)

    def _read_idle(self) -> _Outcome:
        item = self._input.next()
        if item is None or self._idle is None:
            return _Step.WAIT
        self._skip()
        self._idle_broken = item.octets.strip(BLANKS).upper() != b"DONE"
        self._pending = commands.IdleDone(self._idle)
        self._idle = None
        self._read = self._read_command
        return self._pending

    def _read_sasl(self) -> _Outcome:
        item = self._input.next()
        if item is None or self._exchange is None:
            return _Step.WAIT
        self._skip()
        command, exchange = self._exchange
        return self._sasl_step(command, lambda: exchange.receive(item.octets.rstrip(BLANKS)))

    def _sasl_step(self, command: grammar.Authenticate, take: Callable[[], bytes | PlainCredentials]) -> _Outcome:
        try:
            step = take()
        except SaslError as error:
            self._end_sasl()
            self._bad(command.tag, f"AUTHENTICATE: {error}")
            return _Step.AGAIN
        if isinstance(step, bytes):
            self._write(b"+ " + step + b"\r\n")
            return _Step.AGAIN
        self._end_sasl()
        self._pending = commands.Login(command.tag, step, f"SASL {command.mechanism}")
        return self._pending

    def _end_sasl(self) -> None:
        self._exchange = None
        self._read = self._read_command
        self._input.limit_lines(self.settings.unauthenticated_line_limit)

    # --- bookkeeping -------------------------------------------------------------------------------------------------

    def _take_pending(self, tag: str) -> Command | commands.AppendEnd | commands.IdleDone | None:
        """The event that is answered; None for an APPEND between its chunks."""
        event = self._pending
        if event is None and self._append is not None and self._append.command.tag == tag:
            return None
        if event is None or event.tag != tag:
            raise RuntimeError(f"nothing with the tag {tag} waits for an answer")
        self._pending = None
        return event

    def _logged_in(self) -> None:
        self._bad_commands = 0
        self._give_back()
        self._input.limit_lines(self.settings.line_limit)

    def _account(self) -> None:
        """Take from the budget what is held beyond this connection's own share, while nobody has logged in."""
        if self.state is not SessionState.NOT_AUTHENTICATED:
            return
        beyond = max(0, self.held() - self.settings.unauthenticated_share)
        if self._budget.take(beyond - self._taken):
            self._taken = beyond
        else:
            self.bye("Too busy for commands of this size before login", responses.UNAVAILABLE)

    def _give_back(self) -> None:
        self._budget.take(-self._taken)
        self._taken = 0

    def _login_failed(self) -> None:
        self._failed_logins += 1
        if self._failed_logins >= self.settings.failed_login_limit:
            self.bye("Too many failed logins")

    def _login_disabled(self) -> bool:
        return not (self.secure or self.settings.plaintext_login)

    def _starttls_offered(self) -> bool:
        return self.settings.starttls and not self.secure

    def _line_too_long(self, head: bytes) -> None:
        """Answer and close: the end of the line is gone. Had it announced a literal, that would be run as commands."""
        self._reply(self._tag_at_work(head), "BAD", "Command line is too long", responses.TOOBIG)
        self.bye("Command line is too long")

    def _tag_at_work(self, line: bytes) -> str:
        if self._exchange is not None:
            return self._exchange[0].tag
        if self._append is not None:
            return self._append.command.tag
        try:
            return self._idle or Tokens(line).tag()
        except BadSyntax:
            return "*"

    def _bad(self, tag: str, text: str, code: bytes = b"") -> None:
        self._reply(tag, "BAD", text, code)
        self._bad_commands += 1
        before_login = self.state is SessionState.NOT_AUTHENTICATED
        limits = self.settings
        limit = limits.unauthenticated_bad_command_limit if before_login else limits.bad_command_limit
        if self._bad_commands >= limit:
            self.bye("Too many bad commands")

    def _reply(self, tag: str, condition: str, text: str, code: bytes = b"") -> None:
        if condition == "OK" and self.state is not SessionState.NOT_AUTHENTICATED:
            # A session may last for weeks: slips that are far apart are not a client out of control.
            self._bad_commands = max(0, self._bad_commands - 1)
        self._write(responses.status_response(tag, condition, text, code))

    def _write(self, octets: bytes) -> None:
        if not self.closing:
            self._output.append(octets)
            self._output_size += len(octets)

    def _close(self) -> None:
        self.closing = True
        self.state = SessionState.LOGOUT
        self._pending = None
        self._input.drop()
        self._give_back()
