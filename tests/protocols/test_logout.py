"""An account that cannot be let go of costs a line in the log, and nobody anything else."""

from __future__ import annotations

from typing import Any

from twisted.logger import capturedLogs, formatEvent

from mailhub.log import Logger
from mailhub.protocols.logout import log_out


class Account:
    """A store whose logout fails, at once."""

    async def logout(self) -> None:
        raise OSError("no disk")


def test_a_failed_logout_is_logged_with_the_session() -> None:
    account: Any = Account()
    with capturedLogs() as logs:
        log_out(account, "abcde1", Logger(namespace="mailhub.test"))
    assert [formatEvent(event) for event in logs] == ["logout failed: session=abcde1"]
    assert logs[0]["log_failure"].check(OSError)
