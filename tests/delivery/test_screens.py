"""Screens as one: order, time, failure."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from typing import Any

import attrs
import pytest
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock
from twisted.logger import capturedLogs, formatEvent
from zope.interface import implementer

from mailhub.delivery.limits import FailMode
from mailhub.delivery.screens import EditRefused, GuardedPolicy, Screening, Screens, obey
from mailhub.errors import MailError, NotPermitted, TemporaryError
from mailhub.interfaces import ACCEPT, AddField, Edit, IPolicy, Origin, OwnTransaction, Screen, Verdict
from mailhub.message.address import Address
from mailhub.message.envelope import Mail, Recipient
from mailhub.testing.waiting import result_of

ORIGIN = Origin("smtp", "192.0.2.1", "s1")
TRANSACTION = OwnTransaction(ORIGIN, Mail(Address("a", "xx.example")))
TO = Recipient(Address("b", "yy.example"))
Answer = Callable[[], Any]
ADD = AddField("X-Screen", "seen")


class Scripted:
    """Gives the same answer at every moment and notes the moments. It is no `Screen`: nobody need be one."""

    def __init__(self, answer: Answer) -> None:
        self.answer = answer
        self.moments: list[str] = []

    def _say(self, moment: str) -> Any:
        self.moments.append(moment)
        return self.answer()

    def hello(self, origin: Origin) -> Any:
        return self._say("hello")

    async def login(self, origin: Origin) -> Any:
        given = self._say("login")
        return await given if hasattr(given, "__await__") else given

    def mail(self, transaction: Any) -> Any:
        return self._say("mail")

    def recipient(self, transaction: Any, recipient: Recipient) -> Any:
        return self._say(f"recipient {recipient.address}")

    def recipient_refused(self, transaction: Any, recipient: Recipient, error: MailError) -> Any:
        return self._say(f"refused {recipient.address} {error.status}")

    def message(self, message: Any) -> Any:
        return self._say("message")

    def closed(self) -> Any:
        return self._say("closed")


@implementer(IPolicy)
class Policy:
    """Begins with what it is given."""

    def __init__(self, begin: Callable[[], Any]) -> None:
        self._begin = begin

    def begin(self, origin: Origin) -> Any:
        return self._begin()


def saying(verdict: object) -> Scripted:
    return Scripted(lambda: verdict)


def raising(error: BaseException) -> Answer:
    def answer() -> Any:
        raise error

    return answer


def screening(*begins: Callable[[], Any], clock: Clock | None = None, failure: FailMode = "tempfail") -> Screening:
    guarded = [GuardedPolicy(f"p{n}", Policy(begin), 5.0, failure) for n, begin in enumerate(begins)]
    return Screening(guarded, clock or Clock())


def screens(*each: Any, clock: Clock | None = None, failure: FailMode = "tempfail") -> Screens:
    begins: list[Callable[[], Any]] = [lambda screen=screen: screen for screen in each]  # type: ignore[misc]
    return result_of(screening(*begins, clock=clock, failure=failure).begin(ORIGIN))


async def take(edits: Sequence[Edit]) -> None:
    """No edit is refused."""


def test_every_moment_is_asked_and_without_objections_accepted() -> None:
    screen = saying(ACCEPT)
    asked = screens(screen)
    for moment, arguments in (
        ("hello", (ORIGIN,)),
        ("login", (ORIGIN,)),
        ("mail", (TRANSACTION,)),
        ("recipient", (TRANSACTION, TO)),
        ("message", (TRANSACTION,)),
    ):
        assert result_of(asked.ask(moment, take, *arguments)) is ACCEPT  # type: ignore[arg-type]
    result_of(asked.tell("recipient_refused", TRANSACTION, TO, NotPermitted("no")))
    asked.close()
    asked.close()
    assert screen.moments == [
        "hello",
        "login",
        "mail",
        "recipient b@yy.example",
        "message",
        "refused b@yy.example 5.7.1",
        "closed",
    ]


def test_only_what_a_screen_overrides_is_asked() -> None:
    class OneMoment(Screen):
        def mail(self, transaction: Any) -> Verdict:
            return Verdict("reject")

    class Bare:
        def closed(self) -> None:
            pass

    asked = screens(OneMoment(), Bare())
    moments: tuple[Any, ...] = ("hello", "login", "mail", "recipient", "message", "closed")
    wanted = [moment for moment in moments if asked.wants(moment)]
    assert wanted == ["mail", "closed"]


def test_what_stands_for_a_method_and_is_none_is_no_screen() -> None:
    class Odd(Scripted):
        message: Any = None  # left out

    class Wrong(Scripted):
        message: Any = Verdict("reject")

    assert not screens(Odd(lambda: ACCEPT)).wants("message")
    with pytest.raises(TemporaryError):
        screens(Wrong(lambda: ACCEPT))


def test_each_connection_has_its_own_screen() -> None:
    made: list[Scripted] = []

    def begin() -> Scripted:
        made.append(saying(ACCEPT))
        return made[-1]

    policy = screening(begin)
    first, second = (result_of(policy.begin(ORIGIN)) for _ in range(2))
    result_of(first.ask("hello", take, ORIGIN))
    second.close()
    assert [screen.moments for screen in made] == [["hello"], ["closed"]]


def test_the_first_objection_counts_and_ends_the_round() -> None:
    no = Verdict("reject", "5.7.1", "No")
    last = saying(Verdict("defer"))
    assert result_of(screens(saying(ACCEPT), saying(no), last).ask("hello", take, ORIGIN)) == no
    assert last.moments == []


def test_quarantine_lets_the_others_speak() -> None:
    asked = screens(saying(Verdict("quarantine")), saying(ACCEPT))
    assert result_of(asked.ask("mail", take, TRANSACTION)).action == "quarantine"
    asked = screens(saying(Verdict("quarantine")), saying(Verdict("reject")))
    assert result_of(asked.ask("mail", take, TRANSACTION)).action == "reject"


@pytest.mark.parametrize(("failure", "action"), [("tempfail", "defer"), ("skip", "reject")])
def test_a_screen_that_fails_or_takes_too_long_does_what_it_declared(failure: FailMode, action: str) -> None:
    after = saying(Verdict("reject"))
    asked = screens(Scripted(raising(KeyError("bug"))), after, failure=failure)
    assert result_of(asked.ask("hello", take, ORIGIN)).action == action

    clock = Clock()
    verdicts: list[Verdict] = []
    slow = screens(Scripted(Deferred), after, clock=clock, failure=failure)
    Deferred.fromCoroutine(slow.ask("hello", take, ORIGIN)).addCallback(verdicts.append)
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
    asked = screens(Scripted(lambda: way(Verdict(action))))
    assert result_of(asked.ask("mail", take, TRANSACTION)).action == action


def test_a_deferred_is_waited_for_and_cut_off_in_time() -> None:
    clock = Clock()
    pending: Deferred[Verdict] = Deferred()
    verdicts: list[Verdict] = []
    asked = screens(Scripted(lambda: pending), clock=clock)
    Deferred.fromCoroutine(asked.ask("mail", take, TRANSACTION)).addCallback(verdicts.append)
    assert verdicts == []
    clock.advance(6)
    assert [verdict.action for verdict in verdicts] == ["defer"]
    # It was cancelled, so that what it waits for may be let go.
    assert pending.called


def test_a_coroutine_that_goes_on_when_it_is_cancelled_holds_up_nobody() -> None:
    clock = Clock()
    steps: list[Deferred[None]] = []

    async def stubborn() -> Verdict:
        while True:
            steps.append(Deferred())
            with contextlib.suppress(Exception):
                await steps[-1]
                return Verdict("reject")

    verdicts: list[Verdict] = []
    asked = screens(Scripted(stubborn), clock=clock)
    Deferred.fromCoroutine(asked.ask("mail", take, TRANSACTION)).addCallback(verdicts.append)
    clock.advance(6)
    assert [verdict.action for verdict in verdicts] == ["defer"]
    # What it says in the end is nobody's.
    steps[-1].callback(None)
    assert len(verdicts) == 1


@pytest.mark.parametrize("error", [SystemExit(1), KeyboardInterrupt(), asyncio.CancelledError()])
def test_what_would_end_the_process_is_a_failure(error: Any) -> None:
    assert result_of(screens(Scripted(raising(error))).ask("hello", take, ORIGIN)).action == "defer"
    with pytest.raises(TemporaryError):
        result_of(screening(raising(error)).begin(ORIGIN))
    screens(Scripted(raising(error))).close()


def test_a_bug_is_told_with_its_place() -> None:
    def bug() -> Any:
        return 1 + None  # type: ignore[operator]

    with capturedLogs() as events:
        result_of(screens(Scripted(bug)).ask("hello", take, ORIGIN))
    assert "in bug" in events[0]["log_failure"].getTraceback()


def test_a_deferred_that_fails_is_a_failure() -> None:
    assert result_of(screens(Scripted(lambda: fail(OSError("no")))).ask("hello", take, ORIGIN)).action == "defer"


ODD: Any = Verdict


@pytest.mark.parametrize(
    "wrong",
    [
        None,
        True,
        "accept",
        ODD("accpet"),
        ODD([]),
        ODD("reject", 550),
        ODD("reject", "5.7.1", b"No"),
        ODD("accept", edits=ADD),
        ODD("accept", edits=(edit for edit in [ADD])),
    ],
)
def test_what_is_no_verdict_is_a_failure_told_by_name(wrong: object) -> None:
    asked = screens(saying(wrong))
    with capturedLogs() as events:
        assert result_of(asked.ask("hello", take, ORIGIN)).action == "defer"
    (line,) = [formatEvent(event) for event in events]
    assert line.startswith("policy failed")
    assert "policy=p0 session=s1 method=hello" in line


# --- Edits ----------------------------------------------------------------------------------------------------------


def test_edits_are_taken_before_the_next_is_asked_and_only_of_what_passes() -> None:
    taken: list[Any] = []

    async def take(edits: Sequence[Edit]) -> None:
        taken.append(list(edits))

    class Looks(Screen):
        def mail(self, transaction: Any) -> Verdict:
            taken.append("asked")
            return Verdict("discard", edits=(ADD,))

    first, second = saying(Verdict(edits=(ADD,))), saying(Verdict("quarantine", edits=[ADD, ADD]))
    assert result_of(screens(first, second, Looks()).ask("mail", take, TRANSACTION)).action == "discard"
    assert taken == [[ADD], [ADD, ADD], "asked"]


@pytest.mark.parametrize(("failure", "action"), [("tempfail", "defer"), ("skip", "accept")])
def test_an_edit_that_is_refused_is_a_failure_told_by_name(failure: FailMode, action: str) -> None:
    async def take(edits: Sequence[Edit]) -> None:
        raise EditRefused("no such thing")

    asked = screens(saying(Verdict(edits=(ADD,))), failure=failure)
    with capturedLogs() as events:
        assert result_of(asked.ask("mail", take, TRANSACTION)).action == action
    (line,) = [formatEvent(event) for event in events]
    assert "policy=p0" in line
    assert "no such thing" in line


# --- Begin and end --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("error", [NotPermitted("Go away"), TemporaryError("Not now")])
def test_a_policy_may_refuse_a_connection(error: MailError) -> None:
    before = saying(ACCEPT)
    with pytest.raises(type(error)) as caught:
        result_of(screening(lambda: before, raising(error)).begin(ORIGIN))
    assert caught.value is error
    assert before.moments == ["closed"]


@pytest.mark.parametrize(
    "begin", [raising(KeyError("bug")), lambda: None, lambda: "screen", lambda: Scripted, lambda: fail(OSError())]
)
def test_a_policy_that_cannot_begin_does_what_it_declared_and_others_are_asked(begin: Callable[[], Any]) -> None:
    with capturedLogs() as events, pytest.raises(TemporaryError) as caught:
        result_of(screening(begin).begin(ORIGIN))
    assert caught.value.status == "4.7.1"
    assert "policy=p0 session=s1 method=begin" in formatEvent(events[0])
    other = saying(Verdict("reject"))
    asked = result_of(screening(begin, lambda: succeed(other), failure="skip").begin(ORIGIN))
    assert result_of(asked.ask("mail", take, TRANSACTION)).action == "reject"


def test_a_policy_that_begins_too_late_has_no_screen() -> None:
    clock = Clock()
    ended: list[Any] = []
    begun = Deferred.fromCoroutine(screening(Deferred, clock=clock).begin(ORIGIN))
    begun.addErrback(lambda failure: ended.append(failure.type))
    clock.advance(6)
    assert ended == [TemporaryError]


def test_nobody_is_asked_after_the_end() -> None:
    pending: Deferred[Verdict] = Deferred()
    last = saying(ACCEPT)
    asked = screens(Scripted(lambda: pending), last)
    verdicts: list[Verdict] = []
    Deferred.fromCoroutine(asked.ask("mail", take, TRANSACTION)).addCallback(verdicts.append)
    asked.close()
    pending.callback(ACCEPT)
    assert last.moments == ["closed"]
    assert [verdict.action for verdict in verdicts] == ["defer"]


def test_the_end_is_told_to_all_whatever_one_of_them_does() -> None:
    clock = Clock()
    last = saying(None)
    asked = screens(Scripted(raising(KeyError("bug"))), Scripted(Deferred), last, clock=clock)
    with capturedLogs() as events:
        asked.close()
        assert last.moments == ["closed"], "nobody waits for another's farewell"
        clock.advance(6)
    assert [formatEvent(event).split(":")[0] for event in events] == ["policy failed", "policy timed out"]


@pytest.mark.parametrize(
    ("verdict", "error", "status"),
    [
        (Verdict("reject", "5.7.26", "No SPF"), NotPermitted, "5.7.26"),
        (Verdict("reject", "4.7.1"), NotPermitted, "5.7.1"),
        (Verdict("defer", "4.7.1", "Later"), TemporaryError, "4.7.1"),
        (Verdict("defer", "550"), TemporaryError, "4.7.1"),
        (Verdict("reject", "5.7.1\r\n250 OK"), NotPermitted, "5.7.1"),
        (Verdict("reject", "5.7.1 no"), NotPermitted, "5.7.1"),
        (Verdict("discard"), NotPermitted, "5.7.1"),
    ],
)
def test_verdicts_as_errors(verdict: Verdict, error: type[MailError], status: str) -> None:
    with pytest.raises(error) as caught:
        obey(verdict)
    assert caught.value.status == status
    with pytest.raises(error) as caught:
        obey(attrs.evolve(verdict, text="x" * 100_000))
    assert len(caught.value.text) == 500, "the log holds it, too"
    obey(ACCEPT)
    obey(Verdict("quarantine"))
