"""From routes to a plan: what the commit itself delivers, and what the queue does later."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TypeVar

import attrs

from mailhub.delivery.notices import of_alias, of_deposit, without_success
from mailhub.delivery.targets import FinalTarget, final_target
from mailhub.interfaces import (
    STORE,
    Deposit,
    IMailStore,
    IQueue,
    Notice,
    Plan,
    QueuedMessage,
    Receipt,
    Route,
    Submission,
)
from mailhub.message.address import Address
from mailhub.message.envelope import Mail, Notify, Outcome, Recipient

E = TypeVar("E")

_USUAL: frozenset[Notify] = frozenset({"FAILURE", "DELAY"})  # what who says nothing means (RFC 3461 4.1)
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


# Whether a mailbox that a route leads to is in the queue's own database.
Deposits = Callable[[Route], bool]


def deposits_of(queue: IQueue, store: IMailStore) -> Deposits:
    """Asked for each mailbox where the store is several ones."""
    place_of = getattr(store, "place_of", None)
    if place_of is not None:
        return lambda route: queue.deposits_into(place_of(route.target, route.mailbox))
    all_of_them = queue.deposits_into(store)
    return lambda route: all_of_them


def make_plan(accepted: Iterable[Accepted], mail: Mail, *, deposits: Deposits, held: bool = False) -> Plan:
    """Each final target once, with all the recipients that lead to it, and what is to be told as soon as that is done.

    The commit fills a mailbox there, unless its copy is to begin with another Return-Path than the message, or the
    message is `held` for a while (RFC 4865): that is left to the queue.
    """
    wanted: dict[FinalTarget, tuple[Route, list[Recipient]]] = {}
    notices: list[Notice] = []
    telling = False
    for each in accepted:
        named = each.recipient
        if "SUCCESS" in named.notify and mail.reverse_path is not None:
            telling = True
            if (notice := of_alias(named, each.routes, mail.reverse_path)) is not None:
                notices.append(notice)
                named = without_success(named)
        for route in each.routes:
            wanted.setdefault(final_target(route), (route, []))[1].append(named)
            if telling:
                named = without_success(named)  # told of the first of several mailboxes
    now, later = [], []
    for target, (route, names) in wanted.items():
        originals = tuple(dict.fromkeys(names)) if len(names) > 1 else tuple(names)
        own = route.reverse_path
        if route.agent == STORE and not held and (own is None or own.address == mail.reverse_path) and deposits(route):
            _, user, mailbox = target
            now.append(Deposit(route.recipient, user, mailbox, route.flags, originals, route.create))
        else:
            later.append(attrs.evolve(route, originals=originals))
    if telling:
        notices += [notice for number, each in enumerate(now) if (notice := of_deposit(each, number)) is not None]
    return Plan(tuple(now), tuple(later), tuple(notices))


@attrs.define
class Copy:
    """A message that all or some of the recipients get: the same number of them in each copy, those without routes that
    do not."""

    accepted: Sequence[Accepted]
    message: Submission


def told_once(copies: Mapping[E, Sequence[Accepted]]) -> Mapping[E, Sequence[Accepted]]:
    """The recipients of several copies of one message, so that whoever wants to know of success is told of the first of
    his alone."""
    if len(copies) < 2:
        return copies
    told: set[int] = set()
    once: dict[E, Sequence[Accepted]] = {}
    for key, accepted in copies.items():
        once[key] = [
            attrs.evolve(each, recipient=without_success(each.recipient)) if number in told else each
            for number, each in enumerate(accepted)
        ]
        told |= {number for number, each in enumerate(accepted) if each.routes}
    return once


def outcomes(copies: Sequence[Copy], receipts: Sequence[Receipt]) -> tuple[Outcome, ...]:
    """What the client is told for each recipient as it named it: a failure when nothing of it was taken."""
    told: list[list[Outcome | None]] = [[] for _ in copies[0].accepted]
    for copy, receipt in zip(copies, receipts, strict=True):
        refused: dict[FinalTarget, Outcome | None] = {
            (STORE, deposit.user, deposit.mailbox): receipt.refused.get(index)
            for index, deposit in enumerate(copy.message.plan.deposits)
        }
        for failures, each in zip(told, copy.accepted, strict=True):
            failures += [refused.get(final_target(route)) for route in each.routes]
    return tuple([next(filter(None, failures), _TAKEN) if all(failures) else _TAKEN for failures in told])


def mail_of(message: QueuedMessage, route: Route, now: int) -> Mail:
    """What MAIL is to say when a message goes on by a route at `now` (seconds since the epoch).

    By a route that is `owned` it is a message of its owner: what the sender wanted to be told stays behind (RFC 3461
    5.2.7). The time that BY gave runs (RFC 2852 4), and a hold is over (RFC 4865).
    """
    mail, own = message.mail, route.reverse_path
    if own is None and mail.by is None and mail.hold is None:
        return mail
    if own is not None:
        mail = attrs.evolve(mail, reverse_path=own.address)
    if route.owned:
        mail = attrs.evolve(mail, envid="", ret="")
    by = mail.by
    if by is not None:
        left = by.seconds - max(0, now - message.queued_at)
        by = attrs.evolve(by, seconds=left if by.mode == "N" else max(1, left))
    return attrs.evolve(mail, by=by, hold=None)


def recipient_of(route: Route) -> Recipient:
    """What RCPT is to say where a message goes on by a route.

    Of several recipients that have become one, any who wants to be told is served, by the name of the first such one.
    """
    if route.owned or not route.originals:
        return Recipient(route.recipient)
    told = [each for each in route.originals if "NEVER" not in each.notify]
    first = told[0] if told else route.originals[0]
    notify = first.notify
    if len(told) > 1 and any(each.notify != notify for each in told):
        notify = frozenset[Notify]().union(*[each.notify or _USUAL for each in told])
    # RFC 7293: since when the sender knows the name of an alias says nothing of those whom it leads to.
    return Recipient(route.recipient, notify, first.orcpt, None if route.via else first.rrvs)
