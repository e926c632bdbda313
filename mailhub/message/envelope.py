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


class Source(Enum):
    """Who says what an outcome says; RFC 3464 keeps apart what a host reported and what we think of it."""

    OURS = ""  # we do; there was no talk with `remote`
    SESSION = "session"  # we do, about a session with `remote`
    REMOTE = "remote"  # `remote` did, in these very words


@attrs.frozen
class Outcome:
    """The result of delivering to one recipient.

    `status` is an enhanced status code (RFC 3463); `reply` is what the next hop or the store said, for log
    and DSN. `remote` names the host it is about, empty for this one; `source` tells whether that host said it.
    """

    state: State
    status: str
    reply: str = ""
    remote: str = ""
    source: Source = Source.OURS

    @classmethod
    def delivered(
        cls, reply: str = "", *, status: str = "2.0.0", remote: str = "", source: Source = Source.OURS
    ) -> Outcome:
        """The next hop or the mailbox has taken responsibility."""
        return cls(State.DELIVERED, status, reply, remote, source)

    @classmethod
    def delayed(cls, reply: str, *, status: str = "4.0.0", remote: str = "", source: Source = Source.OURS) -> Outcome:
        """Try again later."""
        return cls(State.DELAYED, status, reply, remote, source)

    @classmethod
    def failed(cls, reply: str, *, status: str = "5.0.0", remote: str = "", source: Source = Source.OURS) -> Outcome:
        """Never try again: a DSN is due."""
        return cls(State.FAILED, status, reply, remote, source)
