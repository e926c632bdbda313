"""XCLIENT and XFORWARD: a trusted client says for whom it speaks (Postfix's XCLIENT_README and XFORWARD_README).

By XCLIENT the session is begun anew as that client's; XFORWARD is for the log alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from ipaddress import IPv4Address, IPv6Address

from mailhub.message.esmtp import decode_xtext
from mailhub.wire.smtp.dialogue import Dialogue
from mailhub.wire.smtp.events import Forwarded, SpeaksFor
from mailhub.wire.smtp.extensions import XCLIENT_ATTRIBUTES, XFORWARD_ATTRIBUTES
from mailhub.wire.smtp.grammar import refused
from mailhub.wire.smtp.replies import reply

_LIMIT = 255  # characters of a value
# What the client does not know, for good or for now.
_UNKNOWN = frozenset({"[UNAVAILABLE]", "[TEMPUNAVAIL]"})


def _text(value: str) -> str:
    if len(value) > _LIMIT or not value.isprintable():
        raise ValueError
    return value


def _address(value: str) -> str:
    if value[:5].upper() == "IPV6:":
        return str(IPv6Address(value[5:]))
    return str(IPv4Address(value))


def _port(value: str) -> str:
    if not (value.isascii() and value.isdigit() and len(value) <= 5 and int(value) < 65536):
        raise ValueError
    return value


def _one_of(*words: str) -> Callable[[str], str]:
    def check(value: str) -> str:
        if value.upper() not in words:
            raise ValueError
        return value.upper()

    return check


_CHECKS: Mapping[str, Callable[[str], str]] = {
    "NAME": _text,
    "ADDR": _address,
    "PORT": _port,
    "PROTO": _one_of("SMTP", "ESMTP"),
    "HELO": _text,
    "LOGIN": _text,
    "DESTADDR": _address,
    "DESTPORT": _port,
    "IDENT": _text,
    "SOURCE": _one_of("LOCAL", "REMOTE"),
}


def speak_for(_dialogue: Dialogue, argument: str) -> SpeaksFor:
    """The action of XCLIENT."""
    return SpeaksFor(_attributes("XCLIENT", argument, XCLIENT_ATTRIBUTES))


def note_forwarded(dialogue: Dialogue, argument: str) -> Forwarded:
    """The action of XFORWARD."""
    given = Forwarded(_attributes("XFORWARD", argument, XFORWARD_ATTRIBUTES))
    dialogue.send(reply(250, "2.0.0", "OK"))
    return given


def _attributes(command: str, argument: str, known: str) -> dict[str, str]:
    """NAME=value ..., the values in xtext; "" for one that the client does not know."""
    given: dict[str, str] = {}
    for word in argument.split(" "):
        if not word:
            continue
        name, equals, value = word.partition("=")
        name = name.upper()
        if name not in known.split() or not equals or name in given:
            raise refused(501, "5.5.4", f"Syntax: {command} attribute=value ..., of {known}")
        try:
            given[name] = "" if value.upper() in _UNKNOWN else _CHECKS[name](_decoded(value))
        except ValueError:
            raise refused(501, "5.5.4", f"Bad {command} attribute value: {name}") from None
    return given


def _decoded(value: str) -> str:
    """UTF-8, in xtext or as it is. Raises ValueError."""
    return decode_xtext(value, "").encode("latin-1").decode() if value.isascii() else value
