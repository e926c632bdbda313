"""What the operator asks of the queue, and does with what waits there."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

if TYPE_CHECKING:
    from mailhub.message.envelope import Outcome

# `due` of a row that the operator holds: later than anything else can be.
HELD_DUE = 253402300799


@attrs.frozen
class Which:
    """Which rows of the queue are meant: those for which all holds that is said here; without anything, all.

    `ids` of messages. `domain` of the recipient, in either form of its labels; `*.domain` for all below it, not
    itself. `agent`: that of the row's route. `sender`: the reverse-path, `@domain`
    for all of a domain, `<>` for the null one. `recipient`: the address that is delivered to, or one that the client
    named. `age_seconds`: at least so long in the queue. `reply`: what the last answer has in it, or its status.
    `destination` as `Route.destination`.
    """

    ids: tuple[str, ...] = ()
    domain: str = ""
    sender: str = ""
    recipient: str = ""
    age_seconds: int = 0
    reply: str = ""
    destination: str | None = None
    agent: str = ""


EVERYTHING = Which()


@attrs.frozen
class RowChange:
    """What becomes of rows; what is not said stays as it is.

    `retry`: tried at once (when it is released, of what is held). `held`: nothing is tried until it is released. `way`:
    another agent and target, tried at once, or when its time has come (`Submission.not_before`). `failed`: given up
    with this outcome, which its DSN tells. `removed`: gone, and nobody is told. Rows that wait for their DSN alone can
    be retried and removed.
    """

    retry: bool = False
    held: bool | None = None
    way: tuple[str, str] | None = None
    priority: int | None = None
    failed: Outcome | None = None
    removed: bool = False


@attrs.frozen
class Waiting:
    """What waits at one destination (see `Route.destination`; "" for what waits for its DSN alone): how many messages
    and rows, of which `held` by the operator and `scheduled` for later by their senders; since when the oldest is
    there, and when the first is tried next (seconds since the epoch; None where all are held). `last` is the latest
    answer."""

    destination: str
    messages: int
    rows: int
    held: int
    scheduled: int
    oldest: int
    next_due: int | None
    last: Outcome | None = None
