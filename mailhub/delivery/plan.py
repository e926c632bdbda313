"""From routes to a plan: what the commit itself delivers, and what the queue does later."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import attrs

from mailhub.delivery.routing import FinalTarget, final_target
from mailhub.interfaces import STORE, Deposit, Plan, Receipt, Route
from mailhub.message.address import Address
from mailhub.message.envelope import Outcome, Recipient
from mailhub.message.mailbox_names import INBOX

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
    """Each final target once, with all the recipients that lead to it. With `deposits`, the store's accounts are in the
    queue's own database."""
    wanted: dict[FinalTarget, tuple[Route, list[Recipient]]] = {}
    for each in accepted:
        for route in each.routes:
            wanted.setdefault(final_target(route), (route, []))[1].append(each.recipient)
    now, later = [], []
    for route, named in wanted.values():
        originals = tuple(dict.fromkeys(named)) if len(named) > 1 else tuple(named)
        if deposits and route.agent == STORE:
            now.append(Deposit(route.recipient, route.target, route.mailbox or INBOX, route.flags, originals))
        else:
            later.append(attrs.evolve(route, originals=originals))
    return Plan(tuple(now), tuple(later))


def outcomes(accepted: Sequence[Accepted], plan: Plan, receipt: Receipt) -> tuple[Outcome, ...]:
    """What the client is told for each recipient as it named it: a failure when nothing of it was taken."""
    refused: dict[FinalTarget, Outcome | None] = {
        (STORE, deposit.user, deposit.mailbox): receipt.refused.get(index)
        for index, deposit in enumerate(plan.deposits)
    }
    told = []
    for each in accepted:
        failures = [refused.get(final_target(route)) for route in each.routes]
        failed = next((failure for failure in failures if failure is not None), None)
        told.append(failed if failed is not None and all(failures) else _TAKEN)
    return tuple(told)
