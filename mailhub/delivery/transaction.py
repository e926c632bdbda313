"""One message on its way in: who it is for, where its octets go, and the commit that makes it durable."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from enum import Enum

import attrs
from zope.interface import implementer

from mailhub.delivery.admission import Admission
from mailhub.delivery.dead_ends import without_agent
from mailhub.delivery.editing import Editing, MessageView, TransactionView, check_envelope
from mailhub.delivery.intake import HEAD_LIMIT, HEADERS_TOGETHER, Intake, IntakeWriter
from mailhub.delivery.limits import HOPS, LONG_LINES, LongLines
from mailhub.delivery.loops import break_loops
from mailhub.delivery.message_ids import message_id, token
from mailhub.delivery.placing import Arrived, Placed, Placing
from mailhub.delivery.plan import Accepted, Copy, make_plan, outcomes
from mailhub.delivery.replies import Replies, is_automatic
from mailhub.delivery.rules import Rules
from mailhub.delivery.screens import Screens, obey
from mailhub.errors import MailError, NotYetKnown, PermanentError, TemporaryError
from mailhub.interfaces import (
    STORE,
    AddRecipient,
    ChangeReversePath,
    Committed,
    Edit,
    Environment,
    IBody,
    IBodyWriter,
    IMailStore,
    IQueue,
    ITransaction,
    Origin,
    Receipt,
    RemoveRecipient,
    Route,
    Submission,
    Verdict,
)
from mailhub.keys import setting
from mailhub.log import Logger
from mailhub.message.address import Address
from mailhub.message.dates import format_date
from mailhub.message.envelope import Mail, Outcome, Recipient, State
from mailhub.message.needs import needs_of
from mailhub.message.submission import mend_header
from mailhub.message.trace import received, return_path
from mailhub.wire.budget import Budget

_log = Logger(namespace="mailhub.delivery")

JUNK = "Junk"
_DELIVERED = Outcome.delivered()
_NOBODY: Mapping[int, Outcome] = {}


@attrs.frozen(kw_only=True, eq=False)
class House:
    """What all transactions of a hub share.

    `wake` tells the queue's runner that there is something for it. A message that has come through `hop_limit` hosts
    goes round in a loop (RFC 5321 6.3). `headers` is what those that are not whole yet may hold together. `long_lines`:
    what happens to those of a submitted message. `rules` say what becomes of mail for
    accounts, None where there are none.
    """

    hostname: str
    environment: Environment
    admission: Admission
    queue: IQueue
    store: IMailStore
    wake: Callable[[], None]
    hop_limit: int = setting(HOPS)
    headers: Budget = attrs.field(factory=lambda: Budget(HEADERS_TOGETHER))
    long_lines: LongLines = setting(LONG_LINES)
    rules: Rules | None = None

    def mend(self, header: bytes) -> bytes:
        """What a submitted message's header lacks, or has too much of."""
        date = format_date(self.environment.now())
        return mend_header(header, date, message_id(self.environment, self.hostname))


class _Phase(Enum):
    RECIPIENTS = "recipients are named"
    BODY = "octets come in"
    OVER = "it is over"


def nothing() -> None:
    """Nobody waits for the end."""


