"""Mail that somebody's own program takes, through our SMTP."""

from __future__ import annotations

from collections.abc import Awaitable, Sequence
from typing import TYPE_CHECKING

from zope.interface import Interface

if TYPE_CHECKING:
    from mailhub.interfaces.screens import IMessageView, ITransactionView
    from mailhub.message.envelope import Outcome, Recipient

# What taking a message may give: an id to tell the client, what became of each recipient in order, or nothing.
Taken = str | Sequence["Outcome"] | None


class IMailReceiver(Interface):
    """The cred avatar of SMTP, submission and LMTP in a program of somebody else's (`mailhub.api.smtp_factory`)."""

    def recipient(recipient: Recipient, transaction: ITransactionView) -> Awaitable[None] | None:
        """RCPT. Raises MailError (NoSuchUser, NotPermitted, TemporaryError) for a recipient that is not taken. May
        give a coroutine or a Deferred."""

    def message(message: IMessageView) -> Taken | Awaitable[Taken]:
        """The data has come, for `message.recipients`. When this is done, the message is this program's: the client is
        answered 250 and forgets it. Raises MailError to refuse it. May give a coroutine or a Deferred."""
