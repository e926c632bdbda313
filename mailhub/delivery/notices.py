"""Who wants to be told what of a message: NOTIFY (RFC 3461 4.1), and what BY adds to it (RFC 2852)."""

from __future__ import annotations

from collections.abc import Sequence

import attrs

from mailhub.interfaces import ALIAS, STORE, Deposit, Notice, QueuedRecipient, Route
from mailhub.message.address import Address
from mailhub.message.envelope import DeliverBy, Mail, Notify, Outcome, Recipient, State

_WORDS: dict[State, Notify] = {
    State.FAILED: "FAILURE",
    State.DELAYED: "DELAY",
    State.DELIVERED: "SUCCESS",
    State.EXPANDED: "SUCCESS",
}
_UNLESS_SAID = (State.FAILED, State.DELAYED)  # told where NOTIFY was not given
_NEVER: frozenset[Notify] = frozenset({"NEVER"})
_FAILURE: frozenset[Notify] = frozenset({"FAILURE"})


def is_wanted(mail: Mail, named: Recipient, outcome: Outcome) -> bool:
    """Whether an outcome is to be told of a recipient as it was named."""
    if outcome.state is State.DELIVERED and outcome.dsn:
        return _wants_trace(mail, named, outcome)
    if _WORDS[outcome.state] in named.notify:
        return True
    if not named.notify and outcome.state in _UNLESS_SAID:
        return True
    return outcome.state is State.DELIVERED and _wants_trace(mail, named, outcome)


def _wants_trace(mail: Mail, named: Recipient, outcome: Outcome) -> bool:
    """BY with a T asks for a note of each relay, and so does any BY of the one to a host that does not know it, which
    nobody keeps to any more (RFC 2852 4)."""
    if mail.by is None or outcome.protocol != "smtp" or "NEVER" in named.notify:
        return False
    return mail.by.trace or not outcome.by


def is_news(mail: Mail, row: QueuedRecipient, outcome: Outcome) -> bool:
    """Whether there is anybody who wants to be told. A route that is `owned` has an owner, who is told what goes wrong,
    and of nothing else (RFC 3461 5.2.7.1)."""
    own = row.route.reverse_path
    if (mail.reverse_path if own is None else own.address) is None:
        return False
    if row.route.owned or not row.route.originals:
        return outcome.state in _UNLESS_SAID
    return any(is_wanted(mail, named, outcome) for named in row.route.originals)


def without_success(named: Recipient) -> Recipient:
    """The recipient, when success has been told."""
    left = named.notify - {"SUCCESS"}
    return attrs.evolve(named, notify=left or _NEVER) if left != named.notify else named


def told_of_delay(named: Recipient, by: DeliverBy) -> Recipient:
    """The recipient for a host that does not know BY, before that time is over: what it knows is to tell of delays
    (RFC 2852 4.1.4.2, which overrides RFC 3461 5.2.1)."""
    if by.mode != "N" or by.seconds <= 0 or "NEVER" in named.notify:
        return named
    return attrs.evolve(named, notify=(named.notify or _FAILURE) | {"DELAY"})


def of_alias(named: Recipient, routes: Sequence[Route], sender: Address | None) -> Notice | None:
    """What is told as soon as a recipient is taken who wants to know of success: that it was a list, which has it now
    (RFC 3461 5.2.7.1), or an alias of several (5.2.7.3). None for anything else."""
    paths = [route.reverse_path for route in routes if route.reverse_path is not None]
    lists = [path for path in paths if path.address != sender and not path.of_sender]
    if routes and len(lists) == len(routes):
        outcome = Outcome.delivered()
    elif len({route.recipient for route in routes}) > 1:
        outcome = Outcome(State.EXPANDED, "2.0.0")
    else:
        return None
    own = next((path for path in paths if path.of_sender), None)
    return Notice(Route(ALIAS, named.address, reverse_path=own, originals=(named,)), outcome)


def of_deposit(deposit: Deposit, number: int) -> Notice | None:
    """What is told of a deposit that is made; None where nobody wants to know."""
    originals = tuple([named for named in deposit.originals if "SUCCESS" in named.notify])
    if not originals:
        return None
    return Notice(Route(STORE, deposit.recipient, deposit.user, originals=originals), Outcome.delivered(), (number,))
