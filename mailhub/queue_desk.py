"""What `mailhub queue` asks and does: at the running server, or on the database of one that is down.

Questions and answers are JSON, a page of the queue at a time, so that neither side holds more of it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from datetime import UTC, datetime
from typing import Any

import attrs

from mailhub.delivery.list_names import LIST_AGENTS
from mailhub.errors import ConfigurationError
from mailhub.interfaces import (
    EVERYTHING,
    STORE,
    IQueue,
    QueuedMessage,
    QueuedRecipient,
    RowChange,
    Waiting,
    Which,
)
from mailhub.message.address import Address, parse_domain
from mailhub.message.envelope import Outcome, State

PAGE = 200  # messages of one answer
NOTES = ("trying", "held", "dsn", "scheduled", "local")  # see `QueueDesk.answer` to a change

_LOCAL = (STORE, *LIST_AGENTS)  # whose mail is for mailboxes and lists of ours
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
    """Answers for one queue. `way` is asked which agent and target are meant by words (and raises ConfigurationError).
    `line` tells of a destination; during a `standstill` the server has nothing in memory and begins nothing, so that a
    change counts at once; `trying` are the rows that an attempt is under way for. Without a server there is none of
    these three."""

    queue: IQueue
    now: Callable[[], int]
    line: Callable[[str], Line] = lambda _name: Line()
    standstill: Callable[[], AbstractAsyncContextManager[object]] = nullcontext
    way: Callable[[str, str], tuple[str, str]] = lambda agent, target: (agent, target)
    trying: Callable[[], frozenset[int]] = frozenset

    async def answer(self, question: Mapping[str, Any]) -> Mapping[str, Any]:
        """What there is to say. Raises ConfigurationError."""
        which = which_of(question.get("which"))
        match question.get("queue"):
            case "destinations":
                return {"destinations": [self._destination(each) for each in await self.queue.waiting(which)]}
            case "messages":
                after = question.get("after")
                messages = await self.queue.messages(PAGE, after if isinstance(after, str) else "", which)
                return {"messages": [self.record(each) for each in messages]}
            case "show":
                return await self._show(which)
            case "change":
                async with self.standstill():
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

    def record(self, message: QueuedMessage) -> Mapping[str, Any]:
        """All about a message, with these of its recipients."""
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
        elif not row.turns and message.not_before > self.now():
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
        return {"message": self.record(message), "header": header.decode("utf-8", "replace")}

    async def _change(self, which: Which, question: Mapping[str, Any]) -> Mapping[str, Any]:
        """A page of it, in one transaction: how many messages were changed, behind which to go on, and what there is to
        know of how many: see `_left`, and `trying` of those that are changed during an attempt."""
        wanted = self._wanted(question)
        after = question.get("after")
        trying = self.trying()  # nothing more begins; what ends from here on may still be on its way into the queue
        page = await self.queue.messages(PAGE, after if isinstance(after, str) else "", which)
        changes: dict[RowChange, list[QueuedMessage]] = {}
        counts = dict.fromkeys(("changed", *NOTES), 0)
        for message in page:
            left = {row.id: self._left(message, row, which, wanted) for row in message.recipients}
            changing = ("", "held") if wanted.retry else ("", "held", "scheduled")
            rows = [row for row in message.recipients if left[row.id] in changing]
            for change, some in _by_change(wanted, rows).items():
                changes.setdefault(change, []).append(attrs.evolve(message, recipients=tuple(some)))
            notes = {*left.values(), *("trying" for row in rows if row.id in trying)}
            for note in notes - {"", "already"}:
                counts[note] += 1
            counts["changed"] += any(not note or (note in changing and not wanted.retry) for note in left.values())
        if changes:
            await self.queue.change(changes)
        return {**counts, "after": page[-1].id if len(page) == PAGE else None}

    def _left(self, message: QueuedMessage, row: QueuedRecipient, which: Which, wanted: RowChange) -> str:
        """Why a row is left as it is: "already" like that; "scheduled": what its sender wants sent later is tried at
        once only when it is named, the whole of it; "dsn": what waits for its DSN alone can be retried and removed;
        "local": what is for a mailbox here goes another way only when it is named. What is "held", or "scheduled" and
        not retried, is changed, but not tried before it is released, or its time has come; "" for any other."""
        scheduled = not row.turns and message.not_before > self.now()
        if wanted.retry and scheduled and not (which.ids and which == Which(which.ids)):
            return "scheduled"
        if wanted.held is not None and row.held is wanted.held:
            return "already"
        waits = row.last is None or row.last.state is State.DELAYED
        if not (waits or wanted.retry or wanted.removed):
            return "already" if wanted.held is False else "dsn"
        if wanted.way is not None and row.route.agent in _LOCAL and not which.ids:
            return "local"
        if row.held and (wanted.retry or wanted.way is not None):
            return "held"
        return "scheduled" if scheduled and wanted.way is not None else ""

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
                return RowChange(way=self.way(str(question.get("agent", "smtp")), str(question.get("target", ""))))
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
        for name in ("domain", "sender", "recipient", "reply", "agent"):
            fields[name] = str(fields.get(name, ""))
        fields["age_seconds"] = int(fields.get("age_seconds", 0))
        which = Which(**fields)
    except (TypeError, ValueError):
        raise ConfigurationError("the question does not say which messages are meant") from None
    return attrs.evolve(
        which,
        domain=which.domain and _domain(which.domain),
        sender=_address(which.sender, "<>", "@"),
        recipient=_address(which.recipient),
    )


def _domain(text: str) -> str:
    """Or `*.domain`, for all below it."""
    if text.startswith("*."):
        return f"*.{_domain(text[2:])}"
    try:
        return parse_domain(text)
    except ValueError as error:
        raise ConfigurationError(f"{text!r} is not a domain name: {error}") from None


def _address(text: str, *besides: str) -> str:
    """An address, also in angle brackets; or what is meant `besides`: itself, and "@" for one before a domain."""
    if not text or text in besides:
        if text == "@":
            raise ConfigurationError("behind the @ of a sender stands a domain")
        return text
    if text.startswith("@") and "@" in besides:
        return f"@{_domain(text[1:])}"
    inner = text[1:-1] if text.startswith("<") and text.endswith(">") else text
    try:
        return str(Address.parse(inner))
    except ValueError as error:
        more = ", @domain or <>" if besides else ""
        raise ConfigurationError(f"{text!r} is not an address{more}: {error}") from None


def as_question(which: Which) -> Mapping[str, Any]:
    """See `which_of`."""
    return {name: value for name, value in attrs.asdict(which).items() if value not in ("", (), 0, None)}
