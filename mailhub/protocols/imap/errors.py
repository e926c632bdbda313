"""The one table from domain errors to IMAP's response codes (RFC 5530, RFC 3501 7.1)."""

from __future__ import annotations

from mailhub import errors
from mailhub.wire.imap import responses

# The first class that fits counts, so the special ones stand before the general ones.
_CODES: tuple[tuple[type[errors.MailError], bytes], ...] = (
    (errors.NoSuchMailbox, responses.NONEXISTENT),
    (errors.MailboxExists, responses.ALREADYEXISTS),
    (errors.InvalidMailboxName, responses.CANNOT),
    (errors.OverQuota, responses.OVERQUOTA),
    (errors.MessageTooLarge, responses.TOOBIG),
    (errors.MessageGone, responses.EXPUNGEISSUED),
    (errors.NotPermitted, responses.NOPERM),
    (errors.AuthenticationFailed, responses.AUTHENTICATIONFAILED),
    (errors.TemporaryError, responses.UNAVAILABLE),
)


def code_for(error: errors.MailError, *, target: bool = False) -> bytes:
    """The response code, or nothing. `target`: a mailbox to put messages in was named, so it may be created first."""
    if target and isinstance(error, errors.NoSuchMailbox):
        return responses.TRYCREATE
    for kind, code in _CODES:
        if isinstance(error, kind):
            return code
    return responses.UNAVAILABLE if error.temporary else b""
