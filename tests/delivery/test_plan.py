"""From recipients and their routes to what is done: one copy a target, and who is to be told of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import attrs
import pytest

from mailhub.delivery.plan import Accepted, Copy, mail_of, make_plan, outcomes, recipient_of, told_once
from mailhub.interfaces import STORE, Plan, QueuedMessage, Receipt, ReversePath, Route, Submission
from mailhub.message.address import Address
from mailhub.message.envelope import (
    DeliverBy,
    FutureRelease,
    Mail,
    Notify,
    OriginalRecipient,
    Outcome,
    Recipient,
    State,
    ValidSince,
)

A, B, LIST, FAR = (Address.parse(text) for text in ("a@xx.example", "b@xx.example", "list@xx.example", "c@yy.example"))
SENDER, OWNER = Address.parse("s@zz.example"), Address.parse("owner@xx.example")
MAIL = Mail(SENDER, envid="id", ret="HDRS")
TO_A, TO_FAR = Route(STORE, A, "a@xx.example"), Route("smtp", FAR)
NEVER: frozenset[Notify] = frozenset({"NEVER"})


def here(route: Route) -> bool:
    return True


def test_two_recipients_that_end_in_one_mailbox_give_one_copy_and_keep_their_notify() -> None:
    quiet, loud = Recipient(A, frozenset({"NEVER"})), Recipient(LIST, frozenset({"FAILURE"}))
    plan = make_plan([Accepted(quiet, (TO_A,)), Accepted(loud, (TO_A, TO_FAR))], MAIL, deposits=here)
    assert [(deposit.user, deposit.originals) for deposit in plan.deposits] == [("a@xx.example", (quiet, loud))]
    assert [(route.recipient, route.originals) for route in plan.routes] == [(FAR, (loud,))]


def test_mailboxes_of_one_account_are_different_targets() -> None:
    junk = attrs.evolve(TO_A, mailbox="Junk", flags=frozenset({"$Junk"}))
    plan = make_plan([Accepted(Recipient(A), (TO_A, junk))], MAIL, deposits=here)
    assert [(each.mailbox, each.flags) for each in plan.deposits] == [("INBOX", frozenset()), ("Junk", junk.flags)]
    accepted = [Accepted(Recipient(A), (junk,)), Accepted(Recipient(B), (TO_A,))]
    receipt = Receipt("id", {1: Outcome.failed("full")})
    assert outcomes([_copy(accepted, plan)], [receipt]) == (Outcome.failed("full"), Outcome.delivered())


def test_inbox_is_one_mailbox_however_a_router_writes_it() -> None:
    ways = tuple(attrs.evolve(TO_A, mailbox=mailbox) for mailbox in ("inbox", "", "INBOX"))
    accepted = [Accepted(Recipient(A), ways)]
    plan = make_plan(accepted, MAIL, deposits=here)
    assert [each.mailbox for each in plan.deposits] == ["INBOX"]
    full = Outcome.failed("full")
    assert outcomes([_copy(accepted, plan)], [Receipt("id", {0: full})]) == (full,)


def test_a_recipient_is_refused_when_no_copy_was_taken() -> None:
    def way(*mailboxes: str) -> tuple[Route, ...]:
        return tuple(attrs.evolve(TO_A, mailbox=mailbox) for mailbox in mailboxes)

    full = Receipt("id", {0: Outcome.failed("full")})
    taken = Receipt("id", {})
    copies = []
    for ways in ((way("x"), ()), (way("y"), way("y"))):
        accepted = [Accepted(Recipient(each), routes) for each, routes in zip((A, B), ways, strict=True)]
        copies.append(_copy(accepted, make_plan(accepted, MAIL, deposits=here)))
    assert outcomes(copies, [full, full]) == (Outcome.failed("full"), Outcome.failed("full"))
    assert outcomes(copies, [taken, full]) == (Outcome.delivered(), Outcome.failed("full"))
    assert outcomes(copies, [full, taken]) == (Outcome.delivered(), Outcome.delivered())


def _copy(accepted: Sequence[Accepted], plan: Plan) -> Copy:
    nothing: Any = None
    return Copy(accepted, Submission(MAIL, plan, nothing))


@pytest.mark.parametrize(
    ("mail", "own", "now"),
    [
        (MAIL, None, True),
        (MAIL, ReversePath(SENDER), True),
        (MAIL, ReversePath(OWNER), False),
        (MAIL, ReversePath(None), False),
        (Mail(None), ReversePath(None), True),
        (attrs.evolve(MAIL, hold=FutureRelease(60, "FOR")), None, False),
    ],
)
def test_the_commit_fills_mailboxes_with_what_is_as_it_stands_and_now(mail: Mail, own: Any, now: bool) -> None:
    accepted = [Accepted(Recipient(A), (attrs.evolve(TO_A, reverse_path=own),))]
    plan = make_plan(accepted, mail, deposits=here, held=mail.hold is not None)
    assert (len(plan.deposits), len(plan.routes)) == (now, not now)


def test_to_other_hosts_another_reverse_path_is_another_message() -> None:
    listed = attrs.evolve(TO_FAR, reverse_path=ReversePath(OWNER))
    plan = make_plan([Accepted(Recipient(LIST), (listed,)), Accepted(Recipient(FAR), (TO_FAR,))], MAIL, deposits=here)
    assert [(route.reverse_path, len(route.originals)) for route in plan.routes] == [
        (listed.reverse_path, 1),
        (None, 1),
    ]


def queued(mail: Mail) -> QueuedMessage:
    return QueuedMessage("id", mail, 1000, 0, ())


@pytest.mark.parametrize(
    ("mail", "own", "said"),
    [
        (MAIL, None, MAIL),
        (MAIL, ReversePath(OWNER), Mail(OWNER)),
        (attrs.evolve(MAIL, hold=FutureRelease(9, "FOR"), priority=4), None, attrs.evolve(MAIL, priority=4)),
        (Mail(SENDER, by=DeliverBy(100, "R")), None, Mail(SENDER, by=DeliverBy(70, "R"))),
        (Mail(SENDER, by=DeliverBy(10, "R")), None, Mail(SENDER, by=DeliverBy(1, "R"))),
        (Mail(SENDER, by=DeliverBy(10, "N", trace=True)), None, Mail(SENDER, by=DeliverBy(-20, "N", trace=True))),
    ],
)
def test_what_mail_says_when_a_message_goes_on(mail: Mail, own: Any, said: Mail) -> None:
    assert mail_of(queued(mail), attrs.evolve(TO_FAR, reverse_path=own), 1030) == said


ORCPT = OriginalRecipient("rfc822", "List@xx.example")
SINCE = ValidSince(5)


@pytest.mark.parametrize(
    ("originals", "said"),
    [
        ((), Recipient(FAR)),
        ((Recipient(FAR),), Recipient(FAR)),
        ((Recipient(LIST, NEVER, ORCPT, SINCE),), Recipient(FAR, NEVER, ORCPT, SINCE)),
        ((Recipient(A, NEVER), Recipient(LIST, frozenset(), ORCPT)), Recipient(FAR, frozenset(), ORCPT)),
        ((Recipient(A, NEVER), Recipient(LIST, NEVER, ORCPT)), Recipient(FAR, NEVER)),
        (
            (Recipient(A, frozenset({"SUCCESS"}), ORCPT), Recipient(LIST)),
            Recipient(FAR, frozenset({"SUCCESS", "FAILURE", "DELAY"}), ORCPT),
        ),
    ],
)
def test_what_rcpt_says_when_a_message_goes_on(originals: tuple[Recipient, ...], said: Recipient) -> None:
    route = attrs.evolve(TO_FAR, originals=originals)
    assert recipient_of(route) == said
    assert recipient_of(attrs.evolve(route, reverse_path=ReversePath(OWNER))) == Recipient(FAR)
    assert recipient_of(attrs.evolve(route, via=("list@xx.example",))) == attrs.evolve(said, rrvs=None)


WANTS: frozenset[Notify] = frozenset({"SUCCESS", "FAILURE"})


def told(plan: Plan) -> list[tuple[str, State, tuple[int, ...]]]:
    return [(str(each.route.originals[0].address), each.outcome.state, each.deposits) for each in plan.notices]


def test_success_is_told_of_deposits_aliases_and_lists_to_who_asks() -> None:
    """RFC 3461 5.2.7; what goes on to one other address takes the wish with it."""
    asks = [Recipient(address, WANTS) for address in (A, LIST, B)]
    own = attrs.evolve(TO_FAR, reverse_path=ReversePath(OWNER))
    for accepted, expected in (
        (Accepted(asks[0], (TO_A,)), [("a@xx.example", State.DELIVERED, (0,))]),
        (Accepted(asks[1], (TO_A, TO_FAR)), [("list@xx.example", State.EXPANDED, ())]),
        (Accepted(asks[1], (own,)), [("list@xx.example", State.DELIVERED, ())]),
        (Accepted(asks[2], (TO_FAR,)), []),
        (Accepted(Recipient(A), (TO_A,)), []),
        (Accepted(asks[0], (TO_A, attrs.evolve(TO_A, mailbox="Junk"))), [("a@xx.example", State.DELIVERED, (0,))]),
    ):
        assert told(make_plan([accepted], MAIL, deposits=here)) == expected
        assert told(make_plan([accepted], Mail(None), deposits=here)) == []
    (route,) = make_plan([Accepted(asks[1], (TO_A, TO_FAR))], MAIL, deposits=here).routes
    assert route.originals == (Recipient(LIST, frozenset({"FAILURE"})),)
    (route,) = make_plan([Accepted(asks[2], (TO_FAR,))], MAIL, deposits=here).routes
    assert route.originals == (asks[2],)


def test_of_several_copies_the_first_alone_tells() -> None:
    asks = Accepted(Recipient(A, WANTS), (TO_A,))
    first, second = told_once({"as it is": [asks], "edited": [attrs.evolve(asks, routes=(TO_FAR,))]}).values()
    assert [each[0].recipient.notify for each in (first, second)] == [WANTS, {"FAILURE"}]
    nowhere = attrs.evolve(asks, routes=())
    first, second = told_once({"as it is": [nowhere], "edited": [asks]}).values()
    assert second[0].recipient.notify == WANTS
