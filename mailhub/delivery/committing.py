"""The end of a transaction: its message, the copies and replies that rules want, and the one commit they are all in."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import attrs

from mailhub.delivery.dead_ends import without_agent
from mailhub.delivery.house import House
from mailhub.delivery.intake import Intake
from mailhub.delivery.loops import break_loops, returning, that_have
from mailhub.delivery.message_ids import token
from mailhub.delivery.onward import leads_away
from mailhub.delivery.placing import Arrived, Edits, Placed, Placing
from mailhub.delivery.plan import Accepted, Copy, deposits_of, make_plan, outcomes, told_once
from mailhub.delivery.replies import Replies, is_automatic
from mailhub.delivery.rules import Rules
from mailhub.errors import MailError, PermanentError, TemporaryError
from mailhub.interfaces import STORE, Committed, IBody, ITransactionView, Receipt, Route, Submission
from mailhub.log import Logger
from mailhub.message.address import Address
from mailhub.message.digest import digest
from mailhub.message.envelope import Outcome, State
from mailhub.message.needs import needs_of

_log = Logger(namespace="mailhub.delivery")

JUNK = "Junk"
_DELIVERED = Outcome.delivered()
_NOBODY: Mapping[int, Outcome] = {}


@attrs.frozen
class Rehearsed:
    """What would become of a message: where it goes by screens and rules, whether mailboxes get it as junk, and the
    accounts that would answer it."""

    routes: Sequence[Route]
    quarantined: bool = False
    replies: Sequence[str] = ()


@attrs.define(eq=False)
class Committing:
    """One message whose octets have come. `named` are the recipients that the client knows, `added` those of screens;
    `quarantined`: mailboxes get it as junk."""

    _house: House
    _transaction: ITransactionView
    _named: Sequence[Accepted]
    _added: Sequence[Accepted]
    _quarantined: bool
    _own_copy: Submission | None = None  # for the sender's mailbox
    _name: Callable[[], str] | None = None  # one to commit by what is kept otherwise than it came

    async def commit(self, body: Intake) -> Committed:
        """`body` is still to be discarded. Raises MailError, where nobody gets the message."""
        accepted: Sequence[Accepted] = [*self._named, *self._added]
        if body.delivered_to or self._quarantined:
            accepted = await self._before_rules(accepted, body)
        rules = None if self._quarantined else self._house.rules
        if rules is not None or self._is_to_be_sealed(accepted, body):
            return await self._in_copies(rules, accepted, body)
        # Where each recipient is answered, only a recipient that is one mailbox can be refused whole.
        each = self._answers_each and all(len(recipient.routes) <= 1 for recipient in accepted)
        return await self._submit([self._copy(accepted, body)], each, edited=body.edited)

    async def rehearse(self, body: Intake) -> Rehearsed:
        """What `commit` would do. `body` is still to be discarded. Raises MailError as that does for what is known
        before."""
        accepted = await self._before_rules([*self._named, *self._added], body)
        if self._house.rules is None or self._quarantined:
            return Rehearsed([route for each in accepted for route in each.routes], self._quarantined)
        arrived = await Arrived.read(body)
        try:
            placed = await Placing.of(self._transaction, self._house.rules, self._ways, arrived, body).place(accepted)
        finally:
            arrived.rest.close()
        refusals = placed.take_refusals(accepted, each=self._answers_each)
        if refusals:
            raise _as_error(tuple(refusals.values()))
        routes = [route for each in placed.copies.values() for recipient in each for route in recipient.routes]
        return Rehearsed(routes, replies=[account for _, account, _ in placed.replies])

    async def _before_rules(self, accepted: Sequence[Accepted], body: Intake) -> Sequence[Accepted]:
        if body.delivered_to:
            accepted = await self._without_loops(accepted, body)
        if self._quarantined:
            return [attrs.evolve(each, routes=tuple(map(_into_junk, each.routes))) for each in accepted]
        return accepted

    @property
    def _answers_each(self) -> bool:
        return self._transaction.origin.each_recipient and not self._added

    def _copy(self, accepted: Sequence[Accepted], body: Intake) -> Copy:
        house, mail = self._house, self._transaction.mail
        held_until = house.sending.held_until(self._transaction.origin, mail)
        plan = make_plan(accepted, mail, deposits=deposits_of(house.queue, house.store), held=bool(held_until))
        message = Submission(
            mail,
            plan,
            body.body,
            body.relay_offset,
            body.needs,
            held_until,
            submitter=self._transaction.origin.user,
        )
        return Copy(accepted, message)

    def _is_to_be_sealed(self, accepted: Sequence[Accepted], body: Intake) -> bool:
        """What leads away is known by now."""
        if body.sealed or self._house.sealer is None:
            return False
        return leads_away(route for each in accepted for route in each.routes)

    async def _in_copies(self, rules: Rules | None, accepted: Sequence[Accepted], body: Intake) -> Committed:
        """Copies with another header and replies are messages of their own, in the same commit."""
        own: list[IBody] = []
        arrived = await Arrived.read(body)
        try:
            placed = Placed({(): list(accepted)}, [])
            if rules is not None:
                placed = await Placing.of(self._transaction, rules, self._ways, arrived, body).place(accepted)
            each = self._answers_each and all(len(placed.places(number)) <= 1 for number in range(len(accepted)))
            refusals = placed.take_refusals(accepted, each=self._answers_each)
            if refusals and not self._transaction.origin.each_recipient:
                raise _as_error(tuple(refusals.values()))
            copies = []
            for (_, header), recipients in told_once(await self._with_headers(placed, arrived, body)).items():
                if header is not None:
                    written = await arrived.write(header, self._house.queue.new_body)
                    own.append(written)
                    needs = None if body.needs is None else body.needs | needs_of(header).bits
                    copies.append(self._copy(recipients, attrs.evolve(body, body=written, needs=needs)))
                else:
                    copies.append(self._copy(recipients, body))
            replies = await self._replies(placed, arrived)
            own += [reply.body for reply in replies]
            return await self._submit(copies, each, refusals, replies, edited=body.edited or bool(own))
        finally:
            arrived.rest.close()
            for written in own:
                written.discard()

    async def _with_headers(
        self, placed: Placed, arrived: Arrived, body: Intake
    ) -> Mapping[tuple[Edits, bytes | None], Sequence[Accepted]]:
        """The copies by their edits, each with its header; None for the message as it is. What leads away is sealed,
        what stays here is not."""
        found: dict[tuple[Edits, bytes | None], Sequence[Accepted]] = {}
        for edits, recipients in placed.copies.items():
            found[edits, arrived.edited(edits) if edits else None] = recipients
        plain, sealer = placed.copies[()], self._house.sealer
        if sealer is not None and self._is_to_be_sealed(plain, body):
            sealed = await sealer.sealed(arrived.header, arrived.rest)
            if sealed != arrived.header:
                found[(), None] = [_only(each, away=False) for each in plain]
                found[(), sealed] = [_only(each, away=True) for each in plain]
        return found

    async def _ways(self, address: Address) -> Sequence[Route]:
        return await self._house.admission.routes(self._transaction, address)

    async def _replies(self, placed: Placed, arrived: Arrived) -> list[Submission]:
        """Those that can be made; of others the log says why not."""
        to, requiretls, house = self._transaction.mail.reverse_path, self._transaction.mail.requiretls, self._house
        replies = Replies(house.queue, house.store, house.mend, self._ways, house.signer)
        made = []
        for rule, account, reply in placed.replies:
            reason = "null reverse-path" if to is None else _why_none(arrived)
            if to is not None and not reason:
                try:
                    made.append(await replies.submission(reply, to, arrived.header, requiretls=requiretls))
                except MailError as error:  # the message itself does not depend on the way back
                    reason = error.text
            if reason:
                known = {"session": self._transaction.origin.session_id, "rule": rule, "to": account}
                _log.event("reply left out", {**known, "reason": reason})
        return made

    async def _without_loops(self, accepted: Sequence[Accepted], body: Intake) -> Sequence[Accepted]:
        seen = body.delivered_to
        kept: Sequence[Route] = ()
        if back := returning(accepted, seen):
            arrived = await Arrived.read(body)
            arrived.rest.close()
            kept = await that_have(self._house.store, back, digest(arrived.header).message_id)
        left = break_loops(accepted, seen, kept)
        for before, after in zip(accepted, left, strict=True):
            if after.routes != before.routes:
                known = {"session": self._transaction.origin.session_id, "to": before.address}
                reason = "it is not sent on again" if after.routes else "its mailboxes here have it"
                _log.event("looped", {**known, "reason": reason})
        return left

    async def _submit(
        self,
        copies: Sequence[Copy],
        each: bool,
        refusals: Mapping[int, Outcome] = _NOBODY,
        replies: Sequence[Submission] = (),
        *,
        edited: bool,
    ) -> Committed:
        """`refusals` are the answers for recipients that have been refused already, by number."""
        sent = [copy for copy in copies if copy.message.plan.deposits or copy.message.plan.routes]
        own = [self._own_copy] if self._own_copy is not None and sent else []
        messages = [*(copy.message for copy in sent), *replies, *own]
        if not messages:
            if refusals:
                return Committed("refused", self._outcomes((), (), refusals))
            return discarded(self._house, self._transaction)
        if edited and self._name is not None:
            messages[0] = attrs.evolve(messages[0], delivery_id=self._name())
        receipt = await self._house.queue.submit(messages[0], "reply" if each else "bounce", messages[1:])
        receipts = (receipt, *receipt.also)
        refused_all = bool(sent) and all(map(_untaken, sent, receipts))
        if refused_all and not self._transaction.origin.each_recipient:
            raise _as_error([outcome for each in receipts for outcome in each.refused.values()])
        for message, its_receipt in zip(messages, receipts, strict=True):
            if its_receipt.kept or not message.reply:
                self._log_states(message, its_receipt)
        told = sent if each or refused_all else ()
        return Committed(receipt.id, self._outcomes(told, receipts[: len(told)], refusals))

    def _outcomes(
        self, sent: Sequence[Copy], receipts: Sequence[Receipt], refusals: Mapping[int, Outcome]
    ) -> tuple[Outcome, ...]:
        """For each recipient that the client has named; without copies, all that are not refused were taken."""
        count = len(self._named)
        told = outcomes(sent, receipts) if sent else (_DELIVERED,) * count
        if not refusals:
            return told[:count]
        return tuple([refusals.get(number, outcome) for number, outcome in enumerate(told[:count])])

    def _log_states(self, message: Submission, receipt: Receipt) -> None:
        """A line for each place the message goes to, with what there is to say of the message."""
        origin = self._transaction.origin
        known: dict[str, object] = {
            "id": receipt.id,
            "session": origin.session_id,
            "from": message.mail.reverse_path or "",
            "size": message.body.size,
        }
        client = {
            "peer": origin.peer,
            "helo": origin.helo,
            "tls": origin.tls,
            "user": origin.user,
            **origin.original,
        }
        if message.mail.priority is not None:
            client["priority"] = str(message.mail.priority)  # RFC 6710 4.1
        deposits = message.plan.deposits
        if len(deposits) > 1 and not receipt.refused and message is not self._own_copy:
            fields = {**known, "to": "", "agent": STORE, "target": "", **client}
            _log.events("delivered", fields, ("to", "target"), [(str(each.recipient), each.user) for each in deposits])
            deposits = ()
        for index, deposit in enumerate(deposits):
            fields = {**known, "to": deposit.recipient, "agent": STORE, "target": deposit.user, **client}
            if message is self._own_copy:
                fields["copy"] = deposit.mailbox
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


def discarded(house: House, transaction: ITransactionView, rule: str = "") -> Committed:
    """What is answered for a message that nobody gets and nobody misses. `rule` is who says so."""
    # Like an id of the queue: the client is not to see the difference.
    name = token(house.environment.random, 16)
    known = {"id": name, "session": transaction.origin.session_id}
    said = {"rule": rule} if rule else {}
    _log.event("discarded", {**known, "from": transaction.mail.reverse_path or "", **said})
    return Committed(name, (_DELIVERED,) * len(transaction.recipients))


def _why_none(arrived: Arrived) -> str:
    """Why what has come is not answered (RFC 3834 2); "" where it is."""
    if not arrived.whole:
        return "its header is too large to say who sent it"
    return "sent by a program" if is_automatic(arrived.header) else ""


def _untaken(copy: Copy, receipt: Receipt) -> bool:
    plan = copy.message.plan
    return not plan.routes and len(receipt.refused) == len(plan.deposits)


def _only(accepted: Accepted, *, away: bool) -> Accepted:
    return attrs.evolve(accepted, routes=tuple([each for each in accepted.routes if leads_away([each]) is away]))


def _into_junk(route: Route) -> Route:
    return attrs.evolve(route, mailbox=JUNK) if route.agent == STORE else route


def _as_error(refused: Sequence[Outcome]) -> MailError:
    """What SMTP says when no recipient could be delivered to: temporary when any of them may succeed later."""
    worst = next((outcome for outcome in refused if outcome.state is State.DELAYED), refused[0])
    kind = TemporaryError if worst.state is State.DELAYED else PermanentError
    return kind(worst.reply, status=worst.status)
