"""Values of a message in transport: what MAIL and RCPT said, and what became of each recipient (RFC 5321 2.3.1).

What stands for a parameter that was not given is its default; `esmtp.py` reads and writes the parameters.
"""

from __future__ import annotations

from enum import Enum
from typing import Literal

import attrs

from mailhub.errors import MailError
from mailhub.message.address import Address

BodyType = Literal["7BIT", "8BITMIME", "BINARYMIME"]
Notify = Literal["NEVER", "SUCCESS", "FAILURE", "DELAY"]


@attrs.frozen
class DeliverBy:
    """BY (RFC 2852 4): `seconds` after MAIL at which a message not yet delivered is returned (mode R), or its sender
    told (mode N, where it may be negative); `trace` asks for a note of each relay."""

    seconds: int
    mode: Literal["N", "R"]
    trace: bool = False


@attrs.frozen
class FutureRelease:
    """HOLDFOR or HOLDUNTIL (RFC 4865 4): `seconds` after MAIL, or since the epoch, before which nothing is sent."""

    seconds: int
    kind: Literal["FOR", "UNTIL"]


@attrs.frozen
class ValidSince:
    """RRVS (RFC 7293 3): the mailbox must have had this owner since `timestamp` (seconds since the epoch). `action`
    where the hop does not know RRVS: C goes on without it, R rejects."""

    timestamp: int
    action: Literal["C", "R"] = "R"


@attrs.frozen
class OriginalRecipient:
    """ORCPT (RFC 3461 4.2, RFC 6533 3): `address` as the sender wrote it, decoded; of which syntax says `type`."""

    type: str
    address: str


@attrs.frozen
class Mail:
    """What MAIL said. `reverse_path` None is the null reverse-path `<>`.

    `size` in octets as declared (RFC 1870), 0 when not. `ret` and `envid` of RFC 3461; `requiretls` of RFC 8689;
    `priority` from -9 to 9 (RFC 6710). `auth` (RFC 4954 5) is the submitter that a trusted client names, "" for `<>`.
    `verp`: the two characters around the local part of a recipient in its own reverse-path (XVERP), "" for none.
    """

    reverse_path: Address | None
    body_type: BodyType = "7BIT"
    smtputf8: bool = False
    size: int = 0
    ret: Literal["", "FULL", "HDRS"] = ""
    envid: str = ""
    requiretls: bool = False
    by: DeliverBy | None = None
    hold: FutureRelease | None = None
    priority: int | None = None
    auth: str | None = None
    verp: str = ""


@attrs.frozen
class Recipient:
    """What RCPT said. `notify` is empty where NOTIFY was not given (RFC 3461 4.1). `source_route`: there was one before
    the address (RFC 5321 appendix C)."""

    address: Address
    notify: frozenset[Notify] = frozenset()
    orcpt: OriginalRecipient | None = None
    rrvs: ValidSince | None = None
    source_route: bool = attrs.field(default=False, eq=False)


class State(Enum):
    """What became of one recipient in one attempt; the words are RFC 3464's actions. EXPANDED is no agent's: an alias
    took the message, and others get it for it."""

    DELIVERED = "delivered"
    DELAYED = "delayed"
    FAILED = "failed"
    EXPANDED = "expanded"


class Source(Enum):
    """Who says what an outcome says; RFC 3464 keeps apart what a host reported and what we think of it."""

    OURS = ""  # we do; there was no talk with `remote`
    SESSION = "session"  # we do, about a session with `remote`
    REMOTE = "remote"  # `remote` did, in these very words


class Reach(Enum):
    """How far an attempt came. What kept it from coming there says nothing about the message, and is no news about
    the hop either where others have come there."""

    SERVED = 0  # what was said is about the message
    CROWDED = 1  # no connection more, while others to the same host are alive
    UNREACHED = 2  # no connection, or none that mail could be offered on, and no other is alive
    LEFT_ALONE = 3  # nobody was asked, for it is known that nobody can be reached: that is no attempt


@attrs.frozen
class Outcome:
    """The result of delivering to one recipient.

    `status` is an enhanced status code (RFC 3463); `reply` is what the next hop or the store said, for log and DSN.
    `remote` names the host it is about, empty for this one; `source` tells whether that host said it, in which
    `protocol` ("smtp", "lmtp"), under which `tls` (protocol and cipher, "" for none). `reach`: how far the attempt
    came. `dsn`: who has taken it tells the sender of success itself, where that is asked for (RFC 3461 5.2.2),
    and `by`: keeps to the time that its sender has set (RFC 2852). Two outcomes that say the same are equal however it
    was said.
    """

    state: State
    status: str
    reply: str = ""
    remote: str = ""
    source: Source = Source.OURS
    protocol: str = attrs.field(default="", eq=False)
    tls: str = attrs.field(default="", eq=False)
    reach: Reach = attrs.field(default=Reach.SERVED, eq=False)
    dsn: bool = attrs.field(default=False, eq=False)
    by: bool = attrs.field(default=False, eq=False)

    @property
    def tried(self) -> bool:
        """Whether something was done for it."""
        return self.reach is not Reach.LEFT_ALONE

    @classmethod
    def delivered(
        cls, reply: str = "", *, status: str = "2.0.0", remote: str = "", source: Source = Source.OURS
    ) -> Outcome:
        """The next hop or the mailbox has taken responsibility."""
        return cls(State.DELIVERED, status, reply, remote, source)

    @classmethod
    def delayed(
        cls,
        reply: str,
        *,
        status: str = "4.0.0",
        remote: str = "",
        source: Source = Source.OURS,
        reach: Reach = Reach.SERVED,
    ) -> Outcome:
        """Try again later."""
        return cls(State.DELAYED, status, reply, remote, source, reach=reach)

    def said_by_hop(self, protocol: str, tls: str, *, dsn: bool, by: bool) -> Outcome:
        """The same with how it was said, and what the hop takes over."""
        return Outcome(
            self.state, self.status, self.reply, self.remote, self.source, protocol, tls, self.reach, dsn, by
        )

    @classmethod
    def failed(cls, reply: str, *, status: str = "5.0.0", remote: str = "", source: Source = Source.OURS) -> Outcome:
        """Never try again: a DSN is due."""
        return cls(State.FAILED, status, reply, remote, source)


def outcome_of(error: MailError) -> Outcome:
    """What an error means for a recipient."""
    if error.temporary:
        return Outcome.delayed(error.text, status=error.status)
    return Outcome.failed(error.text, status=error.status)
