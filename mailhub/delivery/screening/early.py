"""Clients that do not wait for their turn: before the greeting, or behind a command whose reply must be seen first
(RFC 5321 4.3.1, RFC 2920 3.1). Mail servers wait; what sends to thousands at once often does not."""

from __future__ import annotations

import attrs
from twisted.internet.task import deferLater
from zope.interface import implementer

from mailhub.delivery.screening.rule import Rule, number
from mailhub.interfaces import (
    ACCEPT,
    Environment,
    IHub,
    IMessageView,
    IPolicy,
    ITransactionView,
    Origin,
    Screen,
    Verdict,
)

_WAITING = 1000  # connections whose greeting is held back at the same time; others are greeted at once


@attrs.frozen
class EarlyOptions:
    """`greeting_delay_seconds`: how long a stranger is kept waiting for the greeting, which is how the impatient are
    found."""

    greeting_delay_seconds: int = number(2, 0, 25)


@implementer(IPolicy)
@attrs.define(eq=False)
class EarlyTalker(Screen):
    """Refuses who has spoken too early, at the next step."""

    _options: EarlyOptions
    _environment: Environment
    _rule: Rule
    _waiting: int = 0

    @classmethod
    def of(cls, options: EarlyOptions, hub: IHub) -> EarlyTalker:
        """The policy of a hub."""
        return cls(options, hub.environment, Rule.of(hub))

    async def begin(self, origin: Origin) -> Screen:
        """See `IPolicy`."""
        if not self._rule.concerns(origin):
            return Screen()
        seconds = self._options.greeting_delay_seconds
        if seconds and self._waiting < _WAITING and not origin.rehearsal:
            self._waiting += 1
            try:
                await deferLater(self._environment.clock, seconds)
            finally:
                self._waiting -= 1
        return self

    def hello(self, origin: Origin) -> Verdict:
        """See `IScreen`."""
        return self._look(origin)

    def mail(self, transaction: ITransactionView) -> Verdict:
        """See `IScreen`."""
        return self._look(transaction.origin)

    def message(self, message: IMessageView) -> Verdict:
        """See `IScreen`."""
        return self._look(message.origin)

    def _look(self, origin: Origin) -> Verdict:
        if not (origin.early and self._rule.concerns(origin)):
            return ACCEPT
        return self._rule.reject("5.5.0", "You have spoken before it was your turn")
