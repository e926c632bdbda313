"""Policies as one: order, time, failure."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import pytest
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock
from twisted.logger import capturedLogs, formatEvent
from zope.interface import implementer

from mailhub.delivery.policies import FailMode, GuardedPolicy, PolicyChain, obey
from mailhub.errors import MailError, NotPermitted, TemporaryError
from mailhub.interfaces import ACCEPT, IBody, IPolicy, Origin, Verdict
from mailhub.message.address import Address
from mailhub.message.envelope import Mail
from mailhub.testing.waiting import result_of

ORIGIN = Origin("smtp", "192.0.2.1", "s1")
ENVELOPE = Mail(Address("a", "xx.example"))
Answer = Callable[[], Awaitable[Verdict]]


@implementer(IPolicy)
class Scripted:
    """Gives the same answer at every step and notes the steps."""

    def __init__(self, answer: Answer) -> None:
        self.answer = answer
        self.steps: list[str] = []

    async def _say(self, step: str) -> Verdict:
        self.steps.append(step)
        return await self.answer()

    async def on_connect(self, origin: Origin) -> Verdict:
        return await self._say("connect")

    async def on_mail(self, origin: Origin, envelope: Mail) -> Verdict:
        return await self._say("mail")

    async def on_recipient(self, origin: Origin, envelope: Mail, recipient: Address) -> Verdict:
        return await self._say(f"recipient {recipient}")

    async def on_message(self, origin: Origin, envelope: Mail, to: Sequence[Address], body: IBody) -> Verdict:
        return await self._say("message")


def saying(verdict: Verdict) -> Answer:
    async def answer() -> Verdict:
        return verdict

    return answer


def raising(error: Exception) -> Answer:
    async def answer() -> Verdict:
        raise error

    return answer


async def never() -> Verdict:
    return await Deferred()


def chain(*policies: Scripted, clock: Clock | None = None, failure: FailMode = "tempfail") -> PolicyChain:
    guarded = [GuardedPolicy(f"p{n}", policy, 5.0, failure) for n, policy in enumerate(policies)]
    return PolicyChain(guarded, clock or Clock())


def test_every_step_is_asked_and_without_objections_accepted() -> None:
    policy = Scripted(saying(ACCEPT))
    asked = chain(policy)
    body: Any = object()
    to = Address("b", "yy.example")
    for question in (
        asked.on_connect(ORIGIN),
        asked.on_mail(ORIGIN, ENVELOPE),
        asked.on_recipient(ORIGIN, ENVELOPE, to),
        asked.on_message(ORIGIN, ENVELOPE, [to], body),
    ):
        assert result_of(question) is ACCEPT
    assert policy.steps == ["connect", "mail", "recipient b@yy.example", "message"]


def test_the_first_objection_counts_and_ends_the_round() -> None:
    no = Verdict("reject", "5.7.1", "No")
    last = Scripted(saying(Verdict("defer")))
    assert result_of(chain(Scripted(saying(ACCEPT)), Scripted(saying(no)), last).on_connect(ORIGIN)) == no
    assert last.steps == []


@pytest.mark.parametrize(("failure", "action"), [("tempfail", "defer"), ("skip", "reject")])
def test_a_policy_that_fails_or_takes_too_long_does_what_it_declared(failure: FailMode, action: str) -> None:
    after = Scripted(saying(Verdict("reject")))
    assert (
        result_of(chain(Scripted(raising(KeyError("bug"))), after, failure=failure).on_connect(ORIGIN)).action == action
    )

    clock = Clock()
    verdicts: list[Verdict] = []
    slow = chain(Scripted(never), after, clock=clock, failure=failure)
    Deferred.fromCoroutine(slow.on_connect(ORIGIN)).addCallback(verdicts.append)
    clock.advance(4.9)
    assert verdicts == []
    clock.advance(0.2)
    assert [verdict.action for verdict in verdicts] == [action]


def later(value: object) -> Any:
    async def give() -> object:
        return value

    return give()


@pytest.mark.parametrize("way", [lambda verdict: verdict, later, succeed], ids=["plain", "coroutine", "Deferred"])
@pytest.mark.parametrize("action", ["accept", "reject"])
def test_a_method_may_give_its_verdict_in_any_way(way: Callable[[Verdict], Any], action: Any) -> None:
    policy: Any = Scripted(saying(ACCEPT))
    policy.on_connect = lambda origin: way(Verdict(action))
    assert result_of(chain(policy).on_connect(ORIGIN)).action == action


def test_a_deferred_is_waited_for_and_cut_off_in_time() -> None:
    clock = Clock()
    pending: Deferred[Verdict] = Deferred()
    policy: Any = Scripted(saying(ACCEPT))
    policy.on_mail = lambda origin, envelope: pending
    verdicts: list[Verdict] = []
    Deferred.fromCoroutine(chain(policy, clock=clock).on_mail(ORIGIN, ENVELOPE)).addCallback(verdicts.append)
    assert verdicts == []
    clock.advance(6)
    assert [verdict.action for verdict in verdicts] == ["defer"]
    # It was cancelled, so that what it waits for may be let go.
    assert pending.called


def test_a_deferred_that_fails_is_a_failure() -> None:
    policy: Any = Scripted(saying(ACCEPT))
    policy.on_connect = lambda origin: fail(OSError("no"))
    assert result_of(chain(policy).on_connect(ORIGIN)).action == "defer"


ODD: Any = Verdict


@pytest.mark.parametrize("wrong", [None, True, "accept", ODD("accpet"), ODD([])])
def test_what_is_no_verdict_is_a_failure_told_by_name(wrong: object) -> None:
    policy: Any = Scripted(saying(ACCEPT))
    policy.on_connect = lambda origin: wrong
    with capturedLogs() as events:
        assert result_of(chain(policy).on_connect(ORIGIN)).action == "defer"
    (line,) = [formatEvent(event) for event in events]
    assert line.startswith("policy failed")
    assert "p0" in line


@pytest.mark.parametrize(
    ("verdict", "error", "status"),
    [
        (Verdict("reject", "5.7.26", "No SPF"), NotPermitted, "5.7.26"),
        (Verdict("reject", "4.7.1"), NotPermitted, "5.7.1"),
        (Verdict("defer", "4.7.1", "Later"), TemporaryError, "4.7.1"),
        (Verdict("defer", "550"), TemporaryError, "4.7.1"),
        (Verdict("discard"), NotPermitted, "5.7.1"),
    ],
)
def test_verdicts_as_errors(verdict: Verdict, error: type[MailError], status: str) -> None:
    with pytest.raises(error) as caught:
        obey(verdict)
    assert caught.value.status == status
    obey(ACCEPT)
