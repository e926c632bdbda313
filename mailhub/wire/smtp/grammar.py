"""The grammar of SMTP commands (RFC 5321 4.1.1-4.1.3, RFC 6531 3.3); that of parameters is in message/esmtp.py."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from mailhub.message.address import ROLES, Address, parse_domain
from mailhub.message.envelope import Mail, Recipient
from mailhub.message.esmtp import Parameter, ParameterError, UnknownParameter, parse_parameters
from mailhub.wire.smtp.replies import Reply, reply


class CommandRefused(Exception):
    """A command the machine answers by itself."""

    def __init__(self, answer: Reply) -> None:
        self.answer = answer
        super().__init__(answer.text)


def refused(code: int, status: str, text: str) -> CommandRefused:
    """Make the error."""
    return CommandRefused(reply(code, status, text))


_GREETINGS = frozenset({b"EHLO ", b"HELO ", b"LHLO "})
_CONTROL = re.compile(rb"[\x00-\x1f\x7f]")


def split_command(line: bytes) -> tuple[str, str]:
    """A command line -> verb in upper case, argument. Raises CommandRefused for control characters and broken UTF-8.

    In a greeting broken UTF-8 is let through: it is a computer's name in the charset of its owner's language.
    """
    # Nearly every line is printable ASCII, of which there is nothing to say.
    if not (line.isascii() and (text := line.decode("ascii")).isprintable()):
        text = _decode(line)
    verb, _, argument = text.partition(" ")
    # Letters beyond ASCII have capitals within it: a long s is no S.
    return verb.upper() if verb.isascii() else verb, argument.strip(" ")


def _decode(line: bytes) -> str:
    if _CONTROL.search(line):
        raise refused(500, "5.5.2", "Control character in command")
    greeting = line[:5].upper() in _GREETINGS
    try:
        return line.decode(errors="replace" if greeting else "strict")
    except UnicodeDecodeError:
        raise refused(500, "5.5.2", "Command is not valid UTF-8") from None


# Clients send all kinds of host names, people's computers those that people gave them; anything is let through for
# policies to judge (RFC 5321 4.1.4: a message must not be refused for it).
_HELLO_LIMIT = 255  # characters


def parse_hello(argument: str) -> str:
    """The argument of HELO, EHLO or LHLO (RFC 5321 4.1.1.1), without what cannot be shown."""
    shown = argument.isprintable()
    name = argument if shown else "".join([each if each.isprintable() else "\ufffd" for each in argument])
    if not 0 < len(name) <= _HELLO_LIMIT:
        raise refused(501, "5.5.4", "Say your domain or address literal")
    return name


# RFC 5321 4.1.2: Path = "<" [ A-d-l ":" ] Mailbox ">"; a quoted local part may hold spaces and angle brackets.
# Blanks inside the brackets, and a mailbox without them, are what printers and disk controllers send.
_MAILBOX = r'(?:"(?:[^"\\]|\\.)*"|[^"<> ]++)'
_PATH = re.compile(rf"< *({_MAILBOX}*) *>(?: +(.*))?")
_BARE_PATH = re.compile(rf"({_MAILBOX}+)(?: +(.*))?")
# A-d-l = At-domain *( "," At-domain ); At-domain = "@" Domain
_AT_DOMAIN = r"@(\[[^\]]*+\]|[^]@,:\[\"]++)"
_SOURCE_ROUTE = re.compile(rf"{_AT_DOMAIN}(?:,{_AT_DOMAIN})*:")
_ROUTE_DOMAIN = re.compile(_AT_DOMAIN)


# Nearly every path is of ASCII, without quotes, blanks or a source route.
_USUAL_PATH = re.compile(r"<([A-Za-z0-9!#$%&'*+/=?^_`{|}~.-]{1,64})@([A-Za-z0-9.-]{1,255})>(?: +([^ ].*))?")


def usual_path(argument: str, keyword: str) -> tuple[Address, str] | None:
    """At one look what `split_path` and all that follows it give: address and parameters. None where it takes them to
    tell what is there, or what is wrong with it."""
    match = _USUAL_PATH.fullmatch(argument, len(keyword))
    if match is None or argument[: len(keyword)].upper() != keyword:
        return None
    try:
        return Address(match[1], parse_domain(match[2])), match[3] or ""
    except ValueError:
        return None


def split_path(argument: str, keyword: str, status: str) -> tuple[str, str]:
    """The argument of MAIL or RCPT -> what is between the brackets, the parameters. Raises CommandRefused."""
    if argument[: len(keyword)].upper() != keyword:
        raise refused(501, "5.5.4", f"Syntax: {keyword}<address>")
    path = argument[len(keyword) :].strip(" ")
    match = _PATH.fullmatch(path) or _BARE_PATH.fullmatch(path)
    if match is None:
        raise refused(501, status, f"Syntax: {keyword}<address>")
    return match[1], match[2] or ""


def _parameters(text: str, rows: Mapping[str, Parameter]) -> dict[str, Any]:
    try:
        return parse_parameters(text, rows)
    except UnknownParameter as unknown:
        raise refused(555, "5.5.4", str(unknown)) from None
    except ParameterError as error:
        raise refused(501, "5.5.4", str(error)) from None


def _drop_source_route(path: str) -> str:
    """RFC 5321 3.6.1, appendix C: a source route is read and ignored; who takes the mail knows that there was one."""
    route = _SOURCE_ROUTE.match(path) if path.startswith("@") else None
    if route is None:
        return path
    for domain in _ROUTE_DOMAIN.findall(route[0]):
        parse_domain(domain)
    return path[route.end() :]


def _parse_mailbox(path: str, status: str) -> Address:
    try:
        return Address.parse(_drop_source_route(path))
    except ValueError as error:
        raise refused(501, status, f"Bad address syntax: {error}") from None


# Most of who writes, and of who is written to, comes again; without parameters the same argument says the same.
_REMEMBERED = 1024


@lru_cache(maxsize=_REMEMBERED)
def _mail_alone(argument: str) -> Mail | None:
    usual = usual_path(argument, "FROM:")
    return None if usual is None or usual[1] else Mail(usual[0])


@lru_cache(maxsize=_REMEMBERED)
def _recipient_alone(argument: str) -> Recipient | None:
    usual = usual_path(argument, "TO:")
    return None if usual is None or usual[1] else Recipient(usual[0])


def parse_mail(argument: str, rows: Mapping[str, Parameter], login_domain: str = "") -> Mail:
    """The argument of MAIL (RFC 5321 4.1.1.2), with the parameters that are offered; a local part alone gets
    `login_domain`, where there is one (RFC 6409 6.2)."""
    if argument.endswith(">") and (mail := _mail_alone(argument)) is not None:
        return mail
    if usual := usual_path(argument, "FROM:"):
        return Mail(usual[0], **_parameters(usual[1], rows))
    path, text = split_path(argument, "FROM:", "5.1.7")
    fields = _parameters(text, rows) if text else {}
    if path and login_domain and "@" not in path:
        path = f"{path}@{login_domain}"
    reverse_path = _parse_mailbox(path, "5.1.7") if path else None
    if reverse_path and not fields.get("smtputf8"):
        _require_ascii(reverse_path, 550)
    return Mail(reverse_path, **fields)


def _require_ascii(address: Address, code: int) -> None:
    """RFC 6531 3.5, with another code for each command."""
    if not address.is_ascii:
        raise refused(code, "5.6.7", "This address needs SMTPUTF8")


def parse_rcpt(argument: str, rows: Mapping[str, Parameter], *, smtputf8: bool, postmaster_domain: str) -> Recipient:
    """The argument of RCPT (RFC 5321 4.1.1.3), with the parameters that are offered; `<Postmaster>` and
    `<Abuse>` alone get `postmaster_domain`."""
    if argument.endswith(">") and (recipient := _recipient_alone(argument)) is not None:
        return recipient
    if usual := usual_path(argument, "TO:"):
        return Recipient(usual[0], **_parameters(usual[1], rows))
    path, text = split_path(argument, "TO:", "5.1.3")
    fields = _parameters(text, rows) if text else {}
    if path.lower() in ROLES:
        return Recipient(Address(path.lower(), postmaster_domain), **fields)
    address = _parse_mailbox(path, "5.1.3")
    if not smtputf8:
        _require_ascii(address, 553)
    return Recipient(address, **fields, source_route=path.startswith("@"))


# RFC 4954 8: auth-command = "AUTH" SP sasl-mech [SP initial-response]; what is no base64 has an answer of its own (4).
_AUTH = re.compile(r"([A-Za-z0-9_-]{1,20})(?: +([^ ]+))?")


def parse_auth(argument: str) -> tuple[str, bytes | None]:
    """The argument of AUTH: mechanism in upper case, initial response as it stands on the wire, base64 or not."""
    match = _AUTH.fullmatch(argument)
    if match is None:
        raise refused(501, "5.5.4", "Syntax: AUTH mechanism [initial-response]")
    return match[1].upper(), match[2].encode() if match[2] else None
