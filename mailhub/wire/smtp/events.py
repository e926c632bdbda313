"""What the SMTP server machine tells its session. Where it says so, the session must answer before the next event."""

from __future__ import annotations

from collections.abc import Mapping

import attrs

from mailhub.credentials import PlainCredentials
from mailhub.message.envelope import Mail, Recipient
from mailhub.wire.smtp.replies import Reply


@attrs.frozen
class Hello:
    """EHLO, LHLO (`extended`) or HELO. Needs an answer. An open transaction is gone."""

    domain: str
    extended: bool


@attrs.frozen
class StartTls:
    """STARTTLS. Needs an answer; after accept(), TLS is started and then `tls_started()` called."""


@attrs.frozen
class SpeaksFor:
    """XCLIENT: the client speaks for another, of whom it knows these attributes ("" for those that it says it does not
    know). Needs an answer: the session begins anew with a greeting, or ends."""

    attributes: Mapping[str, str]


@attrs.frozen
class Forwarded:
    """XFORWARD: where the next message came from, for the log. The client has been told."""

    attributes: Mapping[str, str]


@attrs.frozen
class Turn:
    """ETRN: the mail that waits for a domain (A-labels) is asked for, by `@domain` what is below it as well, by `#name`
    that of a queue. Needs an answer, by `SmtpServer.turned`."""

    node: str


@attrs.frozen
class Login:
    """AUTH is complete. Needs an answer."""

    credentials: PlainCredentials


@attrs.frozen
class MailFrom:
    """MAIL. Needs an answer."""

    mail: Mail


@attrs.frozen
class RcptTo:
    """RCPT. Needs an answer."""

    recipient: Recipient


@attrs.frozen
class DataStart:
    """DATA or the first BDAT, with at least one recipient accepted. Needs an answer."""


@attrs.frozen
class BodyChunk:
    """More octets of the message, without dot stuffing."""

    octets: bytes


@attrs.frozen
class BodyEnd:
    """The message is complete and within its limits. Needs an answer: the final reply, for LMTP one a recipient."""


@attrs.frozen
class BodyAborted:
    """The message was refused before its end, and the client has been told. The transaction is over."""


@attrs.frozen
class Reset:
    """RSET. The client has been told; a transaction, if there was one, is gone."""


@attrs.frozen
class Quit:
    """QUIT. The client has been told; the machine is closing."""


@attrs.frozen
class BadCommand:
    """A command that is refused for its syntax or order, the `count`th of the session. accept() gives its `answer`,
    when it is time for that. The first ones are answered by the machine itself (`SmtpSettings.free_bad_commands`)."""

    answer: Reply
    count: int


Event = (
    Hello
    | StartTls
    | Login
    | MailFrom
    | RcptTo
    | DataStart
    | BodyChunk
    | BodyEnd
    | BodyAborted
    | Reset
    | Quit
    | SpeaksFor
    | Forwarded
    | Turn
    | BadCommand
)
