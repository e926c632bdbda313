"""What the operator asks of the queue, as queries and units of work."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import attrs

from mailhub.interfaces import AT_ONCE, HELD_DUE, QueuedMessage, Route, RowChange, Waiting, Which
from mailhub.message.address import Address
from mailhub.store.queue_rows import address_forms, domain_forms, domains_below, originals_parts, outcome_in, unquoted
from mailhub.store.sql import content
from mailhub.store.sql.transaction import Snapshot, Transaction

_FROM = "FROM queue_recipient r JOIN queue_message q ON q.id = r.message"


def _meant(snapshot: Snapshot, which: Which, now: int) -> tuple[str, list[object]]:
    """A condition on the rows `r` of messages `q`, and its parameters."""
    dialect = snapshot.dialect
    terms: list[str] = ["TRUE"]
    given: list[object] = []

    def term(text: str, *parameters: object) -> None:
        terms.append(text)
        given.extend(parameters)

    if which.ids:
        term(f"q.id IN {dialect.texts}", snapshot.many(which.ids))
    if which.domain:
        ends = domains_below(which.domain)
        if ends:
            like = " OR ".join(["lower(r.domain) LIKE ? ESCAPE '!'"] * len(ends))
            term(f"({like})", *[f"%{_literally(end)}" for end in ends])
        else:
            term(f"lower(r.domain) IN {dialect.texts}", snapshot.many(domain_forms(which.domain)))
    if which.sender == "<>":
        term("q.reverse_path IS NULL")
    elif which.sender.startswith("@"):
        forms = [_literally(form) for form in address_forms(which.sender)]
        like = " OR ".join(["lower(q.reverse_path) LIKE ? ESCAPE '!'"] * len(forms))
        term(f"({like})", *[f"%{form}" for form in forms])
    elif which.sender:
        term(f"lower(q.reverse_path) IN {dialect.texts}", snapshot.many(address_forms(which.sender)))
    if which.recipient:
        parts = originals_parts(which.recipient)
        named = " OR ".join([dialect.contains("lower(r.originals)", "?")] * len(parts))
        term(
            f"(lower(r.local || '@' || r.domain) IN {dialect.texts} OR {named})",
            snapshot.many(address_forms(unquoted(which.recipient))),
            *parts,
        )
    if which.age_seconds:
        term("q.queued_at <= ?", now - which.age_seconds)
    if which.reply:
        term(f"({dialect.contains('lower(r.reply)', '?')} OR r.status = ?)", which.reply.lower(), which.reply)
    if which.destination is not None:
        term("r.destination = ?", which.destination)
    if which.agent:
        term("r.agent = ?", which.agent)
    return " AND ".join(terms), given


def _literally(text: str) -> str:
    """In a pattern of LIKE, with ! before what has a meaning there."""
    return text.replace("!", "!!").replace("%", "!%").replace("_", "!_")


def page(snapshot: Snapshot, which: Which, now: int, after: str, limit: int) -> list[tuple[str, list[int]]]:
    """The next messages behind one, in the order of arrival, with the numbers of those of their rows that are meant.
    The one behind which to go on may be gone: ids sort by time."""
    condition, given = _meant(snapshot, which, now)
    found = snapshot.rows(
        f"SELECT q.number, q.id FROM queue_message q WHERE q.number > coalesce("
        "(SELECT number FROM queue_message WHERE id = ?), (SELECT max(number) FROM queue_message WHERE id < ?), 0)"
        f" AND EXISTS (SELECT 1 FROM queue_recipient r WHERE r.message = q.id AND {condition})"
        " ORDER BY q.number LIMIT ?",
        (after, after, *given, max(0, limit)),
    )
    return [
        (
            name,
            [
                row[0]
                for row in snapshot.rows(f"SELECT r.id {_FROM} WHERE q.number = ? AND {condition}", (number, *given))
            ],
        )
        for number, name in found
    ]


def waiting(snapshot: Snapshot, which: Which, now: int) -> list[Waiting]:
    """By destination, in the order of their names."""
    condition, given = _meant(snapshot, which, now)
    rows = snapshot.rows(
        "SELECT r.destination, count(DISTINCT r.message), count(*),"
        " sum(CASE WHEN r.held IS NULL THEN 0 ELSE 1 END),"
        " sum(CASE WHEN r.held IS NULL AND r.turns = 0 AND q.not_before > ? THEN 1 ELSE 0 END),"
        " min(q.queued_at), min(CASE WHEN r.held IS NULL THEN r.due END), max(r.tried)"
        f" {_FROM} WHERE {condition} GROUP BY r.destination ORDER BY r.destination",
        (now, *given),
    )
    found = []
    for *counts, tried in rows:
        last = snapshot.row(
            f"SELECT {content.OUTCOME_COLUMNS} FROM queue_recipient"
            " WHERE destination = ? AND tried = ? AND state IS NOT NULL ORDER BY id LIMIT 1",
            (counts[0], tried),
        )
        found.append(attrs.evolve(Waiting(*counts), last=None if last is None else outcome_in(last)))
    return found


def change(transaction: Transaction, changes: Mapping[RowChange, Sequence[QueuedMessage]], now: int) -> int:
    """How many rows have changed."""
    return sum(_change(transaction, messages, wanted, now) for wanted, messages in changes.items())


def _change(transaction: Transaction, messages: Sequence[QueuedMessage], wanted: RowChange, now: int) -> int:
    numbers, texts = transaction.dialect.numbers, transaction.dialect.texts
    chosen = (
        transaction.many([row.id for message in messages for row in message.recipients]),
        transaction.many([message.id for message in messages]),
    )
    meant = f"id IN {numbers} AND message IN {texts}"
    changed = 0

    def update(what: str, condition: str, *parameters: object) -> None:
        nonlocal changed
        cursor = transaction.execute(
            f"UPDATE queue_recipient SET {what} WHERE {condition} AND {meant}", (*parameters, *chosen)
        )
        changed = max(changed, cursor.rowcount)

    if wanted.removed:
        return transaction.execute(f"DELETE FROM queue_recipient WHERE {meant}", chosen).rowcount
    if wanted.failed is not None:
        columns = ", ".join(f"{name} = ?" for name in content.OUTCOME_COLUMNS.split(", "))
        values = content.outcome_columns(wanted.failed)
        update(f"destination = '', held = NULL, due = ?, {columns}", "destination <> ''", now, *values)
    if wanted.priority is not None:
        update("priority = ?", "TRUE", wanted.priority)
    if wanted.way is not None:
        changed = max(changed, _reroute(transaction, meant, chosen, wanted.way))
    at_once = "due = CASE WHEN held IS NULL THEN ? ELSE due END, held = CASE WHEN held IS NULL THEN NULL ELSE ? END"
    if wanted.retry:
        update(at_once, "TRUE", AT_ONCE, AT_ONCE)
    elif wanted.way is not None:
        begun = "(turns > 0 OR message NOT IN (SELECT id FROM queue_message WHERE not_before > ?))"
        update(at_once, f"destination <> '' AND {begun}", AT_ONCE, AT_ONCE, now)
    if wanted.held:
        update("held = due, due = ?", "held IS NULL AND destination <> ''", HELD_DUE)
    elif wanted.held is not None:
        update("due = held, held = NULL", "held IS NOT NULL")
    transaction.due = True
    return changed


def _reroute(transaction: Transaction, meant: str, chosen: tuple[object, ...], way: tuple[str, str]) -> int:
    agent, target = way
    rows = transaction.rows(
        f"SELECT id, local, domain FROM queue_recipient WHERE {meant} AND destination <> ''", chosen
    )
    transaction.execute_many(
        "UPDATE queue_recipient SET agent = ?, target = ?, destination = ? WHERE id = ?",
        [
            (agent, target, Route(agent, Address(local, domain), target).destination, number)
            for number, local, domain in rows
        ],
    )
    return len(rows)
