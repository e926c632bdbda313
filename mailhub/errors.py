"""The one family of errors that domain code raises.

Each carries an enhanced status code (RFC 3463) whose class digit says temporary (4) or permanent (5), a `text`
that may be shown to the client, and a `detail` that goes to the log alone, as does the name of the `rule` that has
spoken where there is one. Each protocol turns them into its own replies in one table; SMTP's has another code where one
is given (`code`: 45x or 55x, as the status is).
"""

from __future__ import annotations

import re
from typing import ClassVar

_STATUS = re.compile(r"[45](?:\.[0-9]{1,3}){2}")  # RFC 3463 2


class MailError(Exception):
    """A refusal with a reason. Raise a subclass, not this."""

    default_status: ClassVar[str] = "5.0.0"
    default_text: ClassVar[str] = "Refused"

    def __init__(self, text: str = "", *, status: str = "", detail: str = "", rule: str = "", code: int = 0) -> None:
        # Plugins raise it, too: with whatever they have at hand.
        self.text = str(text or self.default_text)
        status = str(status)
        self.status = status if _STATUS.fullmatch(status) else self.default_status
        self.detail = detail
        self.rule = rule
        self.code = code if code // 10 == 5 + 10 * int(self.status[0]) else 0
        super().__init__(f"{self.status} {self.text}" + (f" ({detail})" if detail else ""))

    @property
    def temporary(self) -> bool:
        """Whether the same request may succeed later."""
        return self.status.startswith("4")


class TemporaryError(MailError):
    """Try again later."""

    default_status = "4.3.0"
    default_text = "Temporary failure, please try again later"


class PermanentError(MailError):
    """Will not succeed however often it is tried."""

    default_status = "5.3.0"
    default_text = "Refused"


class StoreUnavailable(TemporaryError):
    """The database or the disk did not answer."""

    default_text = "Storage is not available, please try again later"


class StorageFull(StoreUnavailable):
    """The disk is full, or all but its reserve (RFC 3463 X.3.1)."""

    default_status = "4.3.1"
    default_text = "Insufficient system storage, please try again later"


class Busy(TemporaryError):
    """A bounded resource is full at the moment."""

    default_status = "4.3.2"
    default_text = "Too busy, please try again later"


class NoSuchUser(PermanentError):
    """No account or alias has this address (RFC 3463 X.1.1)."""

    default_status = "5.1.1"
    default_text = "No such user here"


class NotYetKnown(TemporaryError):
    """No account or alias has this address now; a checker of others' accounts may know the user, and the first login
    makes the account."""

    default_text = "No such user here yet, please try again later"


class OverQuota(PermanentError):
    """The account's capacity is used up (RFC 3463 X.2.2)."""

    default_status = "5.2.2"
    default_text = "Mailbox is full"


class TooManyKeywords(PermanentError):
    """More keywords than a message or a mailbox may have; nothing was changed (RFC 3463 X.2.0)."""

    default_status = "5.2.0"
    default_text = "Too many keywords"


class MessageTooLarge(PermanentError):
    """More octets than the limit allows (RFC 3463 X.3.4)."""

    default_status = "5.3.4"
    default_text = "Message is too large"


class AuthenticationFailed(PermanentError):
    """Unknown user or wrong password: the two are never told apart (RFC 4954 6)."""

    default_status = "5.7.8"
    default_text = "Authentication failed"


class NotPermitted(PermanentError):
    """The policy does not allow it (RFC 3463 X.7.1)."""

    default_status = "5.7.1"
    default_text = "Not permitted"


class NoSuchMailbox(PermanentError):
    """The named mailbox does not exist (any more)."""

    default_status = "5.2.0"
    default_text = "No such mailbox"


class MailboxExists(PermanentError):
    """A mailbox with this name exists already."""

    default_status = "5.2.0"
    default_text = "Mailbox exists already"


class InvalidMailboxName(PermanentError):
    """The name breaks a rule for names, or a bound on their length, depth or number."""

    default_status = "5.2.0"
    default_text = "Not a valid mailbox name"


class MessageGone(PermanentError):
    """The message was expunged by another session."""

    default_status = "5.2.0"
    default_text = "Message is gone"


class MessageDamaged(PermanentError):
    """The message is there, but its octets are lost or not what arrived. The operator has to be told."""

    default_status = "5.3.0"
    default_text = "The message is damaged on the server and cannot be read"


class ConfigurationError(Exception):
    """A mistake in the configuration or the machine's set-up: one line that names file, table and key.

    Shown to the operator as it stands, without a traceback; the process ends with status 1.
    """
