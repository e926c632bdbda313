"""What comes to the return addresses of members: the agent that reads it."""

from __future__ import annotations

from collections.abc import Mapping

import attrs
from zope.interface import implementer

from mailhub.delivery.list_bounces import Bounces, Suspension
from mailhub.delivery.list_mail import ListMail, header_of
from mailhub.delivery.list_paths import MemberPaths, Returned
from mailhub.errors import MailError
from mailhub.interfaces import Delivery, Environment, IDeliveryAgent, ILocalNames, QueuedRecipient
from mailhub.log import Logger
from mailhub.message.address import Address
from mailhub.message.bounces import BOUNCE_LIMIT, Bounce, read_bounce
from mailhub.message.envelope import Outcome, outcome_of
from mailhub.message.lists import MailingList

_log = Logger(namespace="mailhub.delivery.lists")


@implementer(IDeliveryAgent)
@attrs.define(eq=False)
class BounceAgent:
    """Reads what comes to the return addresses of members. What is no report goes on to the owners."""

    _names: ILocalNames
    _environment: Environment
    _paths: MemberPaths
    _bounces: Bounces
    _mail: ListMail

    async def deliver(self, delivery: Delivery) -> Mapping[int, Outcome]:
        """See `IDeliveryAgent`. Repeating it adds nothing."""
        return {row.id: await self._read(delivery, row) for row in delivery.recipients}

    async def stop(self) -> None:
        """Nothing is kept."""

    async def _read(self, delivery: Delivery, row: QueuedRecipient) -> Outcome:
        try:
            await self._names.refresh()
            settings = self._names.lists.get(delivery.target)
            returned = await self._paths.read(row.route.recipient, late=True)
            if settings is None:
                return Outcome.failed("No such list here", status="5.1.1")
            octets = await delivery.body.read(0, BOUNCE_LIMIT)
            bounce = read_bounce(octets, from_nobody=_is_from_nobody(delivery.mail.reverse_path))
            if bounce.kind == "none":
                await self._mail.pass_on(delivery, row, await header_of(delivery), settings)
            elif bounce.kind != "passing":
                await self._count(delivery.target, returned, settings, bounce, row.attempts)
        except MailError as error:
            return outcome_of(error)
        return Outcome.delivered()

    async def _count(
        self, target: str, returned: Returned, settings: MailingList, bounce: Bounce, attempts: int
    ) -> None:
        member = await self._paths.member(self._names, returned)
        if member is None:
            return
        name, now = Address.parse(target), self._environment.now()  # however the report writes it
        _log.event("came back", {"list": name, "member": member, "report": bounce.kind, "reason": bounce.reason})
        limit = settings.suspend_after_days
        suspension = await self._bounces.came_back(name.key, member, returned.day, bounce, limit, now)
        if suspension is None or suspension.told:
            return
        subject, once = f"A member of {name} is suspended", f"{name.key} {member.key} suspended {suspension.since}"
        text = _of_suspended(name, suspension)
        await self._mail.tell_owners(name, settings, subject, text, once, suspension.since, attempts)
        await self._bounces.told(name.key, suspension)


def _is_from_nobody(sender: Address | None) -> bool:
    """Whether it is sent as reports are; some servers send them in the name of their own program."""
    return sender is None or sender.local.lower() == "mailer-daemon"


def _of_suspended(name: Address, suspension: Suspension) -> str:
    reason = f"\nThe last was:\n\n  {suspension.reason}\n" if suspension.reason else ""
    return (
        f"{suspension.member} gets nothing of {name} any more: what was sent there on {suspension.days} days has come "
        f"back.\n{reason}\nmailhub list resume {name} {suspension.member}\n\nhas it sent there again.\n"
    )