@implementer(ITransaction)
@attrs.define(eq=False, repr=False)
class Transaction:
    """See `ITransaction`. `ended` is called once, when it is over."""

    _house: House
    _screens: Screens
    origin: Origin
    mail: Mail
    _editing: Editing = attrs.field(factory=Editing)
    _ended: Callable[[], None] = nothing
    _phase: _Phase = _Phase.RECIPIENTS
    _accepted: list[Accepted] = attrs.field(factory=list)
    _added: list[Accepted] = attrs.field(factory=list)  # by screens; the client knows nothing of them
    _writer: IntakeWriter | None = None

    @property
    def recipients(self) -> tuple[Recipient, ...]:
        """See `ITransactionView`."""
        return tuple([accepted.recipient for accepted in self._accepted])

    async def screened(self) -> None:
        """Ask the screens about MAIL. Raises NotPermitted, TemporaryError."""
        if self._screens.wants("mail"):
            self._obey(await self._screens.ask("mail", self._take, TransactionView(self)))

    async def recipient(self, recipient: Recipient) -> None:
        """See `ITransaction`."""
        self._expect(_Phase.RECIPIENTS, "recipient")
        try:
            routes = await self._house.admission.ways(self, recipient.address)
            if self._screens.wants("recipient"):
                verdict = await self._screens.ask("recipient", self._take, TransactionView(self), recipient)
                if verdict.action == "discard":
                    _log.event("discarded", {"session": self.origin.session_id, "to": recipient.address})
                    routes = ()
                else:
                    self._obey(verdict)
        except MailError as error:
            await self._screens.tell("recipient_refused", TransactionView(self), recipient, error)
            raise
        self._accepted.append(Accepted(recipient, routes))

    def body(self, size: int = 0) -> IBodyWriter:
        """See `ITransaction`."""
        self._expect(_Phase.RECIPIENTS, "body")
        accepted, house, mail = self._accepted, self._house, self.mail
        if not accepted:
            raise RuntimeError("body() of a transaction without recipients")
        hop = received(
            hostname=house.hostname,
            origin=self.origin,
            date=format_date(house.environment.now()),
            recipient=accepted[0].address if len(accepted) == 1 else None,
            smtputf8=mail.smtputf8,
            own=not (self.origin.session_id or self.origin.peer or self.origin.helo),
        )
        top = return_path(mail.reverse_path)
        mend = house.mend if self.origin.submission else None
        # Who sends old mail again by hand means it.
        rules = house.rules is not None  # which may send on whatever there is
        named = (*accepted, *self._added)
        aliases = mend is None and (rules or any(route.via for each in named for route in each.routes))
        size = size or mail.size
        held = self._editing.any or self._screens.wants("message")
        self._writer = writer = IntakeWriter(
            house.queue.new_body(size and size + len(top) + len(hop), HEAD_LIMIT if held else 0),
            top,
            hop,
            mend,
            aliases=aliases,
            budget=house.headers,
            long_lines=None if mend is None else house.long_lines,
            needs=rules or any(route.agent != STORE for each in named for route in each.routes),
            held=held,
        )
        self._phase = _Phase.BODY
        return writer

    async def commit(self) -> Committed:
        """See `ITransaction`."""
        self._expect(_Phase.BODY, "commit")
        self._phase = _Phase.OVER
        writer, self._writer = self._writer, None
        assert writer is not None, "there is one from body() on"
        try:
            try:
                await writer.end()
                if writer.hops >= self._house.hop_limit:
                    raise PermanentError("Too many hops, this message goes round in a loop", status="5.4.6")
                if writer.held and not await self._screen_message(writer):
                    return self._discarded()
                body = await writer.finish()
            finally:
                writer.abort()
            try:
                return await self._commit(body)
            finally:
                body.discard()
        finally:
            self._ended()

    def abort(self) -> None:
        """See `ITransaction`."""
        if self._phase is _Phase.OVER:
            return
        self._phase = _Phase.OVER
        writer, self._writer = self._writer, None
        if writer is not None:
            writer.abort()
        self._ended()

    def _expect(self, phase: _Phase, call: str) -> None:
        if self._phase is not phase:
            raise RuntimeError(f"{call}() out of order: {self._phase.value}")

    async def _commit(self, body: Intake) -> Committed:
        accepted = self._without_loops([*self._accepted, *self._added], body.delivered_to)
        if self._editing.quarantined:
            accepted = [attrs.evolve(each, routes=tuple(map(_into_junk, each.routes))) for each in accepted]
        elif self._house.rules is not None:
            return await self._commit_by_rules(self._house.rules, accepted, body)
        # Where each recipient is answered, only a recipient that is one mailbox can be refused whole.
        each = self._answers_each and all(len(recipient.routes) <= 1 for recipient in accepted)
        return await self._submit([self._copy(accepted, body)], each)

    @property
    def _answers_each(self) -> bool:
        return self.origin.each_recipient and not self._added

    def _copy(self, accepted: Sequence[Accepted], body: Intake) -> Copy:
        plan = make_plan(accepted, self.mail, deposits=self._house.queue.deposits_into(self._house.store))
        message = Submission(self.mail, plan, body.body, body.relay_offset, body.needs, self._held_until())
        return Copy(accepted, message)

    async def _commit_by_rules(self, rules: Rules, accepted: Sequence[Accepted], body: Intake) -> Committed:
        """Copies with another header and replies are messages of their own, in the same commit."""
        own: list[IBody] = []
        arrived = await Arrived.read(body)
        try:
            placed = await Placing.of(self, rules, self._ways, arrived, body).place(accepted)
            each = self._answers_each and all(len(placed.places(number)) <= 1 for number in range(len(accepted)))
            refusals = placed.take_refusals(accepted, each=self._answers_each)
            if refusals and not self.origin.each_recipient:
                raise _as_error(tuple(refusals.values()))
            copies = []
            for edits, recipients in placed.copies.items():
                if edits:
                    written, header = await arrived.write(edits, self._house.queue.new_body)
                    own.append(written)
                    needs = None if body.needs is None else body.needs | needs_of(header).bits
                    copies.append(self._copy(recipients, attrs.evolve(body, body=written, needs=needs)))
                else:
                    copies.append(self._copy(recipients, body))
            replies = await self._replies(placed, arrived.header)
            own += [reply.body for reply in replies]
            return await self._submit(copies, each, refusals, replies)
        finally:
            arrived.rest.close()
            for written in own:
                written.discard()

    async def _ways(self, address: Address) -> Sequence[Route]:
        return await self._house.admission.routes(self, address)

    async def _replies(self, placed: Placed, header: bytes) -> list[Submission]:
        """Those that can be made; of others the log says why not."""
        to, house = self.mail.reverse_path, self._house
        replies = Replies(house.queue, house.store, house.mend, self._ways)
        made = []
        for rule, account, reply in placed.replies:
            reason = "null reverse-path" if to is None else "sent by a program" if is_automatic(header) else ""
            if to is not None and not reason:
                try:
                    made.append(await replies.submission(reply, to))
                except (PermanentError, NotYetKnown) as error:
                    reason = error.text
            if reason:
                known = {"session": self.origin.session_id, "rule": rule, "to": account}
                _log.event("reply left out", {**known, "reason": reason})
        return made

    def _held_until(self) -> int:
        """Before when nothing may be delivered (RFC 4865), in seconds since the epoch."""
        hold = self.mail.hold
        if hold is None:
            return 0
        return hold.seconds if hold.kind == "UNTIL" else self._house.environment.now() + hold.seconds

    async def _screen_message(self, writer: IntakeWriter) -> bool:
        """Ask the screens about the whole message, and put its header as they want it. Whether it is to be kept. Raises
        NotPermitted, TemporaryError."""
        editing = self._editing
        for fault in editing.begin(writer.header, whole=writer.whole):
            _log.event("edit left out", {"session": self.origin.session_id, "reason": fault})
        if self._screens.wants("message"):
            reader = await writer.written()
            try:
                view = MessageView(self, editing, reader, writer.hops)
                verdict = await self._screens.ask("message", self._take, view)
            finally:
                reader.close()
            if verdict.action == "discard":
                return False
            self._obey(verdict)
        writer.header = editing.head(self._house.hostname)
        writer.return_path = return_path(self.mail.reverse_path)
        return True

    def _obey(self, verdict: Verdict) -> None:
        obey(verdict)
        self._editing.quarantined |= verdict.action == "quarantine"

    async def _take(self, edits: Sequence[Edit]) -> None:
        """Carry out what a screen wants edited. Raises EditRefused."""
        check_envelope(edits)
        self._editing.take(edits)
        for edit in edits:
            match edit:
                case ChangeReversePath(address):
                    self.mail = attrs.evolve(self.mail, reverse_path=address)
                case AddRecipient(recipient):
                    await self._add(recipient)
                case RemoveRecipient(address):
                    for known in (self._accepted, self._added):
                        known[:] = [
                            attrs.evolve(each, routes=()) if each.address == address else each for each in known
                        ]

    async def _add(self, recipient: Recipient) -> None:
        if any(each.recipient == recipient and each.routes for each in self._added):
            return  # mostly by a screen that says so for each recipient
        try:
            routes = await self._house.admission.routes(self, recipient.address)
        except MailError as error:
            known = {"session": self.origin.session_id, "to": recipient.address}
            _log.event("edit left out", {**known, "status": error.status, "reason": error.text})
        else:
            self._added.append(Accepted(recipient, routes))

    def _without_loops(self, accepted: Sequence[Accepted], delivered_to: frozenset[str]) -> Sequence[Accepted]:
        if not delivered_to:
            return accepted
        left = break_loops(accepted, delivered_to)
        for before, after in zip(accepted, left, strict=True):
            if before.routes and not after.routes:
                _log.event("looped", {"session": self.origin.session_id, "to": before.address})
        return left

    def _discarded(self) -> Committed:
        # Like an id of the queue: the client is not to see the difference.
        name = token(self._house.environment.random, 16)
        known = {"id": name, "session": self.origin.session_id}
        _log.event("discarded", {**known, "from": self.mail.reverse_path or ""})
        return Committed(name, (_DELIVERED,) * len(self._accepted))

    async def _submit(
        self,
        copies: Sequence[Copy],
        each: bool,
        refusals: Mapping[int, Outcome] = _NOBODY,
        replies: Sequence[Submission] = (),
    ) -> Committed:
        """`refusals` are the answers for recipients that have been refused already, by number."""
        sent = [copy for copy in copies if copy.message.plan.deposits or copy.message.plan.routes]
        messages = [*(copy.message for copy in sent), *replies]
        if not messages:
            return Committed("refused", self._outcomes((), (), refusals)) if refusals else self._discarded()
        receipt = await self._house.queue.submit(messages[0], "reply" if each else "bounce", messages[1:])
        receipts = (receipt, *receipt.also)
        refused = [outcome for receipt in receipts for outcome in receipt.refused.values()]
        refused_all = bool(sent) and all(map(_untaken, sent, receipts))
        if refused_all and not self.origin.each_recipient:
            raise _as_error(refused)
        for message, its_receipt in zip(messages, receipts, strict=True):
            if its_receipt.kept or not message.reply:
                self._log_states(message, its_receipt)
        if any(message.plan.routes for message in messages) or (refused and not each):
            self._house.wake()
        told = sent if each or refused_all else ()
        return Committed(receipt.id, self._outcomes(told, receipts[: len(told)], refusals))

    def _outcomes(
        self, sent: Sequence[Copy], receipts: Sequence[Receipt], refusals: Mapping[int, Outcome]
    ) -> tuple[Outcome, ...]:
        """For each recipient that the client has named; without copies, all that are not refused were taken."""
        count = len(self._accepted)
        told = outcomes(sent, receipts) if sent else (_DELIVERED,) * count
        if not refusals:
            return told[:count]
        return tuple([refusals.get(number, outcome) for number, outcome in enumerate(told[:count])])

    def _log_states(self, message: Submission, receipt: Receipt) -> None:
        """A line for each place the message goes to, with what there is to say of the message."""
        origin = self.origin
        known: dict[str, object] = {
            "id": receipt.id,
            "session": origin.session_id,
            "from": message.mail.reverse_path or "",
            "size": message.body.size,
        }
        client = {"peer": origin.peer, "helo": origin.helo, "tls": origin.tls, "user": origin.user}
        for index, deposit in enumerate(message.plan.deposits):
            fields = {**known, "to": deposit.recipient, "agent": STORE, "target": deposit.user, **client}
            refused = receipt.refused.get(index)
            if refused is None:
                _log.event("delivered", fields)
            else:
                _log.event("refused", {**fields, "status": refused.status, "reply": refused.reply})
        for route in message.plan.routes:
            if (refused := without_agent(route)) is not None:
                fields = {**known, "to": route.recipient, **client}
                _log.event("refused", {**fields, "status": refused.status, "reply": refused.reply})
                continue
            way = {"to": route.recipient, "agent": route.agent, "target": route.target}
            _log.event("queued", {**known, **way, **client})


def _untaken(copy: Copy, receipt: Receipt) -> bool:
    plan = copy.message.plan
    return not plan.routes and len(receipt.refused) == len(plan.deposits)


def _into_junk(route: Route) -> Route:
    return attrs.evolve(route, mailbox=JUNK) if route.agent == STORE else route


def _as_error(refused: Sequence[Outcome]) -> MailError:
    """What SMTP says when no recipient could be delivered to: temporary when any of them may succeed later."""
    worst = next((outcome for outcome in refused if outcome.state is State.DELAYED), refused[0])
    kind = TemporaryError if worst.state is State.DELAYED else PermanentError
    return kind(worst.reply, status=worst.status)
