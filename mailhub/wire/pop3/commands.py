"""POP3 commands (RFC 1939 3 and 9, RFC 2449, RFC 2595 4, RFC 5034): which there are, when, and with what arguments."""

from __future__ import annotations

from enum import Flag, auto

import attrs

# RFC 2449 4: "The maximum length of a command is increased ... to 255 octets, including the terminating CRLF."
LINE_OCTETS = 255
BLANKS = b" \t"

# The largest number that is told from others: no maildrop has as many messages, no message as many lines.
LARGEST = 2**63 - 1


class When(Flag):
    """The states of RFC 1939 in which commands are given."""

    AUTHORIZATION = auto()
    TRANSACTION = auto()
    ALWAYS = AUTHORIZATION | TRANSACTION


@attrs.frozen
class Rule:
    """`arguments`: how many, fewest and most. `rest`: one argument that may contain spaces."""

    when: When
    fewest: int = 0
    most: int = 0
    rest: bool = False


RULES: dict[bytes, Rule] = {
    b"CAPA": Rule(When.ALWAYS),
    b"STLS": Rule(When.AUTHORIZATION),
    b"AUTH": Rule(When.AUTHORIZATION, 1, 2),
    b"USER": Rule(When.AUTHORIZATION, 1, 1, rest=True),
    # RFC 1939 7 PASS: "a POP3 server may treat spaces in the argument as part of the password".
    b"PASS": Rule(When.AUTHORIZATION, 1, 1, rest=True),
    b"STAT": Rule(When.TRANSACTION),
    b"LIST": Rule(When.TRANSACTION, 0, 1),
    b"UIDL": Rule(When.TRANSACTION, 0, 1),
    b"RETR": Rule(When.TRANSACTION, 1, 1),
    b"TOP": Rule(When.TRANSACTION, 2, 2),
    b"DELE": Rule(When.TRANSACTION, 1, 1),
    b"NOOP": Rule(When.TRANSACTION),
    b"RSET": Rule(When.TRANSACTION),
    b"QUIT": Rule(When.ALWAYS),
}

NAMES = frozenset(RULES)


class BadCommand(Exception):
    """The command cannot be carried out as it stands. The text is for the client."""


@attrs.frozen
class Command:
    """`verb` in upper case."""

    verb: bytes
    arguments: tuple[bytes, ...] = attrs.field(default=(), repr=False)


def verb_of(line: bytes) -> bytes:
    """The keyword in upper case: "Keywords consist of ... printable ASCII", their case does not matter."""
    return line.replace(b"\t", b" ").partition(b" ")[0].upper()


def parse(line: bytes, state: When) -> Command:
    """Read one line without its ending. Raises BadCommand.

    Blanks in front of the command, in a row or at the end mean nothing, except in a password.
    """
    line = line.lstrip(BLANKS)
    verb = verb_of(line)
    rule = RULES.get(verb)
    if rule is None:
        raise BadCommand("Unknown command")
    if verb != b"AUTH" and len(line) + 2 > LINE_OCTETS:
        raise BadCommand("Line too long")
    if state not in rule.when:
        raise BadCommand("Log in first" if state is When.AUTHORIZATION else "Logged in already")
    rest = line[len(verb) + 1 :]
    if verb == b"USER":
        rest = rest.strip(BLANKS)
    arguments = ((rest,) if rest else ()) if rule.rest else tuple(rest.split())
    if not rule.fewest <= len(arguments) <= rule.most:
        raise BadCommand("Wrong number of arguments")
    return Command(verb, arguments)


def number(argument: bytes) -> int:
    """A message number or a number of lines, LARGEST at most. Raises BadCommand."""
    if not argument.isdigit():
        raise BadCommand("Not a number")
    digits = argument.lstrip(b"0") or b"0"
    return min(int(digits), LARGEST) if len(digits) <= len(str(LARGEST)) else LARGEST
