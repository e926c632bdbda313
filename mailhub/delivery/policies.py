"""The policies of a hub as one: asked in order, each within its time, each with its way to fail."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.defer import TimeoutError as DeferredTimeout
from twisted.internet.interfaces import IReactorTime
from zope.interface import implementer

from mailhub.answers import answer
from mailhub.errors import NotPermitted, TemporaryError
from mailhub.interfaces import ACCEPT, IBody, IPolicy, Origin, Verdict
from mailhub.log import Logger
from mailhub.message.address import Address
from mailhub.message.envelope import Mail

_log = Logger(namespace="mailhub.delivery.policy")

FailMode = Literal["tempfail", "skip"]
_ACTIONS = frozenset({"accept", "reject", "defer", "discard"})
_UNAVAILABLE = Verdict("defer", "4.7.1", "Try again later")


@attrs.frozen
class GuardedPolicy:
    """A policy with the time it may take for one answer and what happens when it has none.

    "tempfail" defers the client, "skip" goes on as if the policy were not there.
    """

    name: str
    policy: IPolicy
    timeout_seconds: float = 30.0
    failure: FailMode = "tempfail"


@implementer(IPolicy)
class PolicyChain:
    """The first verdict other than ACCEPT counts. Never raises."""

    def __init__(self, policies: Sequence[GuardedPolicy], clock: IReactorTime) -> None:
        self._policies = tuple(policies)
        self._clock = clock

    async def on_connect(self, origin: Origin) -> Verdict:
        """See `IPolicy`."""
        return await self._first(origin, lambda policy: policy.on_connect(origin))

    async def on_mail(self, origin: Origin, envelope: Mail) -> Verdict:
        """See `IPolicy`."""
        return await self._first(origin, lambda policy: policy.on_mail(origin, envelope))

    async def on_recipient(self, origin: Origin, envelope: Mail, recipient: Address) -> Verdict:
        """See `IPolicy`."""
        return await self._first(origin, lambda policy: policy.on_recipient(origin, envelope, recipient))

    async def on_message(self, origin: Origin, envelope: Mail, recipients: Sequence[Address], body: IBody) -> Verdict:
        """See `IPolicy`."""
        return await self._first(origin, lambda policy: policy.on_message(origin, envelope, recipients, body))

    async def _first(self, origin: Origin, ask: Callable[[IPolicy], Any]) -> Verdict:
        for guarded in self._policies:
            verdict = await self._answer(guarded, origin, ask)
            if verdict.action != "accept":
                return verdict
        return ACCEPT

    async def _answer(self, guarded: GuardedPolicy, origin: Origin, ask: Callable[[IPolicy], Any]) -> Verdict:
        fields: dict[str, Any] = {"policy": guarded.name, "session": origin.session_id}
        try:
            given = Deferred.fromCoroutine(_asked(ask, guarded.policy))
            verdict = await given.addTimeout(guarded.timeout_seconds, self._clock)
            if isinstance(verdict, Verdict) and verdict.action in _ACTIONS:
                return verdict
            _log.error("policy failed: policy={policy} session={session} gave={gave}", gave=repr(verdict), **fields)
        except DeferredTimeout:
            _log.warn("policy timed out: policy={policy} session={session}", **fields)
        except Exception:
            _log.failure("policy failed: policy={policy} session={session}", **fields)
        return ACCEPT if guarded.failure == "skip" else _UNAVAILABLE


async def _asked(ask: Callable[[IPolicy], Any], policy: IPolicy) -> Any:
    return await answer(ask(policy))


def obey(verdict: Verdict) -> None:
    """Go on, or raise NotPermitted or TemporaryError: what a verdict means where nothing can be discarded."""
    if verdict.action == "accept":
        return
    if verdict.action == "defer":
        raise TemporaryError(verdict.text, status=_in_class(verdict.status, "4", "4.7.1"))
    raise NotPermitted(verdict.text, status=_in_class(verdict.status, "5", "5.7.1"))


def _in_class(status: str, digit: str, default: str) -> str:
    """A policy that rejects with a 4.x.x status has made a mistake: the action counts."""
    return status if status.startswith(digit + ".") else default
