"""The sender's own copy of a submitted message: in Sent, in the commit that sends it."""

from __future__ import annotations

import attrs

from mailhub.delivery.intake import Intake
from mailhub.delivery.placing import Arrived
from mailhub.delivery.plan import Accepted, deposits_of, make_plan
from mailhub.delivery.recently_sent import message_id_of
from mailhub.delivery.sending import Sending
from mailhub.errors import MailError
from mailhub.interfaces import STORE, IMailStore, IQueue, Route, Submission
from mailhub.log import Logger
from mailhub.message.address import Address
from mailhub.message.envelope import Mail, Recipient
from mailhub.message.flags import decode
from mailhub.net.body import copy

_log = Logger(namespace="mailhub.delivery")

SENT = "Sent"
_SEEN = decode("\\Seen")


@attrs.frozen(eq=False)
class OwnCopy:
    """What is committed with a message; `body` is to be discarded."""

    submission: Submission
    user: str
    mailbox: str
    message_id: bytes


@attrs.frozen(eq=False)
class SentCopies:
    """Makes them for the accounts that have them by [submission]."""

    _sending: Sending
    _queue: IQueue
    _store: IMailStore

    async def of(self, user: str, body: Intake, blind: bytes) -> OwnCopy | None:
        """The copy, with the `blind` fields that others do not see. None where there is to be none, or where none can
        be had: that keeps no message from being sent, and the log says why."""
        if not self._sending.copies(user):
            return None
        try:
            return await self._make(user, body, blind)
        except MailError as error:
            _log.event("copy left out", {"to": user, "status": error.status, "reason": error.text})
            return None

    async def _make(self, user: str, body: Intake, blind: bytes) -> OwnCopy:
        await self._store.check_quota(user, body.size)
        mailbox = await self._mailbox(user)
        address = Address.parse(user)
        accepted = [Accepted(Recipient(address), (Route(STORE, address, user, mailbox=mailbox, flags=_SEEN),))]
        plan = make_plan(accepted, Mail(None), deposits=deposits_of(self._queue, self._store))
        arrived = await Arrived.read(body)
        try:
            head = arrived.top + arrived.header + (blind if arrived.whole else b"")
            writer = self._queue.new_body(len(head) + arrived.rest.size)
            try:
                await writer.write(head)
                await copy(arrived.rest, writer.write)
                written = await writer.finish()
            finally:
                writer.abort()
        finally:
            arrived.rest.close()
        # As a reply: it is nobody's without the message, and no report is made of it.
        submission = Submission(Mail(None), plan, written, body.relay_offset, reply=True)
        return OwnCopy(submission, user, mailbox, message_id_of(arrived.header) if plan.deposits else b"")

    async def _mailbox(self, user: str) -> str:
        account = await self._store.account(user)
        try:
            found = [each.name for each in await account.mailboxes() if each.special_use == "\\Sent"]
        finally:
            await account.logout()
        return found[0] if found else SENT
