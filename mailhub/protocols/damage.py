"""How every protocol logs a message that cannot be read: the operator finds it by account, mailbox and UID."""

from __future__ import annotations

from mailhub.errors import MailError
from mailhub.log import Logger


def log_damage(log: Logger, error: MailError, *, session_id: str, user: str, mailbox: str, uid: int) -> None:
    """One line at error level."""
    log.error(
        "message cannot be read: session={session_id} user={user} mailbox={mailbox!r} uid={uid} reason={reason!r}",
        session_id=session_id,
        user=user,
        mailbox=mailbox,
        uid=uid,
        reason=str(error),
    )
