"""Who has a say in what comes in, and may edit it."""

from __future__ import annotations

from collections.abc import Awaitable, Sequence
from typing import TYPE_CHECKING, Literal

import attrs
from zope.interface import Attribute, Interface, implementer

from mailhub.message.edits import HeaderEdit

if TYPE_CHECKING:
    from mailhub.errors import MailError
    from mailhub.interfaces.accounts import Origin
    from mailhub.interfaces.octets import IBlobReader
    from mailhub.message.address import Address
    from mailhub.message.envelope import Mail, Recipient


@attrs.frozen
class ChangeReversePath:
    """Another reverse-path for the message, None for the null one. `parameters`: RET and ENVID (RFC 3461) that go with
    it, as MAIL says them; one that is not named stays."""

    address: Address | None
    parameters: str = ""


@attrs.frozen
class AddRecipient:
    """One more recipient. It is routed as if a user of ours had named it; one that cannot be is left out."""

    recipient: Recipient


@attrs.frozen
class RemoveRecipient:
    """The recipients accepted so far that have this address are dropped; the client is not told."""

    address: Address


@attrs.frozen
class NoteResult:
    """What a check found, as Authentication-Results has it (RFC 8601 2.2 resinfo): `spf=pass smtp.mailfrom=a.example`.

    All results of a message stand in one field on top, with our name; fields of others with our name are removed."""

    result: str


@attrs.frozen(eq=False)
class ReplaceBody:
    """Other octets for all that follows the header's empty line; only at `IScreen.message`, and not where the header is
    larger than 256 KiB. Lines end with CRLF then, whatever ended them. A reader is read before the screen's next
    method is called, and stays the screen's."""

    body: bytes | IBlobReader


Edit = HeaderEdit | ChangeReversePath | AddRecipient | RemoveRecipient | NoteResult | ReplaceBody


@attrs.frozen
class Verdict:
    """What a screen says. `status` and `text` are for the client when `action` is "reject" or "defer".

    "discard" pretends to accept a recipient or a message; before the first recipient it counts as "reject".
    "quarantine" lets the message pass, and into Junk where it is for a mailbox of ours; what is relayed goes on as it
    is. `edits` are carried out where the action lets the message pass; those given before the message is there wait for
    it where they are about its header. `rule` is which rule has spoken, in a few words, where that helps the client: it
    is told in parentheses. The log names the policy in any case. `code` is SMTP's reply code, 45x or 55x as the status
    is; 0 for the one that is usual there.
    """

    action: Literal["accept", "reject", "defer", "discard", "quarantine"] = "accept"
    status: str = ""
    text: str = ""
    edits: Sequence[Edit] = ()
    rule: str = attrs.field(default="", eq=False)
    code: int = 0


ACCEPT = Verdict()


class ITransactionView(Interface):
    """A transaction to look at, as routers and screens see it."""

    origin: Origin = Attribute("Who sends, and by which service; `origin.user` is the login.")
    mail: Mail = Attribute("What MAIL said: the reverse-path, and the parameters.")
    recipients: Sequence[Recipient] = Attribute("Those accepted so far, in order, as they were named.")


class IMessageView(ITransactionView):
    """A message whose data has come, before anything of it is kept. Good until the method that it was given to has
    answered."""

    header: bytes = Attribute(
        "The fields as they are to be, without the trace fields of ours and without the empty line. Empty where the "
        "header is larger than 256 KiB; such a one cannot be edited but by AddField and NoteResult."
    )
    size: int = Attribute("Octets after the header.")
    hops: int = Attribute("Received fields that it came with.")

    async def read(offset: int = 0, length: int = -1) -> bytes:
        """Up to `length` octets of what follows the header, which begins with the empty line; -1 means all the rest.
        Raises StoreUnavailable, ValueError for a negative offset."""


# What a method may give.
Said = Verdict | Awaitable[Verdict]
Heard = None | Awaitable[None]


class IScreen(Interface):
    """What a policy makes for one connection, with a state of its own. Every method may be left out, and may give its
    verdict as it is, as a coroutine or as a Deferred.

    One is asked after the other. The first that rejects, defers or discards ends the round; the next one sees what
    those before it have edited. A screen that raises, answers with anything but a Verdict or not in time is named in
    the log, and does what the configuration says (tempfail or skip)."""

    def hello(origin: Origin) -> Said:
        """EHLO, HELO or LHLO."""

    def login(origin: Origin) -> Said:
        """AUTH has succeeded, for `origin.user`; to reject means that it has not."""

    def mail(transaction: ITransactionView) -> Said:
        """MAIL."""

    def recipient(transaction: ITransactionView, recipient: Recipient) -> Said:
        """RCPT, of a recipient that there is a way to. `transaction.recipients` are those before it."""

    def recipient_refused(transaction: ITransactionView, recipient: Recipient, error: MailError) -> Heard:
        """RCPT of one that is refused, by a screen after this one or because there is no way to it."""

    def message(message: IMessageView) -> Said:
        """The end of the data, before the commit."""

    def closed() -> Heard:
        """The connection is over: called once, whatever happened. What it gives is not waited for."""


@implementer(IScreen)
class Screen:
    """A screen that accepts everything. What a screen of its own does not override is not asked."""

    def hello(self, origin: Origin) -> Said:
        """See `IScreen`."""
        return ACCEPT

    def login(self, origin: Origin) -> Said:
        """See `IScreen`."""
        return ACCEPT

    def mail(self, transaction: ITransactionView) -> Said:
        """See `IScreen`."""
        return ACCEPT

    def recipient(self, transaction: ITransactionView, recipient: Recipient) -> Said:
        """See `IScreen`."""
        return ACCEPT

    def recipient_refused(self, transaction: ITransactionView, recipient: Recipient, error: MailError) -> Heard:
        """See `IScreen`."""

    def message(self, message: IMessageView) -> Said:
        """See `IScreen`."""
        return ACCEPT

    def closed(self) -> Heard:
        """See `IScreen`."""


class IPolicy(Interface):
    """Has a say in what comes in by SMTP, submission, LMTP and from Python code."""

    def begin(origin: Origin) -> IScreen | Awaitable[IScreen]:
        """For a new connection, before the greeting. Raises NotPermitted or TemporaryError: said instead of the
        greeting (554, 421). May give a coroutine or a Deferred."""
