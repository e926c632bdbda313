"""The server side of a POP3 session (RFC 1939) as a state machine: octets in, events and replies out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import ClassVar, Literal

import attrs

from mailhub.wire import sasl
from mailhub.wire.foreign import is_foreign, is_foreign_octet
from mailhub.wire.pop3.commands import BLANKS, LINE_OCTETS, NAMES, BadCommand, When, number, parse
from mailhub.wire.pop3.events import Event, Login, Retrieve, StartTls, Top, Update
from mailhub.wire.pop3.maildrop import Maildrop, NoSuchMessage, NotRemovable
from mailhub.wire.stream import ENDLESS, DotStuffer, LineBuffer, LineTooLong

# RFC 2449 8, RFC 3206 4. They say why to the program; the text after them to the person.
Code = Literal["", "AUTH", "SYS/TEMP", "SYS/PERM", "IN-USE"]

# With this much to say (octets) the machine waits to be asked again, so that the driver can wait for the peer.
_ENOUGH = 16384
_LISTED = 500


@attrs.frozen
class Pop3Settings:
    """`host` greets; `secure`: TLS is on; `can_start_tls`: STLS is offered until it is.

    `plaintext_login` lets passwords pass without TLS. `bad_commands` and `logins` are how many are refused before the
    connection is closed, `commands_before_login` how many are taken (a NOOP a minute must not keep it for ever).
    """

    host: str = "localhost"
    implementation: str = "mailhub"
    secure: bool = False
    can_start_tls: bool = False
    plaintext_login: bool = False
    mechanisms: tuple[str, ...] = ("PLAIN", "LOGIN")
    bad_commands: int = 20
    commands_before_login: int = 100
    logins: int = 5

    @property
    def can_login(self) -> bool:
        """Whether a password may be sent now."""
        return self.secure or self.plaintext_login


class Pop3Server:
    """Answers by itself everything that needs no mailbox: CAPA, STAT, LIST, UIDL, DELE, RSET, NOOP and all errors.

    The other commands become events; each must be answered before the next event is asked for.
    """

    def __init__(self, settings: Pop3Settings) -> None:
        self.settings = settings
        self.closing = False
        self._lines = LineBuffer(self._line_limit())
        self._out: list[bytes] = []
        self._out_size = 0
        self._maildrop: Maildrop | None = None
        self._user = b""
        self._exchange: sasl.ServerExchange | None = None
        self._pending: Event | None = None
        self._stuffer: DotStuffer | None = None
        self._listing: Iterator[bytes] | None = None
        self._tls_due = False
        self._bad_commands = 0
        self._commands_before_login = 0
        self._logins = 0

    # --- Octets ----------------------------------------------------------------------------------------------------

    def receive_data(self, data: bytes) -> None:
        """Octets from the peer, split anyhow."""
        self._lines.feed(data)

    def receive_eof(self) -> None:
        """The peer sends no more. Without QUIT nothing is deleted (RFC 1939 6)."""

    def data_to_send(self) -> bytes:
        """Take the replies collected so far."""
        octets = b"".join(self._out)
        self._out.clear()
        self._out_size = 0
        return octets

    def next_event(self) -> Event | None:
        """The next thing to answer, or None: send what data_to_send() gives, then ask again or wait for octets."""
        if self._pending is not None:
            raise RuntimeError(f"{type(self._pending).__name__} has not been answered")
        while not self.closing and not self._tls_due and self._out_size < _ENOUGH:
            if self._listing is not None:
                self._list_on(self._listing)
                continue
            try:
                line = None if self._foreign_octet() else self._lines.next_line()
                if line is None:
                    self._wait()
                    return None
                if self._too_many_before_login():
                    return None
                event = self._line(line)
            except (BadCommand, LineTooLong) as error:
                self._bad(error)
                continue
            if event is not None:
                self._pending = event
                return event
        return None

    def tls_started(self) -> None:
        """TLS is on: what was said in clear text counts no more (RFC 2595 4)."""
        self.settings = attrs.evolve(self.settings, secure=True)
        self._lines.drop()
        self._lines.limit = self._line_limit()
        self._user = b""
        self._exchange = None
        self._tls_due = False

    def _line_limit(self) -> int:
        # The verb is not known before the line is: commands other than AUTH are measured again when they are parsed.
        may_authenticate = self.settings.can_login and self.settings.mechanisms
        return sasl.LINE_LIMIT if may_authenticate else LINE_OCTETS

    # --- Answers ---------------------------------------------------------------------------------------------------

    def greet(self) -> None:
        """The first line. It has no timestamp in angle brackets: there is no APOP."""
        self._ok(f"{self.settings.host} POP3 ready")

    def login_accepted(self, maildrop: Maildrop) -> None:
        """The session enters the TRANSACTION state with this maildrop."""
        self._answered(Login)
        self._maildrop = maildrop
        self._lines.limit = LINE_OCTETS
        self._ok(f"{maildrop.count} messages ({maildrop.octets} octets)")

    def login_refused(self, text: str, code: Code = "AUTH") -> None:
        """RFC 3206: AUTH for wrong credentials, SYS/TEMP or SYS/PERM for our own trouble, IN-USE (RFC 2449 8.1.1)."""
        self._answered(Login)
        self._error(text, code)
        self._logins += 1
        if self._logins >= self.settings.logins:
            self.closing = True

    def starttls_accepted(self) -> None:
        """Nothing is read any more until tls_started()."""
        self._answered(StartTls)
        self._ok("Begin TLS negotiation")
        self._tls_due = True

    def content_started(self, text: str) -> None:
        """The positive answer to Retrieve or Top; content() follows."""
        if not isinstance(self._pending, Retrieve | Top) or self._stuffer is not None:
            raise RuntimeError("no message was asked for")
        self._ok(text)
        # A client may take LF.LF for the end, and what follows for replies; APPEND can bring such a message.
        self._stuffer = DotStuffer(normalise=True)

    def content(self, octets: bytes) -> None:
        """A piece of the message, cut anywhere."""
        if self._stuffer is None:
            raise RuntimeError("content() without content_started()")
        self._say(self._stuffer.feed(octets))

    def content_ended(self) -> None:
        """The message is complete."""
        if self._stuffer is None:
            raise RuntimeError("content_ended() without content_started()")
        self._say(self._stuffer.finish())
        self._stuffer = None
        self._pending = None

    @property
    def in_content(self) -> bool:
        """A message has been begun and not ended: no reply can be given, an error can only cut the connection."""
        return self._stuffer is not None

    def refused(self, text: str, code: Code = "") -> None:
        """The message asked for cannot be had."""
        if self._stuffer is not None:
            raise RuntimeError("the message has been begun")
        self._answered(Retrieve, Top)
        self._error(text, code)

    def updated(self) -> None:
        """The marked messages are removed, durably."""
        self._answered(Update)
        self._quit()

    def update_failed(self, text: str, code: Code = "SYS/TEMP") -> None:
        """Marked messages were not removed (RFC 1939 6: the server says so and closes all the same)."""
        self._answered(Update)
        self._error(text, code)
        self.closing = True

    def internal_error(self) -> None:
        """Whatever was asked failed by our own fault."""
        if self._stuffer is not None:
            self.closing = True
            return
        # After the "+OK" to STLS the client expects TLS, and after QUIT the end.
        self.closing = self.closing or self._tls_due or isinstance(self._pending, Update)
        self._pending = None
        self._error("Internal error, please try again later", "SYS/TEMP")

    def leave(self, text: str = "") -> None:
        """Close. With a text, the client reads it as the answer to its next command."""
        if text and self._stuffer is None and self._listing is None:
            self._error(text, "SYS/TEMP")
        self.closing = True

    def _answered(self, *kinds: type[Event]) -> None:
        if not isinstance(self._pending, kinds):
            raise RuntimeError(f"not the answer to {type(self._pending).__name__}")
        self._pending = None

    # --- Commands --------------------------------------------------------------------------------------------------

    @property
    def _state(self) -> When:
        return When.AUTHORIZATION if self._maildrop is None else When.TRANSACTION

    def _line(self, line: bytes) -> Event | None:
        if self._exchange is not None:
            return self._authenticate(self._exchange, lambda exchange: exchange.receive(line.rstrip(BLANKS)))
        if is_foreign(line, NAMES):
            self._end_foreign()
            return None
        command = parse(line, self._state)
        try:
            return self._COMMANDS[command.verb](self, *command.arguments)
        except NoSuchMessage as error:
            # Not a mistake that counts: a client may well ask for a message that another session has taken.
            self._error(str(error), "SYS/PERM" if isinstance(error, NotRemovable) else "")
            return None

    def _foreign_octet(self) -> bool:
        first = self._lines.first
        foreign = first is not None and self._exchange is None and is_foreign_octet(first)
        if foreign:
            self._end_foreign()
        return foreign

    def _end_foreign(self) -> None:
        self._error("This is a POP3 server")
        self.closing = True

    def _capa(self) -> None:
        self._ok("Capabilities")
        self._say("".join(f"{capability}\r\n" for capability in self._capabilities()).encode() + b".\r\n")

    def _capabilities(self) -> Iterable[str]:
        """Exactly what is true now. RFC 2449 has USER and SASL announced in both states."""
        settings = self.settings
        yield from ("TOP", "UIDL", "PIPELINING", "RESP-CODES", "AUTH-RESP-CODE", "EXPIRE NEVER")
        if settings.can_start_tls and not settings.secure and self._maildrop is None:
            yield "STLS"
        if settings.can_login:
            yield "USER"
            if settings.mechanisms:
                yield "SASL " + " ".join(settings.mechanisms)
        yield f"IMPLEMENTATION {settings.implementation}"

    def _stls(self) -> Event:
        if self.settings.secure:
            raise BadCommand("TLS is on already")
        if not self.settings.can_start_tls:
            raise BadCommand("TLS is not available")
        return StartTls()

    def _check_privacy(self) -> None:
        if not self.settings.can_login:
            raise BadCommand("Start TLS first: passwords are not accepted in clear text")

    def _user_name(self, name: bytes) -> None:
        self._check_privacy()
        self._user = name
        self._ok("Send PASS")

    def _pass(self, password: bytes) -> Event:
        self._check_privacy()
        user, self._user = self._user, b""
        if not user:
            raise BadCommand("Send USER first")
        try:
            return Login(sasl.plain_credentials(b"", user, password))
        except sasl.SaslError as error:
            raise BadCommand(_sentence(error)) from None

    def _auth(self, mechanism: bytes, initial: bytes | None = None) -> Event | None:
        self._check_privacy()
        self._user = b""
        name = mechanism.upper().decode("ascii", "replace")
        if name not in self.settings.mechanisms:
            raise BadCommand("Unknown authentication mechanism")
        return self._authenticate(sasl.ServerExchange(name), lambda exchange: exchange.start(initial))

    def _authenticate(
        self, exchange: sasl.ServerExchange, advance: Callable[[sasl.ServerExchange], sasl.Step]
    ) -> Event | None:
        self._exchange = None
        try:
            step = advance(exchange)
        except sasl.SaslError as error:
            raise BadCommand(_sentence(error)) from None
        if isinstance(step, bytes):
            self._exchange = exchange
            self._say(b"+ " + step + b"\r\n")
            return None
        return Login(step)

    def _stat(self) -> None:
        self._ok(f"{self._drop.count} {self._drop.octets}")

    def _list(self, which: bytes | None = None) -> None:
        drop = self._drop
        if which is not None:
            wanted = number(which)
            self._ok(f"{wanted} {drop.size(wanted)}")
            return
        self._ok(f"{drop.count} messages ({drop.octets} octets)")
        self._listing = (b"%d %d\r\n" % (n, drop.size(n)) for n in drop.numbers())

    def _uidl(self, which: bytes | None = None) -> None:
        drop = self._drop
        if which is not None:
            wanted = number(which)
            self._ok(f"{wanted} {drop.unique_id(wanted)}")
            return
        self._ok("Unique-ids follow")
        self._listing = (b"%d %s\r\n" % (n, drop.unique_id(n).encode()) for n in drop.numbers())

    def _list_on(self, listing: Iterator[bytes]) -> None:
        """Some more lines of a listing, so that a long one is not held in memory as a whole."""
        lines = list(islice(listing, _LISTED))
        if len(lines) < _LISTED:
            self._listing = None
            lines.append(b".\r\n")
        self._say(b"".join(lines))

    def _retr(self, which: bytes) -> Event:
        wanted = number(which)
        return Retrieve(self._drop.uid(wanted), self._drop.size(wanted))

    def _top(self, which: bytes, lines: bytes) -> Event:
        return Top(self._drop.uid(number(which)), number(lines))

    def _dele(self, which: bytes) -> None:
        wanted = number(which)
        self._drop.delete(wanted)
        self._ok(f"Message {wanted} marked for deletion")

    def _noop(self) -> None:
        self._ok("")

    def _rset(self) -> None:
        self._drop.reset()
        self._ok(f"{self._drop.count} messages ({self._drop.octets} octets)")

    def _quit_command(self) -> Event | None:
        marked = self._maildrop.marked() if self._maildrop is not None else ()
        if marked:
            return Update(marked)
        self._quit()
        return None

    @property
    def _drop(self) -> Maildrop:
        assert self._maildrop is not None, "the command's rule asks for the TRANSACTION state"
        return self._maildrop

    _COMMANDS: ClassVar[dict[bytes, Callable[..., Event | None]]] = {
        b"CAPA": _capa,
        b"STLS": _stls,
        b"USER": _user_name,
        b"PASS": _pass,
        b"AUTH": _auth,
        b"STAT": _stat,
        b"LIST": _list,
        b"UIDL": _uidl,
        b"RETR": _retr,
        b"TOP": _top,
        b"DELE": _dele,
        b"NOOP": _noop,
        b"RSET": _rset,
        b"QUIT": _quit_command,
    }

    # --- Replies ---------------------------------------------------------------------------------------------------

    def _bad(self, error: BadCommand | LineTooLong) -> None:
        self._exchange = None
        self._bad_commands += 1
        if self._bad_commands >= self.settings.bad_commands:
            self.closing = True
            self._error("Too many errors")
        else:
            self._error(_sentence(error) if isinstance(error, LineTooLong) else str(error))

    def _too_many_before_login(self) -> bool:
        if self._maildrop is None:
            self._commands_before_login += 1
            if self._commands_before_login > self.settings.commands_before_login:
                self._error("Too many commands before login")
                self.closing = True
        return self.closing

    def _wait(self) -> None:
        if self._lines.discarded > ENDLESS:
            self._error("Line too long")
            self.closing = True

    def _quit(self) -> None:
        self._ok("Bye")
        self.closing = True

    def _ok(self, text: str) -> None:
        self._reply("+OK", text)

    def _error(self, text: str, code: Code = "") -> None:
        self._reply("-ERR", f"[{code}] {text}" if code else text)

    def _reply(self, status: str, text: str) -> None:
        # RFC 2449 4: at most 512 octets with CRLF. Texts may come from a store or a plugin: one printable line.
        line = " ".join(f"{status} {text}".split())[:510]
        if not (line.isascii() and line.isprintable()):
            line = "".join(char if char.isascii() and char.isprintable() else "?" for char in line)
        self._say(line.encode("ascii") + b"\r\n")

    def _say(self, octets: bytes) -> None:
        if octets:
            self._out.append(octets)
            self._out_size += len(octets)


def _sentence(error: Exception) -> str:
    text = str(error)
    return text[:1].upper() + text[1:]
