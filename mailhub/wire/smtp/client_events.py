"""What the client machine of SMTP waits for, and what it tells its driver."""

from __future__ import annotations

from enum import Enum

import attrs

from mailhub.message.envelope import Outcome


class Phase(Enum):
    """What the machine waits for; the driver's time-outs go by it (RFC 5321 4.5.3.2)."""

    GREETING = "the greeting"
    HELLO = "the reply to EHLO, LHLO or HELO"
    STARTTLS = "the reply to STARTTLS"
    TLS = "the TLS handshake"
    LOGIN = "the next step of AUTH"
    READY = "a message to send"
    RESET = "the reply to RSET"
    MAIL = "the reply to MAIL"
    RECIPIENT = "the reply to RCPT"
    DATA = "the reply to DATA"
    BODY = "the driver to hand over the message"
    CHUNK = "the reply to BDAT"
    FINAL = "the reply to the message"
    QUIT = "the reply to QUIT"
    CLOSED = "nothing"

    # Enum's own hashes the name anew for every reply.
    __hash__ = object.__hash__


@attrs.frozen
class StartTls:
    """Start TLS on the transport, then call `tls_started()`."""


@attrs.frozen
class Ready:
    """The session is set up: `send()` may be called."""


@attrs.frozen
class SendBody:
    """Hand the message over by `send_body()` and `end_body()`."""


@attrs.frozen
class Finished:
    """The outcomes of the message's recipients, in order. Unless the machine is closing, it is ready for another."""

    outcomes: tuple[Outcome, ...]


@attrs.frozen
class Unusable:
    """The session could not be set up; `outcome` says why: DELAYED, or FAILED where the server takes no mail ever.
    `phase` is where it ended."""

    outcome: Outcome
    phase: Phase


ClientEvent = StartTls | Ready | SendBody | Finished | Unusable
