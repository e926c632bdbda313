"""From routes to a plan: what the commit itself delivers, and what the queue does later."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import attrs

from mailhub.delivery.routing import distinct, final_target
from mailhub.interfaces import STORE, Deposit, Plan, Receipt, Route
from mailhub.message.address import Address
from mailhub.message.envelope import Outcome, Recipient

_TAKEN = Outcome.delivered()


@attrs.frozen
class Accepted:
    """A recipient that was accepted at RCPT, and where its mail goes."""

    recipient: Recipient
    routes: tuple[Route, ...]

    @property
    def address(self) -> Address:
        """As it was named."""
        return self.recipient.address


def make_plan(accepted: Iterable[Accepted], *, deposits: bool) -> Plan:
    """Each final target once. With `deposits`, the store's accounts are in the queue's own database."""
    wanted = distinct([route for each in accepted for route in each.routes])
    if not deposits:
        return Plan(routes=wanted)
    return Plan(
        tuple([Deposit(route.recipient, route.target) for route in wanted if route.agent == STORE]),
        tuple([route for route in wanted if route.agent != STORE]),
    )


def outcomes(accepted: Sequence[Accepted], plan: Plan, receipt: Receipt) -> tuple[Outcome, ...]:
    """What the client is told for each recipient as it named it: a failure when nothing of it was taken."""
    refused: dict[tuple[str, ...], Outcome | None] = {
        (STORE, deposit.user): receipt.refused.get(deposit.recipient) for deposit in plan.deposits
    }
    told = []
    for each in accepted:
        failures = [refused.get(final_target(route)) for route in each.routes]
        failed = next((failure for failure in failures if failure is not None), None)
        told.append(failed if failed is not None and all(failures) else _TAKEN)
    return tuple(told)
