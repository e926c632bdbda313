"""What has been said so far on a connection to the SMTP server (RFC 5321 3.1 to 3.3), and small things said back."""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from functools import lru_cache

import attrs

from mailhub.message.envelope import Recipient
from mailhub.wire.sasl import ServerExchange
from mailhub.wire.smtp.events import Hello
from mailhub.wire.smtp.extensions import Offering, SmtpSettings, offer
from mailhub.wire.smtp.reception import Chunks, Reception
from mailhub.wire.smtp.replies import Reply, render, reply


class Progress(Enum):
    """How far the client has come (RFC 5321 4.1.4)."""

    CONNECTED = "no EHLO, LHLO or HELO since the greeting, or since STARTTLS"
    READY = "no mail transaction is open"
    SENDER = "MAIL was accepted, no recipient yet"
    RECIPIENTS = "at least one recipient was accepted"
    CHUNKS = "a part of the message has come (BDAT)"


# Up to Python 3.11, to name a member of an Enum is a call; these are asked for with every command.
_CONNECTED, _READY, _SENDER = Progress.CONNECTED, Progress.READY, Progress.SENDER
_RECIPIENTS, _CHUNKS = Progress.RECIPIENTS, Progress.CHUNKS

RECIPIENT_OK = render(reply(250, "2.1.5", "Recipient OK"))


def _ask(_recipient: Recipient) -> bool:
    """There is an event for each recipient."""
    return False


@attrs.define
class MailTransaction:
    """One mail transaction. `attempts` counts RCPT, taken or not; `recipients` those that were accepted. `binary`:
    BODY=BINARYMIME was said. `chunks` are there from the first BDAT on.

    `take_at_once` is the session's: it adds a recipient about whom nobody has to be asked, and says whether it has. So
    all recipients that come in one packet are read and answered together, without an event for each.
    """

    smtputf8: bool
    binary: bool = False
    attempts: int = 0
    recipients: int = 0
    chunks: Chunks | None = None
    take_at_once: Callable[[Recipient], bool] = _ask


@lru_cache(maxsize=64)  # the longest answer there is, and the same for nearly all
def answer_to_ehlo(hostname: str, offered: Offering, authenticated: bool) -> bytes:
    """EHLO's or LHLO's (RFC 5321 4.1.1.1). After a login there is no other (RFC 4954 4)."""
    lines = [line for keyword, line in offered.lines.items() if keyword != "AUTH" or not authenticated]
    return render(Reply(250, "", (hostname, *lines)))


class Dialogue:
    """The state of one connection. `closing`: close once what is in `out` is sent. `secure`: TLS is on. `login_domain`
    is that of whoever has logged in, "" for nobody.

    While there is an `exchange`, lines are its; while there is a `reception`, octets are.
    """

    def __init__(self, settings: SmtpSettings) -> None:
        self.settings = settings
        self.out: list[bytes] = []
        self.hello: Hello | None = None
        self.transaction: MailTransaction | None = None
        self.exchange: ServerExchange | None = None
        self.reception: Reception | None = None
        self.excess_recipients = 0
        self.mails = 0
        self.authenticated = False
        self.login_domain = ""
        self.secure = settings.secure
        self.closing = False
        self.offer: Offering = offer(settings, settings.secure)

    @property
    def state(self) -> Progress:
        """How far the client has come."""
        transaction = self.transaction
        if transaction is None:
            return _CONNECTED if self.hello is None else _READY
        if transaction.chunks is not None:
            return _CHUNKS
        return _RECIPIENTS if transaction.recipients else _SENDER

    def send(self, answer: Reply) -> None:
        """Say something."""
        self.out.append(self.render(answer))

    def render(self, answer: Reply) -> bytes:
        """A reply as this client can read it."""
        return render(answer)

    def close_with(self, farewell: Reply) -> None:
        """Say a last word (421) and close: time-out, shutdown, too many errors."""
        if not self.closing:
            self.send(farewell)
            self.closing = True
