"""Rules as one: order, time, failure, and what counts as an answer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock
from twisted.logger import capturedLogs, formatEvent
from zope.interface import implementer

from mailhub.delivery.rules import (
    PLACEMENTS_LIMIT,
    REPLY_LIMIT,
    TOGETHER_SECONDS,
    Answer,
    GuardedRule,
    RuleFault,
    Rules,
    checked,
)
from mailhub.interfaces import (
    AddField,
    IMailRules,
    NoteResult,
    Origin,
    OwnTransaction,
    Placement,
    Placements,
    Redirect,
    Refusal,
    RemoveField,
    Reply,
    ReversePath,
)
from mailhub.message.address import Address
from mailhub.message.envelope import Mail
from mailhub.testing.waiting import result_of

ANN = "ann@xx.example"
FAR = Address.parse("far@yy.example")
MESSAGE: Any = OwnTransaction(Origin("smtp", session_id="s1"), Mail(FAR))
KEPT = Placements([Placement()])


@implementer(IMailRules)
class Rule:
    """Answers with what it is given, and counts."""

    def __init__(self, answer: Callable[[], Any]) -> None:
        self.answer = answer
        self.asked: list[tuple[str, Mail]] = []

    def apply(self, account: str, mail: Mail, message: Any) -> Any:
        self.asked.append((account, mail))
        return self.answer()


async def ask(*rules: Rule, clock: Clock | None = None, late: float = 0.0) -> Answer | None:
    clock = clock or Clock()
    asked = Rules([GuardedRule(f"r{number}", rule, 5.0) for number, rule in enumerate(rules)], clock)
    return await asked.ask(ANN, MESSAGE, asked.deadline() - late)


def later(value: object) -> Any:
    async def give() -> object:
        return value

    return give()


@pytest.mark.parametrize("way", [lambda given: given, later, succeed], ids=["plain", "coroutine", "Deferred"])
def test_the_first_that_has_an_opinion_counts(way: Callable[[Any], Any]) -> None:
    silent, speaking, last = Rule(lambda: way(None)), Rule(lambda: way(KEPT)), Rule(lambda: way(KEPT))
    answer = result_of(ask(silent, speaking, last))
    assert answer is not None
    assert answer.rule == "r1"
    assert (silent.asked, last.asked) == ([(ANN, MESSAGE.mail)], [])
    assert result_of(ask(silent, silent)) is None


def test_a_failure_ends_the_round_and_is_named() -> None:
    def bug() -> Any:
        raise KeyError("bug")

    last = Rule(lambda: KEPT)
    with capturedLogs() as events:
        assert result_of(ask(Rule(bug), last)) is None
    assert last.asked == []
    assert formatEvent(events[0]).startswith("rule failed: rule=r0 account=<ann@xx.example> session=s1")


@pytest.mark.parametrize(("late", "seconds"), [(0.0, 5.0), (TOGETHER_SECONDS - 2, 2.0), (TOGETHER_SECONDS + 9, 0.0)])
def test_each_has_its_time_and_a_message_has_one_for_all(late: float, seconds: float) -> None:
    clock, pending = Clock(), Deferred[Any]()
    given: list[Answer | None] = []
    with capturedLogs() as events:
        Deferred.fromCoroutine(ask(Rule(lambda: pending), clock=clock, late=late)).addCallback(given.append)
        clock.advance(max(0, seconds - 0.1))
        assert given == ([] if seconds else [None])
        clock.advance(0.2)
    assert given == [None]
    assert pending.called  # it was cancelled
    assert formatEvent(events[0]) == (
        "rule timed out: rule=r0 account=<ann@xx.example> session=s1 method=apply file="
        f" reason='no answer within {seconds:g} seconds'"
    )
    # What is there at once is in time, however late it is.
    answer = result_of(ask(Rule(lambda: KEPT), clock=clock, late=late))
    assert answer is not None


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        (KEPT, Placements([Placement()])),
        (
            Placements((Placement("inbox", frozenset({"\\seen"})),)),
            Placements([Placement("INBOX", frozenset({"\\Seen"}))]),
        ),
        (Placements([Placement("")]), Placements([Placement("INBOX")])),
        (Placements([Placement("a/b", edits=[RemoveField("X", 0)])]), None),
        (Placements(redirects=[Redirect(FAR, ReversePath(None))]), None),
        (Placements(discard=True), Placements(discard=True)),
        (Placements([Placement()], discard=True), Placements([Placement()])),
        (Placements(replies=[Reply(b"Subject: x\n\ny")], discard=True), None),
        (Placements(refusal=Refusal("4.2.1", "one\r\ntwo")), Placements(refusal=Refusal("4.2.1", "one two"))),
    ],
)
def test_answers_that_count(given: Placements, kept: Placements | None) -> None:
    found = checked(given)
    if kept is None:
        kept = given
    assert [(each.mailbox, each.flags) for each in found.deposits] == [
        (each.mailbox, each.flags) for each in kept.deposits
    ]
    assert list(found.redirects) == list(kept.redirects)
    assert list(found.replies) == list(kept.replies)
    assert (found.refusal, found.discard) == (kept.refusal, kept.discard)


ODD: Any = Placements
PLACE: Any = Placement


@pytest.mark.parametrize(
    "given",
    [
        "Archive",
        [Placement()],
        True,
        ODD(),
        ODD(discard="yes"),
        ODD("Archive"),
        ODD(["Archive"]),
        ODD(deposits=3),
        ODD([PLACE(3)]),
        ODD([PLACE("a//b")]),
        ODD([PLACE("a\0b")]),
        ODD([PLACE("\ud800")]),
        ODD([PLACE("x" * 300)]),
        ODD([PLACE(flags="\\Seen")]),
        ODD([PLACE(flags={"\\Recent"})]),
        ODD([PLACE(flags={"a b"})]),
        ODD([PLACE(flags={f"k{number}" for number in range(65)})]),
        ODD([PLACE(edits=[NoteResult("spf=pass")])]),
        ODD([PLACE(edits=[AddField("X", "y")] * 201)]),
        ODD([Placement()] * (PLACEMENTS_LIMIT + 1)),
        ODD([Placement()], [Redirect(FAR)] * PLACEMENTS_LIMIT),
        ODD(redirects=[Redirect("far@yy.example")]),  # type: ignore[arg-type]
        ODD(redirects=[Redirect(FAR, FAR)]),  # type: ignore[arg-type]
        ODD(redirects=[Redirect(Address("far>\r\nRCPT TO:<evil", "yy.example"))]),
        ODD(redirects=[Redirect(Address("far", "y y.example"))]),
        ODD(redirects=[Redirect(Address("\udc80", "yy.example"))]),
        ODD(redirects=[Redirect(FAR, ReversePath(Address("x\r\nX-Evil: 1", "yy.example")))]),
        ODD(replies=[Reply(b"Subject: x\r\n\r\n", Address("x\r\nX-Evil: 1", "yy.example"))], discard=True),
        ODD(replies=[Reply(b"Subject: x\r\n\r\n")]),
        ODD(replies=[Reply("Subject: x")], discard=True),  # type: ignore[arg-type]
        ODD(replies=[Reply(b"\r\nno header")], discard=True),
        ODD(replies=[Reply(b"A: " + b"x" * REPLY_LIMIT)], discard=True),
        ODD(refusal="no"),
        ODD(refusal=Refusal("5.7", "no")),
        ODD(refusal=Refusal("2.1.5", "no")),
        ODD([Placement()], refusal=Refusal("5.7.1", "no")),
        ODD(refusal=Refusal("5.7.1", "no"), discard=True),
    ],
)
def test_answers_that_do_not(given: object) -> None:
    with pytest.raises(RuleFault):
        checked(given)
