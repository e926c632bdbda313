"""The way in for every message."""

from __future__ import annotations

import attrs
from zope.interface import Attribute, Interface, implementer

from mailhub.interfaces.accounts import (
    ISubmitter,
    Origin,
)
from mailhub.interfaces.octets import IBodyWriter
from mailhub.interfaces.screens import ITransactionView
from mailhub.message.envelope import Mail, Outcome, Recipient


@attrs.frozen
class Committed:
    """The answer to the end of data: the id to tell, and what became of each of `ITransaction.recipients`, in order."""

    id: str
    outcomes: tuple[Outcome, ...]


@implementer(ITransactionView)
@attrs.frozen
class OwnTransaction:
    """One of mailhub's own, by which nothing is committed: for a DSN, or to ask where an address leads."""

    origin: Origin = attrs.field(factory=lambda: Origin(""))
    mail: Mail = attrs.field(factory=lambda: Mail(None))
    recipients: tuple[Recipient, ...] = ()


class ITransaction(ITransactionView):
    """One message on its way in, from MAIL to the commit.

    Calls are made one after the other in this order: recipient() as often as there are recipients, body() once and its
    writer's write(), commit(). abort() may come at any time, also while another call waits. Out of this order a call is
    a mistake of the caller and raises RuntimeError.
    """

    async def recipient(recipient: Recipient) -> None:
        """RCPT: adds it to `recipients`. Raises NotPermitted (relaying denied, a policy rejects), NoSuchUser,
        OverQuota, TemporaryError; the transaction then goes on without it."""

    def recipient_at_once(recipient: Recipient) -> bool:
        """The same of one about whom nobody has to be asked; whether it was added. If not, nothing has happened, and
        it is recipient() that says more."""

    def body(size: int = 0) -> IBodyWriter:
        """DATA, with at least one recipient: where the octets go. It puts the trace header on top and, for submission,
        mends the header. `size` is the number of octets, 0 for what MAIL declared. Raises MailError; it may then be
        called again. Finishing the writer is the business of commit()."""

    async def commit() -> Committed:
        """The end of the data; durable on return, and the transaction is over whatever the result.

        Services that answer for each recipient (LMTP) get what became of each. For others refused recipients get a DSN
        unless all are refused. Raises MailError when nothing was taken.
        """

    def abort() -> None:
        """Nothing of it is kept. What commit() has begun goes on; after the end this does nothing."""


class IConversation(Interface):
    """One connection's way in: what its transactions have in common. Built by `IPipeline.connected`."""

    origin: Origin = Attribute("Who is there, as far as is known by now.")

    async def hello(origin: Origin) -> None:
        """EHLO, HELO or LHLO; `origin.helo` is what it said. Raises NotPermitted, TemporaryError."""

    async def login(origin: Origin, submitter: ISubmitter) -> None:
        """AUTH has succeeded. Raises NotPermitted, TemporaryError: then nobody is logged in."""

    def secured(origin: Origin) -> None:
        """TLS has been started: whatever was said before, a login too, was not said (RFC 3207 4.2)."""

    async def begin(mail: Mail) -> ITransaction:
        """MAIL. Raises NotPermitted (no login where one is needed, 5.7.0; the login does not own the address; a policy
        rejects), StorageFull, TemporaryError."""

    async def turn(node: str) -> int:
        """ETRN: have the mail tried now that waits for a domain, for `@domain` with all below it, or by the agent or
        `[transport.x]` that `#name` names; how many messages. What is held, or is to be sent later, waits on. Raises
        StoreUnavailable."""

    def closed(*, farewell: bool = False) -> None:
        """The connection is gone. Transactions are aborted by who began them. Without a `farewell` (QUIT) the client
        may not know what became of its last messages, and send them again."""


class IConversations(Interface):
    """What sessions of SMTP, submission and LMTP bring their mail to."""

    async def connected(origin: Origin) -> IConversation:
        """For a new connection. Raises NotPermitted, TemporaryError: say so instead of the greeting."""


class IPipeline(IConversations):
    """The way in for every message from outside: SMTP, submission, LMTP, and Python code. Built in delivery/."""

    async def begin(origin: Origin, mail: Mail, submitter: ISubmitter | None = None) -> ITransaction:
        """A transaction without a connection of its own, for a web service or a program: a conversation of one message.

        The caller vouches for `origin`. Who has `origin.user` may send to anybody; whether the reverse-path is that
        user's is asked of the `submitter`, if there is one. Raises what `connected`, `hello` and
        `IConversation.begin` raise.
        """
