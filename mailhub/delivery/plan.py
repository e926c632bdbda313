"""From routes to a plan: what the commit itself delivers, and what the queue does later."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from mailhub.delivery.routing import distinct, final_target
from mailhub.interfaces import STORE, Accepted, Deposit, Plan, Receipt, Route
from mailhub.message.address import Address
from mailhub.message.envelope import Outcome


def make_plan(routes: Iterable[Route], *, deposits: bool) -> Plan:
    """Each final target once. With `deposits`, the store's accounts are in the queue's own database."""
    wanted = distinct(routes)
    if not deposits:
        return Plan(routes=wanted)
    return Plan(
        tuple(Deposit(route.recipient, route.target) for route in wanted if route.agent == STORE),
        tuple(route for route in wanted if route.agent != STORE),
    )


def outcomes(recipients: Iterable[Accepted], plan: Plan, receipt: Receipt) -> Mapping[Address, Outcome]:
    """What the client is told for each recipient as it named it: a failure when nothing of it was taken."""
    refused: dict[tuple[str, ...], Outcome | None] = {
        (STORE, deposit.user): receipt.refused.get(deposit.recipient) for deposit in plan.deposits
    }
    told = {}
    for accepted in recipients:
        failures = [refused.get(final_target(route)) for route in accepted.routes]
        failed = next((failure for failure in failures if failure is not None), None)
        told[accepted.address] = failed if failed is not None and all(failures) else Outcome.delivered()
    return told
