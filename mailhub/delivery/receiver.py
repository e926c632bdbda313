"""Somebody's own `IMailReceiver`, as our sessions call it."""

from __future__ import annotations

from collections.abc import Sequence

import attrs
from zope.interface import implementer

from mailhub.guard import Guard
from mailhub.interfaces import IMailReceiver, IReceivedMessage, ISubmitter, ITransactionView
from mailhub.message.address import Address
from mailhub.message.envelope import Outcome, Recipient

# RFC 5321 4.5.3.2.6: a client waits ten minutes for the answer to the end of its data.
MESSAGE_SECONDS = 300.0


@implementer(ISubmitter)
@attrs.frozen(eq=False)
class Receiver:
    """A receiver that somebody has logged in to (`user`), or nobody ("")."""

    user: str
    _avatar: IMailReceiver
    _guard: Guard

    async def may_send_as(self, address: Address | None) -> bool:
        """See `ISubmitter`."""
        asked = getattr(self._avatar, "may_send_as", None)
        return True if asked is None else bool(await self._guard.ask("may_send_as", asked, address))

    async def recipient(self, recipient: Recipient, transaction: ITransactionView) -> None:
        """See `IMailReceiver`."""
        about = {"session": transaction.origin.session_id}
        given = await self._guard.ask_about(about, "recipient", self._avatar.recipient, recipient, transaction)
        if given is not None:
            # Such as False: what was meant by it, nobody knows.
            raise self._guard.fault("recipient", f"it gave {given!r:.100}; None takes, a MailError refuses", about)

    async def message(self, message: IReceivedMessage) -> Sequence[Outcome] | str | None:
        """See `IMailReceiver`."""
        about = {"session": message.origin.session_id}
        given = await self._guard.ask_about(about, "message", self._avatar.message, message, seconds=MESSAGE_SECONDS)
        if given is None or isinstance(given, str):
            return given
        if isinstance(given, list | tuple) and all(isinstance(each, Outcome) for each in given):
            if len(given) == len(message.recipients):
                return given
            raise self._guard.fault(
                "message", f"it gave {len(given)} outcomes for {len(message.recipients)} recipients", about
            )
        raise self._guard.fault("message", f"it gave {given!r:.100}, not an id, None or outcomes", about)
