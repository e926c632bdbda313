"""What `mailhub queue` asks and does: at the running server, or on the database of one that is down.

Questions and answers are JSON, a page of the queue at a time, so that neither side holds more of it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import attrs

from mailhub.errors import ConfigurationError
from mailhub.interfaces import (
    EVERYTHING,
    IQueue,
    QueuedMessage,
    QueuedRecipient,
    RowChange,
    Waiting,
    Which,
)
from mailhub.message.envelope import Outcome, State

PAGE = 200  # messages of one answer

_CANCELLED = "Delivery was cancelled by the administrator"


@attrs.frozen
class Line:
    """What the server knows of a destination beyond its rows: attempts at work and how many there may be, and for how
    many seconds it is left alone (0: it is not), because of what."""

    at_work: int = 0
    allowed: int = 0
    paused_seconds: float = 0.0
    why: str = ""


@attrs.frozen
class QueueDesk:
    """Answers for one queue. `line` tells of a destination; `recall` has the server give back what it has only in
    memory, so that a change counts at once. Without a server there is neither."""

    queue: IQueue
    now: Callable[[], int]
    line: Callable[[str], Line] = lambda _name: Line()
    recall: Callable[[], Awaitable[object]] | None = None
    agents: frozenset[str] = frozenset()

    async def answer(self, question: Mapping[str, Any]) -> Mapping[str, Any]:
        """What there is to say. Raises ConfigurationError."""
        which = which_of(question.get("which"))
        match question.get("queue"):
            case "destinations":
                return {"destinations": [self._destination(each) for each in await self.queue.waiting(which)]}
            case "messages":
                after = question.get("after")
                messages = await self.queue.messages(PAGE, after if isinstance(after, str) else "", which)
                return {"messages": [self._message(each) for each in messages]}
            case "show":
                return await self._show(which)
            case "change":
                return await self._change(which, question)
        raise ConfigurationError("the server does not know this question: it is another version than the command")

    def _destination(self, waiting: Waiting) -> Mapping[str, Any]:
        line = self.line(waiting.destination)
        ready = waiting.rows - waiting.held - waiting.scheduled
        if not waiting.destination:
            state = "dsn"
        elif not ready:
            state = "scheduled" if waiting.scheduled else "held"
        elif line.paused_seconds:
            state = "paused"
        elif waiting.next_due is not None and waiting.next_due <= self.now():
            state = "busy" if line.allowed and line.at_work >= line.allowed else "due"
        else:
            state = "waiting"
        return {
            "destination": waiting.destination,
            "state": state,
            "messages": waiting.messages,
            "recipients": waiting.rows,
            "held": waiting.held,
            "scheduled": waiting.scheduled,
            "oldest": _moment(waiting.oldest),
            "next_attempt": None if waiting.next_due is None else _moment(max(waiting.next_due, self.now())),
            "paused_until": _moment(int(self.now() + line.paused_seconds)) if line.paused_seconds else None,
            "at_work": line.at_work,
            "at_work_limit": line.allowed,
            **_said(waiting.last),
        }

    def _message(self, message: QueuedMessage) -> Mapping[str, Any]:
        mail = message.mail
        return {
            "id": message.id,
            "queued": _moment(message.queued_at),
            "size": message.size,
            "sender": str(mail.reverse_path or ""),
            "submitter": message.submitter,
            "not_before": _moment(message.not_before) if message.not_before else None,
            "envelope_id": mail.envid,
            "recipients": [self._recipient(message, row) for row in message.recipients],
        }

    def _recipient(self, message: QueuedMessage, row: QueuedRecipient) -> Mapping[str, Any]:
        if row.last is not None and row.last.state is not State.DELAYED:
            state = "dsn"
        elif row.held:
            state = "held"
        elif not row.attempts and message.not_before > self.now():
            state = "scheduled"
        else:
            state = "waiting" if row.due > self.now() else "due"
        return {
            "address": str(row.route.recipient),
            "named": [str(each.address) for each in row.route.originals],
            "agent": row.route.agent,
            "target": row.route.target,
            "state": state,
            "attempts": row.attempts,
            "priority": row.priority,
            "last_attempt": _moment(row.tried) if row.tried else None,
            "next_attempt": None if row.held else _moment(max(row.due, self.now())),
            "warned": row.warned,
            **_said(row.last),
        }

    async def _show(self, which: Which) -> Mapping[str, Any]:
        found = await self.queue.messages(1, "", which)
        if not found or len(which.ids) != 1:
            return {"message": None}
        (message,) = found
        body = await self.queue.open(message.id)
        try:
            header = (await body.read(0, 65536)).partition(b"\r\n\r\n")[0]
        finally:
            body.close()
        return {"message": self._message(message), "header": header.decode("utf-8", "replace")}

    async def _change(self, which: Which, question: Mapping[str, Any]) -> Mapping[str, Any]:
        """A page of it, in a transaction or few: how many messages were changed, and behind which to go on."""
        wanted = self._wanted(question)
        after = question.get("after")
        if self.recall is not None:
            await self.recall()
        page = await self.queue.messages(PAGE, after if isinstance(after, str) else "", which)
        changes: dict[RowChange, list[QueuedMessage]] = {}
        changed = 0
        for message in page:
            rows = [row for row in message.recipients if self._is_meant(message, row, which, wanted)]
            changed += bool(rows)
            for change, some in _by_change(wanted, rows).items():
                changes.setdefault(change, []).append(attrs.evolve(message, recipients=tuple(some)))
        if changes:
            await self.queue.change(changes)
        return {"changed": changed, "after": page[-1].id if len(page) == PAGE else None}

    def _is_meant(self, message: QueuedMessage, row: QueuedRecipient, which: Which, wanted: RowChange) -> bool:
        """Whether there is anything to change. What its sender wants sent later is tried at once only when it is
        named; what waits for its DSN alone can be retried and removed."""
        if wanted.retry:
            return bool(which.ids) or bool(row.attempts) or message.not_before <= self.now()
        if wanted.held is not None and row.held is wanted.held:
            return False
        return wanted.removed or row.last is None or row.last.state is State.DELAYED

    def _wanted(self, question: Mapping[str, Any]) -> RowChange:
        match question.get("change"):
            case "retry":
                return RowChange(retry=True)
            case "hold":
                return RowChange(held=True)
            case "release":
                return RowChange(held=False)
            case "remove":
                return RowChange(removed=True)
            case "bounce":
                return RowChange(failed=Outcome.failed(_CANCELLED, status="5.3.0"))
            case "reroute":
                agent, target = str(question.get("agent", "smtp")), str(question.get("target", ""))
                if self.agents and agent not in self.agents:
                    known = ", ".join(sorted(self.agents))
                    raise ConfigurationError(f"there is no delivery agent {agent!r}; there are {known}")
                return RowChange(way=(agent, target))
            case "priority":
                priority = question.get("priority")
                if not isinstance(priority, int) or not -9 <= priority <= 9:
                    raise ConfigurationError("a priority is a number from -9 to 9")
                return RowChange(priority=priority)
        raise ConfigurationError("the server does not know this change: it is another version than the command")


def _quoting(wanted: RowChange, row: QueuedRecipient) -> RowChange:
    if row.last is None or wanted.failed is None or not row.last.reply:
        return wanted
    reply = f"{_CANCELLED}; the last answer was: {row.last.reply}"
    return attrs.evolve(wanted, failed=attrs.evolve(wanted.failed, reply=reply))


def _by_change(wanted: RowChange, rows: Sequence[QueuedRecipient]) -> Mapping[RowChange, Sequence[QueuedRecipient]]:
    found: dict[RowChange, list[QueuedRecipient]] = {}
    for row in rows:
        found.setdefault(_quoting(wanted, row), []).append(row)
    return found


def _said(last: Outcome | None) -> Mapping[str, Any]:
    said = last or Outcome.delayed("", status="")
    return {"last_status": said.status, "last_reply": said.reply, "last_host": said.remote}


def _moment(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat().replace("+00:00", "Z")


def which_of(given: object) -> Which:
    """What the question says of which rows are meant. Raises ConfigurationError."""
    if given is None:
        return EVERYTHING
    try:
        fields = dict(given)  # type: ignore[call-overload]
        fields["ids"] = tuple(str(each) for each in fields.get("ids", ()))
        for name in ("domain", "sender", "recipient", "reply"):
            fields[name] = str(fields.get(name, ""))
        fields["age_seconds"] = int(fields.get("age_seconds", 0))
        return Which(**fields)
    except (TypeError, ValueError):
        raise ConfigurationError("the question does not say which messages are meant") from None


def as_question(which: Which) -> Mapping[str, Any]:
    """See `which_of`."""
    return {name: value for name, value in attrs.asdict(which).items() if value not in ("", (), 0, None)}
