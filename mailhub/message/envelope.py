"""Values of a message in transport: envelope, recipients, what became of each (RFC 5321 2.3.1, RFC 3461)."""

from __future__ import annotations

from enum import Enum
from typing import Literal

import attrs

from mailhub.message.address import Address

BodyType = Literal["7BIT", "8BITMIME"]


@attrs.frozen
class Envelope:
    """What MAIL FROM said. `reverse_path` None is the null reverse-path `<>`."""

    reverse_path: Address | None
    body_type: BodyType = "7BIT"
    smtputf8: bool = False


class State(Enum):
    """What became of one recipient in one attempt; the words are RFC 3464's actions."""

    DELIVERED = "delivered"
    DELAYED = "delayed"
    FAILED = "failed"


@attrs.frozen
class Outcome:
    """The result of delivering to one recipient.

    `status` is an enhanced status code (RFC 3463); `reply` is what the next hop or the store said, for log
    and DSN. `remote` names the host that said it, empty for this one.
    """

    state: State
    status: str
    reply: str = ""
    remote: str = ""

    @classmethod
    def delivered(cls, reply: str = "", *, status: str = "2.0.0", remote: str = "") -> Outcome:
        """The next hop or the mailbox has taken responsibility."""
        return cls(State.DELIVERED, status, reply, remote)

    @classmethod
    def delayed(cls, reply: str, *, status: str = "4.0.0", remote: str = "") -> Outcome:
        """Try again later."""
        return cls(State.DELAYED, status, reply, remote)

    @classmethod
    def failed(cls, reply: str, *, status: str = "5.0.0", remote: str = "") -> Outcome:
        """Never try again: a DSN is due."""
        return cls(State.FAILED, status, reply, remote)
