"""The queue of the twin in plain dicts."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

import attrs
from zope.interface import implementer

from mailhub.errors import MailError, MessageGone
from mailhub.interfaces import (
    EVERYTHING,
    HELD_DUE,
    NO_QUOTAS,
    Claim,
    IBlobReader,
    IHeadedBodyWriter,
    IMailStore,
    IQueue,
    QueuedMessage,
    QueuedRecipient,
    Receipt,
    Refusals,
    Route,
    RowChange,
    Settlement,
    Submission,
    Waiting,
    Which,
)
from mailhub.message.envelope import Outcome, State
from mailhub.message.mailbox_names import normalise
from mailhub.store.claims import Claims
from mailhub.store.due import DueWatchers
from mailhub.store.memory.body import MemoryBodyWriter, memory_body
from mailhub.store.memory.queued import Queued, change_row, meant_rows, waiting
from mailhub.store.memory.store import Box, MemoryEngine
from mailhub.store.octets import OctetsReader
from mailhub.store.queue_ids import DeliveryIds, number_of
from mailhub.store.queue_rows import check_readable, notices_of, route_of


@implementer(IQueue)
class MemoryQueue:
    """The queue of MemoryDatabase."""

    def __init__(self, engine: MemoryEngine, store: IMailStore) -> None:
        self._engine = engine
        self._messages: dict[str, Queued] = {}
        self._rows = 0
        self._ids = DeliveryIds(engine.environment.random)
        self._receipts: dict[str, Receipt] = {}
        self._claims = Claims(0)
        self._after = ""
        self._store = store
        self._watchers = DueWatchers()

    def watch(self, listener: Callable[[], None]) -> Callable[[], None]:
        """Told at the end of each call."""
        return self._watchers.watch(listener)

    def _tell(self, rows: int) -> None:
        """Where there are more rows than there were."""
        if self._rows > rows:
            self._watchers.tell()

    def deposits_into(self, store: object) -> bool:
        """Into the mailboxes of the same database."""
        return store is self._store

    def new_body(self, size: int = 0, head_limit: int = 0) -> IHeadedBodyWriter:
        """For submit()."""
        return MemoryBodyWriter()

    def new_delivery_id(self) -> str:
        """Of time and randomness."""
        return self._ids.next(self._engine.environment.now())[0]

    async def submit(
        self, submission: Submission, refusals: Refusals = "bounce", also: Sequence[Submission] = ()
    ) -> Receipt:
        """Deposits, then rows."""
        together = [submission, *also]
        for each in together:
            check_readable(each.mail, each.plan.routes)
        made: dict[int, Receipt] = {}
        rows = self._rows
        for replies in (False, True):
            some = [index for index, each in enumerate(together) if each.reply is replies]
            made.update({index: self._take(together[index], refusals) for index in some})
            if some and not any(receipt.kept for receipt in made.values()):
                break
        else:
            for index, receipt in made.items():
                if not receipt.kept and refusals == "bounce":
                    self._keep(together[index], receipt.id, refusals, receipt.refused)
                    made[index] = attrs.evolve(receipt, kept=True)
        first, *others = [
            made.get(index) or Receipt(each.delivery_id or self.new_delivery_id(), kept=False)
            for index, each in enumerate(together)
        ]
        self._tell(rows)
        return attrs.evolve(first, also=tuple(others))

    def _take(self, submission: Submission, refusals: Refusals) -> Receipt:
        body = memory_body(submission.body)
        message_id = submission.delivery_id or self.new_delivery_id()
        number_of(message_id)
        if message_id in self._receipts:
            return self._receipts[message_id]
        refused: dict[int, Outcome] = {}
        kept = bool(submission.plan.routes)
        filled: list[Box] = []
        for index, deposit in enumerate(submission.plan.deposits):
            try:
                if deposit.create:
                    self._engine.ensure_account(deposit.user)
                box = self._engine.mailbox_for(deposit.user, normalise(deposit.mailbox), body.size, filled)
                if box not in filled:
                    self._engine.deposit(box, body, deposit.flags, self._engine.environment.now())
                    filled.append(box)
                kept = True
            except MailError as error:
                refused[index] = Outcome.failed(error.text, status=error.status)
        if kept:
            self._keep(submission, message_id, refusals, refused)
        return Receipt(message_id, refused, kept=kept)

    def _keep(
        self, submission: Submission, message_id: str, refusals: Refusals, refused: Mapping[int, Outcome]
    ) -> None:
        now, plan = self._engine.environment.now(), submission.plan
        rows: list[tuple[Route, Outcome | None]] = [(route, None) for route in plan.routes]
        if refusals == "bounce":
            rows += [(route_of(plan.deposits[index]), outcome) for index, outcome in refused.items()]
        rows += [(notice.route, notice.outcome) for notice in notices_of(plan, refused)]
        if rows:
            self._messages[message_id] = Queued(
                message_id,
                submission.mail,
                memory_body(submission.body),
                submission.relay_offset,
                now,
                self._numbered(rows, now, max(now, submission.not_before), submission.rank),
                submission.needs,
                submission.not_before,
                submission.submitter,
            )
        self._receipts[message_id] = Receipt(message_id, refused)

    def _numbered(
        self, rows: Iterable[tuple[Route, Outcome | None]], now: int, due: int, priority: int
    ) -> dict[int, QueuedRecipient]:
        numbered = {}
        for route, last in rows:
            self._rows += 1
            when = now if last is not None and last.state is State.FAILED else due
            numbered[self._rows] = QueuedRecipient(self._rows, route, 0, when, last, priority=priority)
        return numbered

    async def claim(
        self, now: int, limit: int, quota: int, quotas: Mapping[str, int] = NO_QUOTAS, latest: int | None = None
    ) -> Sequence[Claim]:
        """One destination after the other, in the order of their names from where the last call has ended."""
        places: dict[str, list[tuple[bool, int, int, int, Queued, QueuedRecipient]]] = {}
        highest: dict[str, int] = {}
        taken = self._claims.rows
        for message in self._messages.values():
            for row in message.rows.values():
                early = row.due > now
                held = not row.turns and row.due > message.queued_at
                clock_was_set = latest is not None and row.due > latest and not held and not row.held
                if (not early or clock_was_set) and row.id not in taken:
                    place = message.places[row.id]
                    places.setdefault(place, []).append((early, -row.priority, row.due, row.id, message, row))
                    highest[place] = max(row.priority, highest.get(place, row.priority))
        found: list[tuple[str, QueuedMessage]] = []
        after = self._after
        for place in sorted(places, key=lambda place: (place != "", -highest[place], place <= after, place)):
            messages: dict[str, list[QueuedRecipient]] = {}
            for *_, message, row in sorted(places[place], key=lambda item: item[:4]):
                if limit <= 0 or (message.id not in messages and len(messages) >= quotas.get(place, quota)):
                    break
                messages.setdefault(message.id, []).append(row)
                limit -= 1
            found += [(place, self._messages[name].value(tuple(rows))) for name, rows in messages.items()]
            if limit <= 0:
                self._after = after if highest[place] > 0 or not quota else place
                break
        return self._claims.take(found)

    async def release(self, claims: Sequence[Claim]) -> None:
        """They are due as before."""
        for claim in claims:
            self._claims.drop(claim, [row.id for row in claim.message.recipients])

    async def next_due(self, after: int = -1) -> int | None:
        """None when there is none."""
        rows = (row.due for message in self._messages.values() for row in message.rows.values())
        return min((due for due in rows if due > after), default=None)

    async def open(self, message_id: str) -> IBlobReader:
        """Raises MessageGone."""
        if message_id not in self._messages:
            raise MessageGone
        message = self._messages[message_id]
        return OctetsReader(message.body.octets, message.relay_offset)

    def check_space(self, size: int = 0) -> None:
        """Memory is taken to be enough."""

    async def kept_header(self, message_id: str) -> bytes:
        """Of the digest."""
        message = self._messages.get(message_id)
        return b"" if message is None else message.body.digest.fields

    async def settle(self, claim: Claim, settlements: Sequence[Settlement], reports: Sequence[Submission] = ()) -> bool:
        """Outcomes and reports."""
        held = self._claims.held(claim, [item.id for item in settlements])
        self._claims.drop(claim, held)
        message = self._messages.get(claim.message.id)
        if message is None or not any(number in message.rows for number in held):
            return bool(held)
        rows, now = self._rows, self._engine.environment.now()
        for report in reports:
            self._take(report, "reply")
        for item in settlements:
            row = message.rows.pop(item.id, None) if item.id in held else None
            if row is not None and item.outcome.state is State.DELAYED and not message.places[item.id]:
                message.rows[item.id] = row  # given up by the operator meanwhile
            elif row is not None and item.outcome.state is State.DELAYED:
                way = item.route or row.route
                moved = attrs.evolve(row.route, agent=way.agent, target=way.target)
                message.rows[item.id] = attrs.evolve(
                    row,
                    attempts=row.attempts + item.outcome.tried,
                    turns=row.turns + 1,
                    due=HELD_DUE if row.held else item.due,
                    last=item.outcome,
                    tried=now if item.outcome.tried else row.tried,
                    warned=row.warned or item.warned,
                    route=moved,
                )
                if row.held:
                    message.held[item.id] = item.due
                message.places[item.id] = moved.destination
            elif row is not None and item.untold:
                tried = now if message.places[item.id] and item.outcome.tried else row.tried
                message.rows[item.id] = attrs.evolve(row, due=item.due, last=item.outcome, tried=tried, held=False)
                message.places[item.id] = ""
        message.rows = dict(sorted(message.rows.items()))
        if not message.rows:
            del self._messages[message.id]
        if any(not message.places[row.id] and row.due <= now for row in message.rows.values()):
            self._watchers.tell()
        else:
            self._tell(rows)
        return True

    async def messages(self, limit: int = 1000, after: str = "", which: Which = EVERYTHING) -> Sequence[QueuedMessage]:
        """Oldest first."""
        now, names = self._engine.environment.now(), list(self._messages)
        if after:
            names = names[names.index(after) + 1 :] if after in names else [name for name in names if name > after]
        meant = [self._messages[name].value(meant_rows(self._messages[name], which, now)) for name in names]
        return [message for message in meant if message.recipients][: max(0, limit)]

    async def waiting(self, which: Which = EVERYTHING) -> Sequence[Waiting]:
        """Counted."""
        return waiting(list(self._messages.values()), which, self._engine.environment.now())

    async def change(self, changes: Mapping[RowChange, Sequence[QueuedMessage]]) -> int:
        """Row by row."""
        now, changed = self._engine.environment.now(), 0
        for change, meant in changes.items():
            for message, rows in [(self._messages.get(each.id), each.recipients) for each in meant]:
                if message is None:
                    continue
                changed += sum(change_row(message, row.id, change, now) for row in rows if row.id in message.rows)
                if not message.rows:
                    del self._messages[message.id]
        self._watchers.tell()
        return changed

    async def retry(self, message_ids: Sequence[str]) -> int:
        """Make rows due now."""
        chosen = self._chosen(message_ids or list(self._messages))
        for message in chosen:
            for number in list(message.rows):
                change_row(message, number, RowChange(retry=True), self._engine.environment.now())
        self._watchers.tell()
        return len(chosen)

    async def cancel(self, message_id: str) -> bool:
        """Unless any of its rows is due, claimed or was tried."""
        message, now = self._messages.get(message_id), self._engine.environment.now()
        if message is None or message.not_before <= now:
            return False
        for row in message.rows.values():
            due = message.held[row.id] if row.held else row.due
            if due <= now or row.tried or row.id in self._claims.rows:
                return False
        del self._messages[message_id]
        return True

    async def remove(self, message_ids: Sequence[str]) -> int:
        """Drop messages without a DSN."""
        chosen = self._chosen(message_ids)
        for message in chosen:
            del self._messages[message.id]
        return len(chosen)

    def _chosen(self, message_ids: Sequence[str]) -> list[Queued]:
        return [self._messages[number] for number in dict.fromkeys(message_ids) if number in self._messages]
