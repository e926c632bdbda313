"""The policies of a hub as one: their screens are asked in order, each within its time, each with its way to fail."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Sequence
from itertools import islice
from typing import Any, Literal, TypeGuard

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime

from mailhub.answers import Nonsense, shown
from mailhub.delivery.limits import POLICY_FAILURE, POLICY_TIMEOUT, FailMode
from mailhub.errors import MailError, NotPermitted, TemporaryError
from mailhub.guard import Guard, Unanswered
from mailhub.interfaces import ACCEPT, Edit, IPolicy, Origin, Screen, Verdict
from mailhub.keys import setting
from mailhub.log import Logger
from mailhub.message.edits import EDITS_LIMIT

Moment = Literal["hello", "login", "mail", "recipient", "recipient_refused", "message", "closed"]
# What carries out edits before the next screen is asked. Raises EditRefused.
Take = Callable[[Sequence[Edit]], Awaitable[None]]
# Is told what each policy says, by its name. Where there is one, all are asked, also behind one that refuses.
Witness = Callable[[str, str, Verdict], None]

_log = Logger(namespace="mailhub.delivery")

_MOMENTS: tuple[Moment, ...] = ("hello", "login", "mail", "recipient", "recipient_refused", "message", "closed")
_ACTIONS = frozenset({"accept", "reject", "defer", "discard", "quarantine"})
_TEXT_LIMIT = 500  # characters of what a client is told; a reply's line has no room for more
_RULE_LIMIT = 100  # of these, for the rule
# RFC 3463 2
_STATUS = re.compile(r"[245]\.[0-9]{1,3}\.[0-9]{1,3}")
_UNAVAILABLE = Verdict("defer", "4.7.1", "Try again later")
_QUARANTINE = Verdict("quarantine")


@attrs.frozen
class GuardedPolicy:
    """A policy with the time it may take for one answer and what happens when it has none.

    "tempfail" defers the client, "skip" goes on as if the policy were not there.
    """

    name: str
    policy: IPolicy
    timeout_seconds: float = setting(POLICY_TIMEOUT)
    failure: FailMode = setting(POLICY_FAILURE)
    guard: Guard | None = None

    def guarded(self, clock: IReactorTime) -> Guard:
        """What it is called by."""
        return self.guard or Guard("policy", self.name, "", clock, self.timeout_seconds, self.failure)


class EditRefused(Nonsense):
    """A screen asks for an edit that would not leave a message; the text says why."""


@attrs.frozen
class _Asked:
    """A method of a screen, and how it is guarded."""

    guard: Guard
    moment: Moment
    method: Callable[..., Any]


class Screens:
    """The screens of one connection. Its questions never raise."""

    def __init__(self, session_id: str, witness: Witness | None = None) -> None:
        self._about = {"session": session_id}
        self._witness = witness
        self._asked: dict[Moment, list[_Asked]] = {}

    def add(self, guard: Guard, screen: object) -> None:
        """Ask this one, too. Raises Nonsense for what is no screen."""
        methods = {moment: getattr(screen, moment, None) for moment in _MOMENTS}
        given = [method for method in methods.values() if method is not None]
        if isinstance(screen, type) or not given or not all(map(callable, given)):
            raise Nonsense(f"begin() gave {shown(screen)}")
        for moment, method in methods.items():
            # Who has not overridden the method of `Screen` has nothing to say.
            if callable(method) and getattr(method, "__func__", method) is not getattr(Screen, moment):
                self._asked.setdefault(moment, []).append(_Asked(guard, moment, method))

    def wants(self, moment: Moment) -> bool:
        """Whether somebody has a say at this moment."""
        return moment in self._asked

    async def ask(self, moment: Moment, take: Take, *arguments: object) -> Verdict:
        """What all of them say: the first that rejects, defers or discards; else whether one wants it quarantined. What
        they edit has been taken by then."""
        together = ACCEPT
        refusal: Verdict | None = None
        for asked in self._asked.get(moment, ()):
            if not self._asked:
                return _UNAVAILABLE  # closed while one before it was thinking
            verdict = await self._verdict(asked, take, arguments)
            if self._witness is not None:
                self._witness(moment, asked.guard.name, verdict)
            if verdict.action == "quarantine":
                rule = _rule_of(verdict, asked.guard.name)
                _log.event("quarantined", {**self._about, "rule": rule})
                together = _QUARANTINE
            elif verdict.action != "accept":
                refusal = refusal or _named(verdict, asked.guard.name)
                if self._witness is None:
                    return refusal
        return refusal or together

    async def tell(self, moment: Moment, *arguments: object) -> None:
        """Something that nobody has a say in."""
        for asked in self._asked.get(moment, ()):
            await self._tell(asked, arguments)

    def close(self) -> None:
        """The connection is over. May be called again."""
        asked, self._asked = self._asked, {}
        for each in asked.get("closed", ()):
            Deferred.fromCoroutine(self._tell(each, ()))

    async def _tell(self, asked: _Asked, arguments: Sequence[object]) -> None:
        try:
            await self._answer(asked, arguments)
        except Unanswered:
            return
        except Exception as error:
            self._fault(asked, error)

    async def _verdict(self, asked: _Asked, take: Take, arguments: Sequence[object]) -> Verdict:
        try:
            given = await self._answer(asked, arguments)
            verdict, edits = asked.guard.look(asked.moment, _sound, given, self._about)
            if edits:
                await take(edits)
        except Exception as error:
            if not isinstance(error, Unanswered):
                self._fault(asked, error)
            return ACCEPT if asked.guard.failure == "skip" else _UNAVAILABLE
        return verdict

    async def _answer(self, asked: _Asked, arguments: Sequence[object]) -> Any:
        return await asked.guard.ask_about(self._about, asked.moment, asked.method, *arguments)

    def _fault(self, asked: _Asked, error: Exception) -> None:
        asked.guard.fault(asked.moment, error, self._about)


class Screening:
    """All policies of a hub."""

    def __init__(self, policies: Sequence[GuardedPolicy], clock: IReactorTime) -> None:
        self._policies = tuple((policy.policy, policy.guarded(clock)) for policy in policies)

    async def begin(self, origin: Origin, witness: Witness | None = None) -> Screens:
        """The screens of a new connection. Raises NotPermitted, TemporaryError."""
        screens = Screens(origin.session_id, witness)
        refusal: MailError | None = None
        try:
            for policy, guard in self._policies:
                try:
                    await self._begin(screens, policy, guard, origin)
                except (NotPermitted, TemporaryError) as error:
                    error.rule = error.rule or guard.name
                    if witness is None:
                        raise
                    action: Literal["defer", "reject"] = "defer" if error.temporary else "reject"
                    witness("connect", guard.name, Verdict(action, error.status, error.text))
                    refusal = refusal or error
            if refusal is not None:
                raise refusal
        except BaseException:
            screens.close()
            raise
        return screens

    async def _begin(self, screens: Screens, policy: IPolicy, guard: Guard, origin: Origin) -> None:
        about = {"session": origin.session_id}
        try:
            screen = await guard.ask_about(about, "begin", policy.begin, origin)
            guard.look("begin", lambda given: screens.add(guard, given), screen, about)
        except MailError as error:
            if not isinstance(error, Unanswered):
                if isinstance(error, NotPermitted | TemporaryError):
                    raise
                guard.fault("begin", error, about)
            if guard.failure == "tempfail":
                obey(_UNAVAILABLE)


def obey(verdict: Verdict) -> None:
    """Go on, or raise NotPermitted or TemporaryError: what a verdict means where nothing can be discarded."""
    if verdict.action in ("accept", "quarantine"):
        return
    text, rule = verdict.text[:_TEXT_LIMIT], verdict.rule
    if verdict.action == "defer":
        raise TemporaryError(text, status=_in_class(verdict.status, "4", "4.7.1"), rule=rule, code=verdict.code)
    raise NotPermitted(text, status=_in_class(verdict.status, "5", "5.7.1"), rule=rule, code=verdict.code)


def _named(verdict: Verdict, policy: str) -> Verdict:
    """With the rule that has spoken: in the text where the screen says which, and for the log in any case."""
    if not verdict.rule:
        return attrs.evolve(verdict, rule=policy)
    rule = verdict.rule[:_RULE_LIMIT]
    text = verdict.text or (TemporaryError if verdict.action == "defer" else NotPermitted).default_text
    told = f"{text[: _TEXT_LIMIT - _RULE_LIMIT - 3]} ({rule})"
    return attrs.evolve(verdict, text=told, rule=_rule_of(verdict, policy))


def _rule_of(verdict: Verdict, policy: str) -> str:
    """The policy and the rule that has spoken, for the log."""
    rule = verdict.rule[:_RULE_LIMIT]
    return policy if rule in ("", policy) else f"{policy}:{rule}"


def _in_class(status: str, digit: str, default: str) -> str:
    """A policy that rejects with a 4.x.x status has made a mistake: the action counts."""
    return status if status.startswith(digit) and _STATUS.fullmatch(status) else default


def _sound(given: object) -> tuple[Verdict, Sequence[Edit]]:
    """A verdict, and what it edits. Raises Nonsense."""
    if not _is_sound(given):
        raise Nonsense(f"it gave {shown(given)}")
    if not given.edits or given.action not in ("accept", "quarantine"):
        return given, ()
    edits = tuple(islice(given.edits, EDITS_LIMIT + 1))
    if len(edits) > EDITS_LIMIT:
        raise EditRefused(f"a message cannot have more than {EDITS_LIMIT} edits")
    return given, edits


def _is_sound(verdict: object) -> TypeGuard[Verdict]:
    """Whether it is a verdict, and its parts are what they should be. Later a mistake would be nobody's."""
    return (
        isinstance(verdict, Verdict)
        and isinstance(verdict.action, str)
        and verdict.action in _ACTIONS
        and isinstance(verdict.status, str)
        and isinstance(verdict.text, str)
        and isinstance(verdict.rule, str)
        and isinstance(verdict.code, int)
        and isinstance(verdict.edits, Sequence)
    )
