"""What the runner takes of the queue at once: which rows travel together, and what is told of them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

import attrs
from twisted.internet.defer import Deferred

from mailhub.delivery.notices import is_news
from mailhub.interfaces import AT_ONCE, Claim, QueuedMessage, QueuedRecipient, ReversePath, Settlement
from mailhub.log import Logger
from mailhub.message.envelope import Outcome, Source, State

_log = Logger(namespace="mailhub.queue")


def only(claim: Claim, rows: Sequence[QueuedRecipient]) -> Claim:
    """Some rows of a claim, in their order there."""
    if len(rows) == len(claim.message.recipients):
        return claim
    return attrs.evolve(claim, message=attrs.evolve(claim.message, recipients=tuple(rows)))


def priority(claim: Claim) -> int:
    """The highest one of its rows."""
    rows = claim.message.recipients
    return rows[0].priority if len(rows) == 1 else max(row.priority for row in rows)


def is_urgent(claim: Claim) -> bool:
    """Whether the operator wants it tried now."""
    return any(row.due == AT_ONCE for row in claim.message.recipients)


def travelling_together(claim: Claim) -> Sequence[Claim]:
    """What came through other aliases, or has another reverse-path, is another message to the next hop. What waits for
    its DSN alone is told to one reverse-path in one."""
    if len(claim.message.recipients) == 1:
        return [claim]
    groups: dict[tuple[tuple[str, ...], ReversePath | None], list[QueuedRecipient]] = {}
    for row in claim.message.recipients:
        groups.setdefault((row.route.via if claim.destination else (), row.route.reverse_path), []).append(row)
    return [claim] if len(groups) == 1 else [only(claim, rows) for rows in groups.values()]


def cancel_all(working: Sequence[Deferred[None]]) -> None:
    """Cut off what takes too long."""
    for work in working:
        work.cancel()


def is_told(message: QueuedMessage, row: QueuedRecipient, settlement: Settlement) -> bool:
    """Whether a DSN may be called for; of a failure, the log says why there is none."""
    if settlement.outcome.state is State.DELAYED:
        return settlement.warned
    if settlement.outcome.state is State.FAILED or (row.last is not None and row.last.state is not State.DELAYED):
        return True
    return message.mail.reverse_path is not None and is_news(message.mail, row, settlement.outcome)


_GIVEN_UP = Outcome.failed("Delivery was cancelled", status="5.3.0")


def verdict(row: QueuedRecipient) -> Outcome:
    """What is told of a row that waits for its DSN alone, whatever is noted of it."""
    return _GIVEN_UP if row.last is None or row.last.state is State.DELAYED else row.last


_WORDS = {State.DELIVERED: "delivered", State.DELAYED: "delayed", State.FAILED: "bounced"}


def log_state(message: QueuedMessage, row: QueuedRecipient, settlement: Settlement) -> None:
    """What became of a recipient."""
    outcome = settlement.outcome
    fields: dict[str, object] = {
        "id": message.id,
        "to": row.route.recipient,
        "agent": row.route.agent,
        "target": row.route.target,
        "remote": outcome.remote,
        "status": outcome.status,
        "reply": _without_status(outcome),
    }
    if outcome.protocol:
        fields["protocol"], fields["tls"] = outcome.protocol, outcome.tls
    if outcome.state is State.DELAYED:
        fields["attempts"] = row.attempts + outcome.tried
        if settlement.route is not None:
            fields["agent_then"] = settlement.route.agent
        fields["next"] = datetime.fromtimestamp(settlement.due, UTC).isoformat()
    _log.event(_WORDS[outcome.state], fields)


def _without_status(outcome: Outcome) -> str:
    """The reply, where its enhanced status code is that of the outcome without it: `550 5.1.1 No` is `550 No`."""
    code, _, text = outcome.reply.partition(" ")
    if code == outcome.status:
        return text
    return f"{code} {text.removeprefix(f'{outcome.status} ')}" if text else outcome.reply


def run_out(outcome: Outcome) -> Outcome:
    """What is told of an outcome after the time that BY gave (RFC 2852 4.1.3)."""
    if outcome.state is not State.DELAYED:
        return outcome
    reply = f"Not delivered in the time that its sender has set; the last answer was: {outcome.reply}"
    source = Source.SESSION if outcome.source is Source.REMOTE else outcome.source
    return attrs.evolve(outcome, status="4.4.7", reply=reply, source=source)
