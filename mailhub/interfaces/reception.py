"""Taking mail with a program of one's own, which has neither queue nor mailboxes of mailhub's."""

from __future__ import annotations

from collections.abc import Awaitable, Sequence

from zope.interface import Attribute, Interface

from mailhub.interfaces.octets import IBlobReader
from mailhub.interfaces.screens import IMessageView, ITransactionView
from mailhub.message.envelope import Outcome, Recipient

# What `IMailReceiver.message` may give: the id to tell the client, or what became of each recipient.
Taken = str | None | Sequence[Outcome]


class IReceivedMessage(IMessageView):
    """A message whose data has come, as an `IMailReceiver` gets it: what is in it, and the whole as it is to be kept.
    It is in memory, or in a file where it is large, and is gone when `IMailReceiver.message` has answered."""

    trace: bytes = Attribute("The fields that we put on top of it: Return-Path and Received (RFC 5321 4.4).")

    def open() -> IBlobReader:
        """The whole of it: trace fields, header, empty line, body. Nobody need close it."""


class IMailReceiver(Interface):
    """Takes mail from SMTP, LMTP and submission: the cred avatar of `mailhub.api.smtp_factory`, `lmtp_factory` and
    `submission_factory`. Of the first two it is the avatar of anonymous credentials, one for each session that sends.

    Both methods may be coroutines, or give a Deferred or the result itself. A MailError is the answer to the client,
    with its status and its text: TemporaryError (come again), PermanentError, NoSuchUser, NotPermitted, OverQuota. All
    else that is raised, and no answer in time, is named in the log and told the client as a temporary failure.

    After a login the avatar may have `may_send_as(address)` besides (see `ISubmitter`): without it any reverse-path is
    taken.
    """

    def recipient(recipient: Recipient, transaction: ITransactionView) -> Awaitable[None] | None:
        """RCPT: whether there will be mail for it; `transaction.recipients` are those before it. Raises MailError to
        refuse it, NoSuchUser above all."""

    def message(message: IReceivedMessage) -> Taken | Awaitable[Taken]:
        """The end of the data, for all of `message.recipients`. When it returns the message must be kept for good: the
        client is told so, and forgets it.

        It gives an id for the client and the log, or None; or an `Outcome` for each recipient, in their order. LMTP
        tells the client each of them. SMTP has one answer for all: 451 when one of them is to be tried later, else 554
        when one is refused. The client then sends the whole message again, or returns it for all of them: who has kept
        it for some must know it again. Raises MailError where nobody has got it.
        """
