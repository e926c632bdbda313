"""The sender's own copy of a submitted message: in Sent, in the commit that sends it, and gone where that is taken
back."""

from __future__ import annotations

import attrs

from mailhub.delivery.intake import Intake
from mailhub.delivery.placing import Arrived
from mailhub.delivery.plan import Accepted, deposits_of, make_plan
from mailhub.delivery.recently_sent import message_id_of
from mailhub.delivery.sending import Sending
from mailhub.errors import MailError
from mailhub.interfaces import STORE, IMailAccount, IMailbox, IMailStore, IQueue, Route, Submission
from mailhub.log import Logger
from mailhub.message.address import Address
from mailhub.message.digest import digest
from mailhub.message.envelope import Mail, Recipient
from mailhub.message.flags import decode
from mailhub.net.body import copy

_log = Logger(namespace="mailhub.delivery")

SENT = "Sent"
_SEEN = decode("\\Seen")
_PORTION = 500  # messages that are looked through at a time for a copy
_LATEST = 20_000  # and in all
_RETURN_PATH_LIMIT = 1000  # octets


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
        account = await self._store.account(user)
        try:
            mailbox = await _mailbox(account)
        finally:
            await account.logout()
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


async def _mailbox(account: IMailAccount) -> str:
    return next((each.name for each in await account.mailboxes() if each.special_use == "\\Sent"), SENT)


async def forget(store: IMailStore, user: str, octets: bytes) -> bool:
    """Remove the copy of a message that begins with these octets, its `Received` field first, and has its Message-ID
    among them; whether one was found. Copies of the sender's own making do not have that field. Raises MailError."""
    message_id = digest(octets).message_id
    trace = octets[: _field_end(octets)]
    if not message_id or not trace:
        return False
    account = await store.account(user)
    try:
        mailbox = await account.mailbox(await _mailbox(account))
        end = (await mailbox.status()).uid_next
        for last in range(end, max(1, end - _LATEST), -_PORTION):
            found = await mailbox.digests(range(max(1, last - _PORTION), last), ["message_id"])
            for uid in [uid for uid, name in found["message_id"].items() if name == message_id]:
                if await _has_trace(mailbox, uid, trace):
                    return bool(await mailbox.expunge([uid], deleted_only=False))
    finally:
        await account.logout()
    return False


async def _has_trace(mailbox: IMailbox, uid: int, trace: bytes) -> bool:
    """Behind the Return-Path."""
    reader = await mailbox.open(uid)
    try:
        octets = await reader.read(0, len(trace) + _RETURN_PATH_LIMIT)
    finally:
        reader.close()
    return octets[octets.find(b"\n") + 1 :].startswith(trace)


def _field_end(octets: bytes) -> int:
    """Of the first field, with its folded lines."""
    end = octets.find(b"\n") + 1
    while end and octets[end : end + 1] in (b" ", b"\t"):
        end = octets.find(b"\n", end) + 1
    return end
