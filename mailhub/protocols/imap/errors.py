"""The one table from domain errors to IMAP's response codes (RFC 5530, RFC 3501 7.1)."""

from __future__ import annotations

from mailhub import errors
from mailhub.message.mailbox_names import is_allowed
from mailhub.wire.imap import responses

# The first class that fits counts, so the special ones stand before the general ones.
_CODES: tuple[tuple[type[errors.MailError], bytes], ...] = (
    (errors.NoSuchMailbox, responses.NONEXISTENT),
    (errors.MailboxExists, responses.ALREADYEXISTS),
    (errors.InvalidMailboxName, responses.CANNOT),
    (errors.OverQuota, responses.OVERQUOTA),
    (errors.TooManyKeywords, responses.LIMIT),
    (errors.MessageTooLarge, responses.TOOBIG),
    (errors.MessageGone, responses.EXPUNGEISSUED),
    (errors.MessageDamaged, responses.SERVERBUG),
    (errors.NotPermitted, responses.NOPERM),
    (errors.AuthenticationFailed, responses.AUTHENTICATIONFAILED),
    (errors.TemporaryError, responses.UNAVAILABLE),
)


def code_for(error: errors.MailError, *, target: str | None = None) -> bytes:
    """The response code, or nothing. `target`: the mailbox that was named to put messages in, which may be created
    first (RFC 3501 6.3.11) unless none can have this name."""
    if target is not None and isinstance(error, errors.NoSuchMailbox) and is_allowed(target):
        return responses.TRYCREATE
    for kind, code in _CODES:
        if isinstance(error, kind):
            return code
    return responses.UNAVAILABLE if error.temporary else b""
