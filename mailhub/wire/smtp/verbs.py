"""The commands of SMTP and LMTP as a table: a row each in `VERBS`, with what is to be done (RFC 5321 4.1, RFC 2033 4).

An action is given the dialogue and the argument. It answers by itself, or gives an event for the session to decide,
or raises CommandRefused.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import Enum
from functools import lru_cache

import attrs

from mailhub.message.address import parse_domain, to_ascii
from mailhub.wire.sasl import LINE_LIMIT
from mailhub.wire.smtp.chunks import pass_over_chunk, receive_chunk
from mailhub.wire.smtp.dialogue import RECIPIENT_OK, Dialogue, Progress
from mailhub.wire.smtp.events import DataStart, Event, Hello, MailFrom, Quit, RcptTo, Reset, StartTls, Turn
from mailhub.wire.smtp.extensions import Offering
from mailhub.wire.smtp.forwarding import note_forwarded, speak_for
from mailhub.wire.smtp.grammar import CommandRefused, parse_hello, parse_mail, parse_rcpt, refused
from mailhub.wire.smtp.login import authenticate
from mailhub.wire.smtp.reception import TOO_LARGE, TOO_SOON, Data
from mailhub.wire.smtp.replies import Reply, reply


class Argument(Enum):
    """The rule for what follows the verb."""

    NONE = "none"
    REQUIRED = "required"
    OPTIONAL = "optional"


class Since(Enum):
    """From when on a command may be given, where the settings demand TLS or a login."""

    START = "the greeting"
    TLS = "TLS is on"
    LOGIN = "a login"


Action = Callable[[Dialogue, str], Event | None]


@attrs.frozen
class Verb:
    """One command. `limit` is the longest line in octets, CRLF included, without what extensions add.

    `states` in which it may be given; `order` says so in others. `idle`: counts as a command that brings no mail
    nearer. `extension`: the keyword that must be offered. `told` in the answer to HELP. `last`: its answer is
    to be awaited before anything follows (RFC 2920 3.1), and clients do. `follow_up`: what is to be done
    where it is refused by us; whether it gives the answer itself.
    """

    action: Action
    argument: Argument
    states: tuple[Progress, ...]
    since: Since
    order: str = ""
    idle: bool = False
    smtp: bool = True
    lmtp: bool = True
    limit: int = 512
    extension: str = ""
    told: bool = True
    last: bool = False
    follow_up: Callable[[Dialogue, str, Reply], bool] = lambda _dialogue, _argument, _refusal: False


def _ehlo(_dialogue: Dialogue, argument: str) -> Event:
    return Hello(parse_hello(argument), extended=True)


def _helo(_dialogue: Dialogue, argument: str) -> Event:
    return Hello(parse_hello(argument), extended=False)


def _starttls(_dialogue: Dialogue, _argument: str) -> Event:
    return StartTls()


def _mail(dialogue: Dialogue, argument: str) -> Event | None:
    # RFC 9422 4.1: those that are refused count as well.
    dialogue.mails += 1
    if dialogue.mails > dialogue.settings.mail_limit:
        dialogue.close_with(reply(421, "4.5.3", "Too many messages on one connection"))
        return None
    mail = parse_mail(argument, dialogue.offer.mail, dialogue.login_domain)
    if mail.size > dialogue.settings.message_size_limit:
        raise CommandRefused(TOO_LARGE)
    if mail.by is not None and mail.by.mode == "R" and mail.by.seconds < dialogue.settings.deliver_by_minimum:
        raise CommandRefused(TOO_SOON)
    if mail.verp and mail.reverse_path is None:
        raise refused(503, "5.5.4", "XVERP needs a sender")  # as Postfix says it
    # RFC 4865 4.2: not for longer than the answer to EHLO has said.
    if mail.hold is not None and mail.hold.kind == "UNTIL" and mail.hold.seconds > dialogue.settings.hold_until:
        raise refused(501, "5.5.4", "HOLDUNTIL is later than mail is held here")
    return MailFrom(mail)


def _rcpt(dialogue: Dialogue, argument: str) -> Event | None:
    settings, transaction = dialogue.settings, dialogue.transaction
    assert transaction is not None, "the table says so"
    recipient = parse_rcpt(
        argument,
        dialogue.offer.rcpt,
        smtputf8=transaction.smtputf8,
        postmaster_domain=settings.postmaster_domain,
    )
    if transaction.attempts >= settings.recipient_limit:
        dialogue.excess_recipients += 1
        dialogue.send(reply(452, "4.5.3", "Too many recipients"))
        if dialogue.excess_recipients > settings.recipient_limit:
            dialogue.close_with(reply(421, "4.7.0", "Too many recipients"))
        return None
    transaction.attempts += 1
    if not transaction.take_at_once(recipient):
        return RcptTo(recipient)
    transaction.recipients += 1
    dialogue.out.append(RECIPIENT_OK)
    return None


def _data(dialogue: Dialogue, _argument: str) -> Event:
    transaction = dialogue.transaction
    assert transaction is not None, "the table says so"
    if not transaction.recipients:
        # RFC 2033 4.2 wants 503 here; RFC 5321 4.1.1.4 gives the choice.
        attempted = transaction.attempts and not dialogue.settings.lmtp
        raise refused(554 if attempted else 503, "5.5.1", "No valid recipients")
    if transaction.binary:
        # RFC 3030 3: no line that ends such a message could be told from its octets.
        raise refused(503, "5.5.1", "BODY=BINARYMIME is sent by BDAT")
    dialogue.reception = Data(dialogue.settings.bare_lines, dialogue.settings.message_size_limit)
    return DataStart()


def _rset(dialogue: Dialogue, _argument: str) -> Event:
    dialogue.transaction = None
    dialogue.send(reply(250, "2.0.0", "Reset"))
    return Reset()


def _noop(dialogue: Dialogue, _argument: str) -> None:
    dialogue.send(reply(250, "2.0.0", "OK"))


def _help(dialogue: Dialogue, _argument: str) -> None:
    verbs = spoken(dialogue.settings.lmtp).items()
    offered = {"", *dialogue.offer.lines}
    names = [name for name, verb in verbs if verb.told and verb.extension in offered]
    dialogue.send(reply(214, "2.0.0", "Commands:", " ".join(names)))


def _etrn(dialogue: Dialogue, argument: str) -> Event:
    """RFC 1985 5: a domain; `@` and one, for all below it as well; `#` and the name of a queue."""
    option = argument[:1] if argument[:1] in ("@", "#") else ""
    name = argument[len(option) :]
    if option != "#":
        try:
            name = parse_domain(name)
            name = name if name.isascii() else to_ascii(name)
        except ValueError:
            raise refused(501, "5.5.4", "Syntax: ETRN domain, ETRN @domain or ETRN #queue") from None
    # Who may ask for a domain may ask for what is below it.
    if (f"#{name}" if option == "#" else name) not in dialogue.settings.turns:
        if option != "#" and "." not in name:
            raise refused(501, "5.5.4", "Name the domain in full")
        raise refused(459, "4.7.1", f"Node {option}{name} not allowed: no mail waits here for it to ask for")
    return Turn(f"{option}{name}")


def _vrfy(dialogue: Dialogue, _argument: str) -> None:
    # RFC 5321 3.5.3: who will not tell says 252, never something that could be taken for an answer.
    dialogue.send(reply(252, "2.1.5", "Cannot verify the user, but will take mail for it and try"))


def _expn(dialogue: Dialogue, _argument: str) -> None:
    dialogue.send(reply(502, "5.5.1", "Lists are not expanded here"))


def _quit(dialogue: Dialogue, _argument: str) -> Event:
    dialogue.close_with(reply(221, "2.0.0", "Bye"))
    return Quit()


# RFC 5321 4.1.4: the states in which a command may be given.
_ANY = tuple(Progress)
_GREETED = _ANY[1:]
_IDLE = (Progress.READY,)
_CLOSED = (Progress.CONNECTED, Progress.READY)
_OPEN = (Progress.SENDER, Progress.RECIPIENTS)
_CHUNKS = (*_OPEN, Progress.CHUNKS)

_PATH = 2048  # octets; RFC 5321 4.5.3.1.4 wants 512, which is little for UTF-8 and quoted local parts
_NO, _YES, _MAY = Argument.NONE, Argument.REQUIRED, Argument.OPTIONAL
_START, _TLS, _LOGIN = Since.START, Since.TLS, Since.LOGIN

# fmt: off
VERBS: Mapping[str, Verb] = {
    # verb             action        argument states   since
    "EHLO": Verb(      _ehlo,         _YES, _ANY,     _START, idle=True, lmtp=False, last=True),
    "HELO": Verb(      _helo,         _YES, _ANY,     _TLS,   idle=True, lmtp=False, last=True),
    "LHLO": Verb(      _ehlo,         _YES, _ANY,     _START, idle=True, smtp=False, last=True),
    "STARTTLS": Verb(  _starttls,     _NO,  _GREETED, _START, idle=True, extension="STARTTLS"),
    "AUTH": Verb(      authenticate,  _YES, _IDLE,    _TLS,   "Not during a mail transaction", idle=True,
                                                              limit=LINE_LIMIT, extension="AUTH"),
    "MAIL": Verb(      _mail,         _YES, _IDLE,    _LOGIN, "A sender is given already", idle=True, limit=_PATH),
    "RCPT": Verb(      _rcpt,         _YES, _OPEN,    _LOGIN, "Give a sender first", limit=_PATH),
    "DATA": Verb(      _data,         _NO,  _OPEN,    _LOGIN, "Give a sender first", last=True),
    "BDAT": Verb(      receive_chunk, _YES, _CHUNKS,  _LOGIN, "Give a sender first", extension="CHUNKING",
                                                              follow_up=pass_over_chunk),
    "RSET": Verb(      _rset,         _NO,  _ANY,     _TLS,   idle=True),
    "NOOP": Verb(      _noop,         _MAY, _ANY,     _START, idle=True),
    "XCLIENT": Verb(   speak_for,     _YES, _CLOSED,  _START, "Not during a mail transaction", idle=True, lmtp=False,
                                                              limit=_PATH, extension="XCLIENT"),
    "XFORWARD": Verb(  note_forwarded, _YES, _CLOSED, _START, "Not during a mail transaction", lmtp=False,
                                                              limit=_PATH, extension="XFORWARD"),
    "ETRN": Verb(      _etrn,         _YES, _IDLE,    _LOGIN, "Not during a mail transaction", idle=True, lmtp=False,
                                                              extension="ETRN"),
    "QUIT": Verb(      _quit,         _NO,  _ANY,     _START),
    "HELP": Verb(      _help,         _MAY, _ANY,     _TLS,   idle=True),
    "VRFY": Verb(      _vrfy,         _YES, _ANY,     _LOGIN, idle=True, limit=_PATH),
    "EXPN": Verb(      _expn,         _YES, _ANY,     _LOGIN, idle=True, limit=_PATH, told=False),
}
# fmt: on

NAMES = frozenset(name.encode() for name in VERBS)

_SMTP = {name: verb for name, verb in VERBS.items() if verb.smtp}
_LMTP = {name: verb for name, verb in VERBS.items() if verb.lmtp}


def spoken(lmtp: bool) -> Mapping[str, Verb]:
    """The verbs of SMTP, or of LMTP."""
    return _LMTP if lmtp else _SMTP


@lru_cache(maxsize=128)
def longest_line(offer: Offering, authenticated: bool) -> int:
    """The longest line that can be a command now, in octets. A login is made once."""
    names = [name for name in VERBS if name != "AUTH" or ("AUTH" in offer.lines and not authenticated)]
    return max(VERBS[name].limit + offer.octets.get(name, 0) for name in names)
