"""The agent "store": mailboxes of a store that has no part in the queue's transactions."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress

from zope.interface import implementer

from mailhub.answers import answer
from mailhub.delivery.ownership import Owners
from mailhub.errors import (
    InvalidMailboxName,
    MailboxExists,
    MailError,
    NoSuchMailbox,
    NoSuchUser,
    NotPermitted,
    TooManyKeywords,
)
from mailhub.interfaces import (
    Delivery,
    Environment,
    IBody,
    IDeliveryAgent,
    IMailAccount,
    IMailbox,
    IMailStore,
    IUserDirectory,
    QueuedRecipient,
    body_for,
    rights_of,
)
from mailhub.message.envelope import Outcome, outcome_of
from mailhub.message.flags import SYSTEM_FLAGS, Flags
from mailhub.message.mailbox_names import INBOX, normalise
from mailhub.message.record import storable
from mailhub.message.trace import return_path
from mailhub.net.body import copy
from mailhub.store.limits import USUAL_USES


@implementer(IDeliveryAgent)
class StoreAgent:
    """Appends to the route's mailbox, with the Return-Path on top (RFC 5321 4.4) and the message's id as delivery id:
    repeating is harmless, and INBOX has one copy for whatever number of mailboxes it stands in for. See `Route` for a
    mailbox that is not there."""

    def __init__(
        self,
        store: IMailStore,
        environment: Environment,
        directories: IUserDirectory | None = None,
        owners: Owners | None = None,
    ) -> None:
        """`directories` know whose account is to be made when it is missing; `owners`, whose it is."""
        self._store = store
        self._environment = environment
        self._directories = directories
        self._owners = owners or Owners()

    async def deliver(self, delivery: Delivery) -> Mapping[int, Outcome]:
        """See `IDeliveryAgent`. One copy, whatever number of recipients lead to the account."""
        return {row.id: await self._append(delivery, row) for row in delivery.recipients}

    async def _append(self, delivery: Delivery, row: QueuedRecipient) -> Outcome:
        top = return_path(delivery.mail.reverse_path)
        flags, name = row.route.flags, row.route.mailbox or INBOX
        try:
            await self._owners.check_waiting(row.route)
            account = await self._account(delivery.target)
            try:
                name, mailbox = await _mailbox(account, name)
                writer = body_for(account, mailbox, len(top) + delivery.body.size)
                try:
                    await writer.write(top)
                    await copy(delivery.body, writer.write)
                    body = await writer.finish()
                finally:
                    writer.abort()
                try:
                    now, once = self._environment.now(), delivery.id
                    try:
                        uid = await _add(mailbox, body, flags, now, once)
                    except (NotPermitted, NoSuchMailbox):
                        # The mailbox has changed its mind, or has gone in this very moment.
                        if name == INBOX:
                            raise
                        name, mailbox = INBOX, await account.mailbox(INBOX)
                        uid = await _add(mailbox, body, flags, now, once)
                finally:
                    body.discard()
            finally:
                await account.logout()
        except MailError as error:
            return outcome_of(error)
        return Outcome.delivered(f"{name} {uid}", status="2.1.5")

    async def _account(self, user: str) -> IMailAccount:
        try:
            return await self._store.account(user)
        except NoSuchUser:
            if self._directories is None or not await answer(self._directories.exists(user)):
                raise
        return await self._store.account(user, create=True)

    async def stop(self) -> None:
        """Nothing is kept."""


async def _mailbox(account: IMailAccount, name: str) -> tuple[str, IMailbox]:
    """The mailbox of that name. One of the usual ones is made when it is missing; INBOX stands in for others, and for
    what cannot be made or takes no messages."""
    name = normalise(name)
    try:
        mailbox = await account.mailbox(name)
    except NoSuchMailbox:
        mailbox = await account.mailbox(INBOX)
        if name not in USUAL_USES:
            return INBOX, mailbox
        try:
            with suppress(MailboxExists):
                await account.create(name)
            mailbox = await account.mailbox(name)
        except (NotPermitted, InvalidMailboxName, NoSuchMailbox):
            return INBOX, mailbox
    if name != INBOX and "i" not in rights_of(mailbox):
        return INBOX, await account.mailbox(INBOX)
    return name, mailbox


async def _add(mailbox: IMailbox, body: IBody, flags: Flags, now: int, delivery_id: str) -> int:
    """Keywords for which there is no room, and flags that cannot be kept, keep no mail out."""
    rights = rights_of(mailbox)
    if "i" not in rights:
        raise NotPermitted("Mailbox takes no messages", status="5.2.1")
    flags = storable(flags, rights)
    try:
        return await mailbox.append(body, flags, now, delivery_id)
    except TooManyKeywords:
        return await mailbox.append(body, flags & SYSTEM_FLAGS, now, delivery_id)
