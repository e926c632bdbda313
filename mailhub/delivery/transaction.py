"""One message on its way in: who it is for, where its octets go, and what screens say of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import Enum
from functools import partial

import attrs
from zope.interface import implementer

from mailhub.delivery.allowance import Allowance
from mailhub.delivery.authentication.signer import Signer
from mailhub.delivery.committing import Committing, Rehearsed, discarded
from mailhub.delivery.dead_ends import refusing
from mailhub.delivery.doubles import Sitting, place_digest, printer
from mailhub.delivery.editing import Content, Editing, MessageView, TransactionView, check_envelope
from mailhub.delivery.house import House
from mailhub.delivery.intake import HEAD_LIMIT, Intake, IntakeWriter
from mailhub.delivery.new_body import NewBody
from mailhub.delivery.onward import leads_away
from mailhub.delivery.plan import Accepted
from mailhub.delivery.screens import EditRefused, Screens, obey
from mailhub.delivery.sending import Author
from mailhub.delivery.sent import SentCopies
from mailhub.delivery.verp import verp
from mailhub.errors import MailError, PermanentError
from mailhub.interfaces import (
    STORE,
    AddRecipient,
    ChangeReversePath,
    Committed,
    Edit,
    IBlobReader,
    IBodyWriter,
    ISubmitter,
    ITransaction,
    Origin,
    RemoveRecipient,
    ReplaceBody,
    Route,
    Verdict,
)
from mailhub.log import Logger
from mailhub.message.dates import format_date
from mailhub.message.envelope import Mail, Outcome, Recipient, ValidSince, outcome_of
from mailhub.message.esmtp import notifying
from mailhub.message.trace import received, return_path
from mailhub.message.valid_since import valid_since, without_dates

_log = Logger(namespace="mailhub.delivery")


class _Phase(Enum):
    RECIPIENTS = "recipients are named"
    BODY = "octets come in"
    OVER = "it is over"


_RECIPIENTS = _Phase.RECIPIENTS  # up to Python 3.11, to name a member of an Enum is a call


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
    _submitter: ISubmitter | None = None
    _phase: _Phase = _Phase.RECIPIENTS
    _accepted: list[Accepted] = attrs.field(factory=list)
    _added: list[Accepted] = attrs.field(factory=list)  # by screens; the client knows nothing of them
    _writer: IntakeWriter | None = None
    _content: tuple[IntakeWriter, Content] | None = None  # while screens look at it
    _author: Author | None = None
    _discarded_by: str = ""  # a policy
    _dated: bool = False  # a recipient has RRVS
    _refused: dict[int, Outcome] = attrs.field(factory=dict)  # of those accepted, by number, when the message was there
    allowance: Allowance | None = None  # of our own user's
    sitting: Sitting | None = None  # of the connection, where there is one
    asked_priority: int | None = None  # by MAIL, whatever it got

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
            if self.mail.reverse_path is None and self._accepted:
                self._house.null_sender.check(self.origin, len(self._accepted))
            routes = await self._house.admission.ways(self, recipient.address)
            if recipient.source_route:
                self._house.admission.check_route(recipient)
            if recipient.rrvs is not None:
                self._dated = True
                await self._house.admission.check_owner(recipient.rrvs.timestamp, routes)
            if self._screens.wants("recipient"):
                verdict = await self._screens.ask("recipient", self._take, TransactionView(self), recipient)
                if verdict.action == "discard":
                    known = {"session": self.origin.session_id, "to": recipient.address}
                    _log.event("discarded", {**known, "rule": verdict.rule})
                    routes = ()
                else:
                    self._obey(verdict)
            if self.allowance is not None:
                await self.allowance.recipient(recipient.address)
        except MailError as error:
            await self._screens.tell("recipient_refused", TransactionView(self), recipient, error)
            raise
        self._accepted.append(Accepted(recipient, self._by_own_sender(recipient, routes)))

    def recipient_at_once(self, recipient: Recipient) -> bool:
        """See `ITransaction`. Nearly all mail is for accounts that are known already."""
        mail = self.mail
        if (
            self._phase is not _RECIPIENTS
            or recipient.rrvs is not None
            or recipient.source_route
            or mail.verp
            or self.allowance is not None
            or (mail.reverse_path is None and self._accepted)
            or self._screens.wants("recipient")
        ):
            return False
        routes = self._house.admission.way_at_hand(recipient.address, mail.size)
        if routes is None:
            return False
        self._accepted.append(Accepted(recipient, routes))
        return True

    def _by_own_sender(self, recipient: Recipient, routes: tuple[Route, ...]) -> tuple[Route, ...]:
        """XVERP: failures of each recipient are told to an address of its own."""
        sender = self.mail.reverse_path
        own = verp(sender, recipient.address, self.mail.verp) if sender is not None and self.mail.verp else None
        if own is None:
            return routes
        return tuple([each if each.reverse_path else attrs.evolve(each, reverse_path=own) for each in routes])

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
            priority=self.asked_priority,
        )
        top = return_path(mail.reverse_path)
        mend = None
        if self.origin.submission:
            self._author = author = Author(house.sending, self.origin.user, self._submitter)
            mend = lambda header: author.mend(header, house.new_message_id())  # noqa: E731
        via = away = house.rules is not None  # rules may send on whatever there is
        for each in (*accepted, *self._added):
            for route in each.routes:
                via |= bool(route.via)
                away |= route.agent != STORE
        size = size or mail.size
        held = self._editing.any or self._signer is not None or self._screens.wants("message")
        self._writer = writer = IntakeWriter(
            house.queue.new_body(size and size + len(top) + len(hop), HEAD_LIMIT if held else 0),
            top,
            hop,
            mend,
            aliases=via and mend is None,  # who sends old mail again by hand means it
            budget=house.headers,
            long_lines=None if mend is None else house.long_lines,
            undated=self._without_dates,
            needs=away,
            held=held,
            binary=mail.body_type == "BINARYMIME",
            hostname=house.hostname,
        )
        if self.sitting is not None:
            writer.print_with(printer(mail.reverse_path))
        self._phase = _Phase.BODY
        return writer

    @property
    def _signer(self) -> Signer | None:
        """Where the message is to be signed."""
        signer = self._house.signer
        return signer if signer is not None and self.origin.submission and signer.ready else None

    def _without_dates(self, header: bytes) -> bytes:
        """RFC 7293 5.2: fields that are of use to nobody after us are taken out; those of whom the message is sent on
        to stay, for there may be a server that knows nothing else."""
        onward = set()
        for each in (*self._accepted, *self._added):
            if any(route.agent != STORE and not route.via for route in each.routes):
                onward.add(each.address.key)
        if not onward:
            return without_dates(header)
        return without_dates(header, {each.address.key for each in self._accepted} - onward)

    async def commit(self) -> Committed:
        """See `ITransaction`."""
        self._expect(_Phase.BODY, "commit")
        self._phase = _Phase.OVER
        writer, self._writer = self._writer, None
        assert writer is not None, "there is one from body() on"
        try:
            try:
                if not await self._look_at(writer):
                    return discarded(self._house, self, self._discarded_by)
                body = await writer.finish()
            finally:
                writer.abort()
            try:
                committed = await self._commit_once(body, writer)
            finally:
                body.discard()
            self._end_allowance(sent=True)
            return self._with_refusals(committed)
        finally:
            self._end_allowance(sent=False)
            self._ended()

    async def rehearse(self) -> Rehearsed | None:
        """In the place of commit(), with `Origin.rehearsal`: what would become of the message, None where a screen has
        it discarded. The transaction is over. Raises MailError as commit() does."""
        self._expect(_Phase.BODY, "rehearse")
        writer = self._writer
        assert writer is not None, "there is one from body() on"
        try:
            if not await self._look_at(writer):
                return None
            body = await writer.finish()
            try:
                quarantined = self._editing.quarantined
                return await Committing(self._house, self, self._accepted, self._added, quarantined).rehearse(body)
            finally:
                body.discard()
        finally:
            self.abort()

    async def _look_at(self, writer: IntakeWriter) -> bool:
        """All octets are there. Whether the message is to be kept. Raises MailError."""
        await writer.end()
        if writer.hops > self._house.hop_limit:
            raise PermanentError("Too many hops, this message goes round in a loop", status="5.4.6", rule="hops")
        if self._author is not None:
            await self._author.check(self.mail)
        # Most mail has no dates: no call for what is not there.
        if self._dated or writer.names_owners:
            await self._check_owners(writer.came_with)
        if writer.held and not await self._screen_message(writer):
            return False
        if writer.held:
            await self._sign(writer)
        return True

    async def _sign(self, writer: IntakeWriter) -> None:
        """What our users send, and seal what others have sent and goes on. Raises StoreUnavailable."""
        signer, sealer, results = self._signer, self._house.sealer, self._editing.results
        routes = [route for each in (*self._accepted, *self._added) for route in each.routes]
        seals = sealer is not None and writer.whole and not self.origin.submission and leads_away(routes)
        # Where none leads away, rules may still send it on.
        writer.sealed = seals or self.origin.submission or not results
        if signer is None and not seals:
            return
        rest = await writer.written()
        try:
            if signer is not None:
                writer.signatures = await signer.fields(writer.header, rest)
            elif sealer is not None:
                writer.results = await sealer.fields(writer.header, rest, results) + writer.results
        finally:
            rest.close()

    async def _check_owners(self, header: bytes) -> None:
        """RFC 7293 5: an account may have been made anew since RCPT, and the header may name dates as well. Who is not
        meant gets nothing. Raises PermanentError where that is everybody, StoreUnavailable."""
        named = valid_since(header)
        for number, each in enumerate(self._accepted):
            rrvs = each.recipient.rrvs
            if rrvs is None:
                since = named.get(each.address.key)
                if since is None:
                    continue
                # RFC 7293 6.1: where it waits or goes on, it does so with what the field says.
                rrvs = ValidSince(since, "C")
                each = attrs.evolve(each, recipient=attrs.evolve(each.recipient, rrvs=rrvs))
                self._accepted[number] = each
            try:
                await self._house.admission.check_owner(rrvs.timestamp, each.routes)
            except PermanentError as error:
                refusal = self._refused[number] = outcome_of(error)
                # Who answers for each recipient says it himself.
                known = {"session": self.origin.session_id, "from": self.mail.reverse_path or "", "to": each.address}
                if self.origin.each_recipient:
                    _log.event("refused", {**known, "status": refusal.status, "reply": refusal.reply})
                routes = () if self.origin.each_recipient else (refusing(each.address, refusal),)
                self._accepted[number] = attrs.evolve(each, routes=routes)
                if len(self._refused) == len(self._accepted) and not self.origin.each_recipient:
                    raise

    def _with_refusals(self, committed: Committed) -> Committed:
        if not (self._refused and self.origin.each_recipient):
            return committed
        told = [self._refused.get(number, outcome) for number, outcome in enumerate(committed.outcomes)]
        return attrs.evolve(committed, outcomes=tuple(told))

    async def _commit_once(self, body: Intake, writer: IntakeWriter) -> Committed:
        """Once, although it may come twice."""
        sitting, found = self.sitting, writer.fingerprint
        if sitting is None or not found:
            return await self._commit(body)
        before, places = sitting.earlier(found, writer.came_with)
        if before and self._is_done(before, places):
            return Committed(before, (Outcome.delivered(),) * len(self._accepted))
        taking = sitting.begin(found, _places(self._accepted))
        try:
            committed = await self._commit(body, partial(sitting.name, taking, self._house.queue))
        except BaseException:
            sitting.failed(taking)
            raise
        sitting.taken(taking, committed.id)
        return committed

    def _is_done(self, before: str, places: frozenset[bytes]) -> bool:
        """Leave out whoever has the message since it was taken `before`. Whether that is everybody."""
        known = {"id": before, "session": self.origin.session_id, "from": self.mail.reverse_path or ""}
        for number, each in enumerate(self._accepted):
            if each.routes and places.issuperset(map(place_digest, _places([each]))):
                self._accepted[number] = attrs.evolve(each, routes=())
                _log.event("duplicate", {**known, "to": each.address})
        return not any(each.routes for each in (*self._accepted, *self._added))

    def abort(self) -> None:
        """See `ITransaction`."""
        if self._phase is _Phase.OVER:
            return
        self._phase = _Phase.OVER
        writer, self._writer = self._writer, None
        if writer is not None:
            writer.abort()
        self._end_allowance(sent=False)
        self._ended()

    async def _commit(self, body: Intake, name: Callable[[], str] | None = None) -> Committed:
        house, author, quarantined = self._house, self._author, self._editing.quarantined
        own = None
        if author is not None and self.origin.user:
            own = await SentCopies(house.sending, house.queue, house.store).of(self.origin.user, body, author.blind)
        copy = None if own is None else own.submission
        committing = Committing(house, self, self._accepted, self._added, quarantined, copy, name)
        if own is None:
            return await committing.commit(body)
        try:
            committed = await committing.commit(body)
        finally:
            own.submission.body.discard()
        house.sending.recent.note(own.user, own.mailbox, own.message_id, house.environment.monotonic())
        return committed

    def _end_allowance(self, *, sent: bool) -> None:
        allowance, self.allowance = self.allowance, None
        if allowance is not None:
            allowance.end(sent=sent)

    def _expect(self, phase: _Phase, call: str) -> None:
        if self._phase is not phase:
            raise RuntimeError(f"{call}() out of order: {self._phase.value}")

    async def _screen_message(self, writer: IntakeWriter) -> bool:
        """Ask the screens about the whole message, and put its header as they want it. Whether it is to be kept. Raises
        NotPermitted, TemporaryError."""
        editing = self._editing
        for fault in editing.begin(writer.header, whole=writer.whole):
            _log.event("edit left out", {"session": self.origin.session_id, "reason": fault})
        if self._screens.wants("message"):
            content = Content(await writer.written())
            self._content = writer, content
            try:
                view = MessageView(self, editing, content, writer.hops)
                verdict = await self._screens.ask("message", self._take, view)
            finally:
                self._content = None
                content.close()
            if verdict.action == "discard":
                self._discarded_by = verdict.rule
                return False
            self._obey(verdict)
        writer.header, writer.results = editing.header or b"", editing.field(self._house.hostname)
        writer.return_path = return_path(self.mail.reverse_path)
        return True

    def _obey(self, verdict: Verdict) -> None:
        obey(verdict)
        self._editing.quarantined |= verdict.action == "quarantine"

    async def _take(self, edits: Sequence[Edit]) -> None:
        """Carry out what a screen wants edited. Raises EditRefused."""
        check_envelope(edits)
        bodies = [edit.body for edit in edits if isinstance(edit, ReplaceBody)]
        if bodies:
            await self._take_body(bodies[-1], edits)
        else:
            self._editing.take(edits)
        for edit in edits:
            match edit:
                case ChangeReversePath(address, parameters):
                    self.mail = attrs.evolve(self.mail, reverse_path=address, **notifying(parameters))
                case AddRecipient(recipient):
                    await self._add(recipient)
                case RemoveRecipient(address):
                    for known in (self._accepted, self._added):
                        known[:] = [
                            attrs.evolve(each, routes=()) if each.address == address else each for each in known
                        ]

    async def _take_body(self, given: bytes | IBlobReader, edits: Sequence[Edit]) -> None:
        """Another body, and what is edited of the header, or neither. Raises EditRefused, MailError."""
        if self._content is None:
            raise EditRefused("there is no message yet")
        writer, content = self._content
        if not writer.whole:
            raise EditRefused("the header is too large to tell it from the body")
        new: NewBody | None = None
        try:
            new = writer.new_body(self._house.queue.new_body(0, HEAD_LIMIT), self._house.message_size)
            await new.write(given, self._house.environment.clock)
            self._editing.take(edits)
            reader = await new.writer.written()
        except BaseException:
            if new is not None:
                new.writer.abort()
            raise
        content.replace(reader)
        writer.take_body(new)

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


def _places(accepted: Sequence[Accepted]) -> list[str]:
    """Where the mail of recipients goes: mailboxes of ours by their users."""
    return [
        route.target if route.agent == STORE else str(route.recipient) for each in accepted for route in each.routes
    ]
