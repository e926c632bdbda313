"""What is done with a message for one of our accounts: filed, marked, sent on, answered, refused."""

from __future__ import annotations

from collections.abc import Awaitable, Sequence
from typing import TYPE_CHECKING

import attrs
from zope.interface import Interface

from mailhub.message.edits import HeaderEdit
from mailhub.message.flags import NO_FLAGS, Flags
from mailhub.message.mailbox_names import INBOX

if TYPE_CHECKING:
    from mailhub.interfaces.screens import IMessageView
    from mailhub.interfaces.transport import ReversePath
    from mailhub.message.address import Address
    from mailhub.message.envelope import Mail


@attrs.frozen
class Placement:
    """A copy in a mailbox of the account, with these flags. `edits` of its header are for this copy alone, which then
    has octets of its own. For a mailbox that is not there see `Route`."""

    mailbox: str = INBOX
    flags: Flags = NO_FLAGS
    edits: Sequence[HeaderEdit] = ()


@attrs.frozen
class Redirect:
    """Sent on as it is. The address is routed as if a user of ours had named it; failures are told to the sender, or to
    `reverse_path`. What has been redirected by this account before stays here."""

    recipient: Address
    reverse_path: ReversePath | None = None


@attrs.frozen
class Reply:
    """A message to the reverse-path: header and body. Its line ends are mended, and Date, Message-ID, Auto-Submitted,
    In-Reply-To and References (RFC 3834 3.1) added where they are absent. There is none to the null reverse-path, to
    what was sent by a program (RFC 3834 2) or has a header too large to say so, nor where no way to the sender is
    known; the message is taken all the same. `reverse_path` is its own; with None, as it should be, nobody answers
    it."""

    message: bytes
    reverse_path: Address | None = None


@attrs.frozen
class Refusal:
    """The account does not take the message. The class of `status` (RFC 3463) says for how long: 5 for good, 4 for now.
    Where not every recipient refuses, SMTP cannot say so, and the sender is told by a DSN."""

    status: str
    text: str


@attrs.frozen
class Placements:
    """What becomes of a message for one account. A refusal stands alone; one that places the message nowhere must say
    `discard`, or it is taken for a mistake."""

    deposits: Sequence[Placement] = ()
    redirects: Sequence[Redirect] = ()
    replies: Sequence[Reply] = ()
    refusal: Refusal | None = None
    discard: bool = False


class IMailRules(Interface):
    """Has a say in what becomes of mail for accounts, when its data has come and before it is committed."""

    def apply(account: str, mail: Mail, message: IMessageView) -> Placements | Awaitable[Placements | None] | None:
        """For each account that the message goes to, once. None: no opinion, the next is asked; at the end the message
        goes where it was going. May give a coroutine or a Deferred.

        Everything is done in the commit that accepts the message. Who raises, gives anything else, more than is
        allowed, or nothing in time is named in the log, and the account gets the message as if there were no rules."""
