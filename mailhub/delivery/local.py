"""The agent "store": mailboxes of a store that has no part in the queue's transactions."""

from __future__ import annotations

from collections.abc import Mapping

from zope.interface import implementer

from mailhub.errors import MailError
from mailhub.interfaces import Delivery, Environment, IDeliveryAgent, IMailStore, QueuedRecipient
from mailhub.message.envelope import Outcome
from mailhub.message.flags import NO_FLAGS
from mailhub.message.trace import return_path
from mailhub.net.body import copy


@implementer(IDeliveryAgent)
class StoreAgent:
    """Appends to INBOX, with the Return-Path on top (RFC 5321 4.4) and a delivery id, so that repeating is harmless."""

    def __init__(self, store: IMailStore, environment: Environment) -> None:
        self._store = store
        self._environment = environment

    async def deliver(self, delivery: Delivery) -> Mapping[int, Outcome]:
        """See `IDeliveryAgent`. One copy, whatever number of recipients lead to the account."""
        return {row.id: await self._append(delivery, row) for row in delivery.recipients}

    async def _append(self, delivery: Delivery, row: QueuedRecipient) -> Outcome:
        top = return_path(delivery.mail.reverse_path)
        try:
            account = await self._store.account(delivery.target)
            try:
                mailbox = await account.mailbox("INBOX")
                writer = account.new_body(len(top) + delivery.body.size)
                try:
                    await writer.write(top)
                    await copy(delivery.body, writer.write)
                    body = await writer.finish()
                finally:
                    writer.abort()
                try:
                    uid = await mailbox.append(body, NO_FLAGS, self._environment.now(), f"{delivery.id}.{row.id}")
                finally:
                    body.discard()
            finally:
                await account.logout()
        except MailError as error:
            return outcome_of(error)
        return Outcome.delivered(f"INBOX {uid}", status="2.1.5")

    async def stop(self) -> None:
        """Nothing is kept."""


def outcome_of(error: MailError) -> Outcome:
    """What an error means for a recipient."""
    if error.temporary:
        return Outcome.delayed(error.text, status=error.status)
    return Outcome.failed(error.text, status=error.status)
