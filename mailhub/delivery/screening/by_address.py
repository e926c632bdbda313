"""Policies that judge a client by its address alone: once a connection, when the first recipient is named."""

from __future__ import annotations

from typing import Protocol

import attrs

from mailhub.delivery.screening.rule import is_open
from mailhub.interfaces import ACCEPT, ITransactionView, Origin, Screen, Verdict
from mailhub.message.envelope import Recipient


class Judge(Protocol):
    """Such a policy."""

    def concerns(self, origin: Origin) -> bool:
        """Whether a client is looked at."""

    async def judge(self, peer: str) -> Verdict:
        """What is said of a client's address."""


@attrs.define(eq=False)
class OnceAddressed(Screen):
    """One connection, whose address is looked up once. Whom everybody may write to needs no verdict."""

    _policy: Judge
    _verdict: Verdict | None = None

    async def recipient(self, transaction: ITransactionView, recipient: Recipient) -> Verdict:
        """See `IScreen`."""
        if is_open(recipient) or not self._policy.concerns(transaction.origin):
            return ACCEPT
        if self._verdict is None:
            self._verdict = await self._policy.judge(transaction.origin.peer)
        return self._verdict
