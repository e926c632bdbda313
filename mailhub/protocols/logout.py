"""Letting go of an account at the end of a session."""

from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from mailhub.interfaces import IMailAccount
from mailhub.log import Logger


def log_out(account: IMailAccount, session_id: str, log: Logger) -> None:
    """Tell the store, and wait for nothing: the session is over. What goes wrong is logged."""

    def failed(failure: Failure) -> None:
        log.failure("logout failed: session={session_id}", failure=failure, session_id=session_id)

    Deferred.fromCoroutine(account.logout()).addErrback(failed)
