"""A message in the twin's queue, and what the operator asks of it and does with it."""

from __future__ import annotations

from collections.abc import Sequence

import attrs

from mailhub.interfaces import AT_ONCE, HELD_DUE, QueuedMessage, QueuedRecipient, RowChange, Waiting, Which
from mailhub.message.envelope import Mail
from mailhub.store.memory.body import MemoryBody
from mailhub.store.queue_rows import (
    address_forms,
    destination_of,
    domain_forms,
    domains_below,
    originals_parts,
    originals_text,
    unquoted,
)


@attrs.define(eq=False)
class Queued:
    """A message in the queue; `rows` by their number, and in which destinations they are."""

    id: str
    mail: Mail
    body: MemoryBody
    relay_offset: int
    queued_at: int
    rows: dict[int, QueuedRecipient]
    needs: int | None = None
    not_before: int = 0
    submitter: str = ""
    held: dict[int, int] = attrs.field(factory=dict)  # when rows would be due that the operator holds
    places: dict[int, str] = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.places = {number: destination_of(row.route, row.last) for number, row in self.rows.items()}

    def value(self, rows: tuple[QueuedRecipient, ...]) -> QueuedMessage:
        """What the queue tells of it, with these of its rows."""
        size = self.body.size - self.relay_offset
        return QueuedMessage(
            self.id, self.mail, self.queued_at, size, rows, self.needs, self.not_before, self.submitter
        )


def meant_rows(message: Queued, which: Which, now: int) -> tuple[QueuedRecipient, ...]:
    """Those of its rows that are meant."""
    sender = message.mail.reverse_path
    reverse_path = "<>" if sender is None else str(sender).lower()
    wanted = tuple(address_forms(which.sender)) if which.sender else ()
    of_message = (
        (not which.ids or message.id in which.ids)
        and (not wanted or reverse_path in wanted or (which.sender.startswith("@") and reverse_path.endswith(wanted)))
        and (not which.age_seconds or message.queued_at <= now - which.age_seconds)
    )
    return tuple([row for row in message.rows.values() if of_message and _is_meant(message, row, which)])


def _is_meant(message: Queued, row: QueuedRecipient, which: Which) -> bool:
    recipient, last = row.route.recipient, row.last
    if which.domain and not _is_in(recipient.domain.lower(), which.domain):
        return False
    if which.agent and row.route.agent != which.agent:
        return False
    address = f"{recipient.local}@{recipient.domain}".lower()
    if which.recipient and address not in address_forms(unquoted(which.recipient)):
        named = originals_text(row.route).lower()
        if not any(part in named for part in originals_parts(which.recipient)):
            return False
    if which.reply and (last is None or (which.reply.lower() not in last.reply.lower() and which.reply != last.status)):
        return False
    return which.destination is None or message.places[row.id] == which.destination


def _is_in(domain: str, meant: str) -> bool:
    ends = domains_below(meant)
    return domain.endswith(tuple(ends)) if ends else domain in domain_forms(meant)


def waiting(messages: Sequence[Queued], which: Which, now: int) -> list[Waiting]:
    """What waits at each destination."""
    places: dict[str, list[tuple[Queued, QueuedRecipient]]] = {}
    for message in messages:
        for row in meant_rows(message, which, now):
            places.setdefault(message.places[row.id], []).append((message, row))
    found = []
    for destination, rows in sorted(places.items()):
        tried = max(row.tried for _, row in rows)
        said = [row.last for _, row in sorted(rows, key=lambda item: item[1].id) if row.tried == tried and row.last]
        found.append(
            Waiting(
                destination,
                len({message.id for message, _ in rows}),
                len(rows),
                sum(row.held for _, row in rows),
                sum(not row.held and not row.turns and message.not_before > now for message, row in rows),
                min(message.queued_at for message, _ in rows),
                min((row.due for _, row in rows if not row.held), default=None),
                said[0] if said else None,
            )
        )
    return found


def change_row(message: Queued, number: int, change: RowChange, now: int) -> bool:
    """Whether the row has changed."""
    row, place = message.rows[number], message.places[number]
    new = row
    if change.removed:
        del message.rows[number]
        return True
    if change.failed is not None and place:
        new = attrs.evolve(new, last=change.failed, held=False, due=now)
        message.places[number] = place = ""
    if change.priority is not None:
        new = attrs.evolve(new, priority=change.priority)
    if change.way is not None and place:
        agent, target = change.way
        new = attrs.evolve(new, route=attrs.evolve(new.route, agent=agent, target=target))
        message.places[number] = place = new.route.destination
    begun = bool(row.turns) or message.not_before <= now
    if change.retry or (change.way is not None and place and begun):
        message.held[number] = AT_ONCE
        new = new if new.held else attrs.evolve(new, due=AT_ONCE)
    if change.held and not new.held and place:
        message.held[number] = new.due
        new = attrs.evolve(new, held=True, due=HELD_DUE)
    elif change.held is False and new.held:
        new = attrs.evolve(new, held=False, due=message.held[number])
    message.rows[number] = new
    return attrs.astuple(new, recurse=False) != attrs.astuple(row, recurse=False) or change.retry
