"""The commands of SMTP and LMTP as a table: what each needs before it may be given (RFC 5321 4.1.4, RFC 2033 4)."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum

import attrs

from mailhub.message.esmtp import AUTH, BODY, SIZE, SMTPUTF8
from mailhub.wire.sasl import LINE_LIMIT


class Argument(Enum):
    """The rule for what follows the verb."""

    NONE = "none"
    REQUIRED = "required"
    OPTIONAL = "optional"


@attrs.frozen
class Verb:
    """One command. `limit` is the longest line in octets, CRLF included.

    `before_hello`, `before_tls`, `before_login`: allowed earlier than that where the settings demand it.
    `idle`: counts as a command that brings no mail nearer.
    """

    argument: Argument
    before_hello: bool = False
    before_tls: bool = False
    before_login: bool = False
    idle: bool = False
    smtp: bool = True
    lmtp: bool = True
    limit: int = 512


PATH_LINE = 2048  # RFC 5321 4.5.3.1.4 and what SIZE, BODY, SMTPUTF8 (RFC 6531 3.4) and AUTH (RFC 4954 3) add

VERBS: Mapping[str, Verb] = {
    # before:     argument           hello             TLS              login
    "EHLO": Verb(Argument.REQUIRED, before_hello=True, before_tls=True, before_login=True, idle=True, lmtp=False),
    "HELO": Verb(Argument.REQUIRED, before_hello=True, before_tls=True, before_login=True, idle=True, lmtp=False),
    "LHLO": Verb(Argument.REQUIRED, before_hello=True, before_tls=True, before_login=True, idle=True, smtp=False),
    "STARTTLS": Verb(Argument.NONE, before_tls=True, before_login=True, idle=True),
    "AUTH": Verb(Argument.REQUIRED, before_login=True, idle=True, limit=LINE_LIMIT),
    "MAIL": Verb(Argument.REQUIRED, idle=True, limit=PATH_LINE),
    "RCPT": Verb(Argument.REQUIRED, limit=PATH_LINE),
    "DATA": Verb(Argument.NONE),
    "RSET": Verb(Argument.NONE, before_hello=True, before_login=True, idle=True),
    "NOOP": Verb(Argument.OPTIONAL, before_hello=True, before_tls=True, before_login=True, idle=True),
    "QUIT": Verb(Argument.NONE, before_hello=True, before_tls=True, before_login=True),
    "HELP": Verb(Argument.OPTIONAL, before_hello=True, before_login=True, idle=True),
    "VRFY": Verb(Argument.REQUIRED, before_hello=True, idle=True, limit=PATH_LINE),
    "EXPN": Verb(Argument.REQUIRED, before_hello=True, idle=True, limit=PATH_LINE),
}

# The parameters of MAIL.
MAIL = {row.keyword: row for row in (SIZE, BODY, SMTPUTF8)}
MAIL_AND_AUTH = {**MAIL, "AUTH": AUTH}

NAMES = frozenset(name.encode() for name in VERBS)
