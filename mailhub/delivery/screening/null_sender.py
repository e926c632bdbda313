"""What comes from nobody (RFC 5321 4.5.5) reports on a message, to the one who has sent that."""

from __future__ import annotations

import attrs

from mailhub.errors import TemporaryError
from mailhub.interfaces import Origin
from mailhub.keys import limit, setting
from mailhub.net.networks import TRUSTED, Networks

RULE = "null-sender"


@attrs.frozen
class NullSender:
    """How many `recipients` a message with the null reverse-path has at most, unless its client is `trusted`.

    Always on: it costs no mail, for a server that means it sends the others in messages of their own (RFC 5321
    4.5.3.1.10).
    """

    recipients: int = limit("null_sender_recipients", 1, 1, 100_000)
    trusted: Networks = setting(TRUSTED, Networks.of)

    def check(self, origin: Origin, accepted: int) -> None:
        """Before one more recipient than these. Raises TemporaryError."""
        if accepted < self.recipients or origin.user or origin.submission or origin.each_recipient:
            return
        if origin.peer and origin.peer not in self.trusted:
            text = f"One recipient a message from the null sender ({RULE})"
            raise TemporaryError(text, status="4.5.3", rule=RULE)
