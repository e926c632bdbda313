"""Delivery status notifications (RFC 3464), on the way back to the sender."""

from __future__ import annotations

from collections.abc import Sequence

import attrs

from mailhub.delivery.authentication.signer import Signer
from mailhub.delivery.message_ids import message_id, token
from mailhub.delivery.notices import is_news, is_wanted
from mailhub.delivery.plan import Accepted, deposits_of, make_plan
from mailhub.errors import MessageDamaged, MessageGone, NotYetKnown, PermanentError
from mailhub.interfaces import (
    Environment,
    IBody,
    IMailStore,
    IQueue,
    IRouter,
    OwnTransaction,
    QueuedMessage,
    QueuedRecipient,
    Route,
    Submission,
)
from mailhub.log import Logger
from mailhub.message.address import Address
from mailhub.message.dates import format_date
from mailhub.message.envelope import Mail, Outcome, Recipient, State
from mailhub.message.header import Header, fields_end
from mailhub.message.needs import needs_of
from mailhub.message.report import HEADER_LIMIT, MESSAGE_LIMIT, Report, ReportedRecipient, delivery_status
from mailhub.message.tls_required import wants_no_tls
from mailhub.message.trace import received_from, return_path

_log = Logger(namespace="mailhub.queue")

Told = Sequence[tuple[QueuedRecipient, Outcome]]


@attrs.frozen(kw_only=True, eq=False)
class Bouncer:
    """Makes the DSNs of one hub. A DSN has the null reverse-path, and there is none about a message that has it."""

    hostname: str
    environment: Environment
    store: IMailStore
    queue: IQueue
    routing: IRouter
    signer: Signer | None = None

    async def report(self, message: QueuedMessage, outcomes: Told, until: int = 0) -> Submission | None:
        """A DSN about these recipients, whose routes have one reverse-path, ready for `IQueue.settle`; None when nobody
        can be told, or wants to be (RFC 3461 4.1 NOTIFY). `until`: when those that are delayed will be given up.

        Raises TemporaryError when the way to the sender cannot be found now, StoreUnavailable.
        """
        own = outcomes[0][0].route.reverse_path
        sender = message.mail.reverse_path if own is None else own.address
        # The parameters are those of who sent it to us, and not of who sends it on in another name.
        mail = (
            attrs.evolve(message.mail, envid="", ret="", hold=None, by=None)
            if outcomes[0][0].route.owned
            else message.mail
        )
        if sender is None:
            _log.info("no DSN: id={id} reason='null reverse-path'", id=message.id)
            return None
        told = self._to_be_told(message.mail, outcomes, until)
        if not told:
            _log.info("no DSN: id={id} reason='not asked for'", id=message.id)
            return None
        routes = await self._routes(message, sender)
        if not routes:
            return None
        # Wherever it goes, nobody is told of its own failure (RFC 3464 2).
        accepted = Accepted(Recipient(sender), tuple([attrs.evolve(route, reverse_path=None) for route in routes]))
        if not any(outcome.state is State.FAILED for _, outcome in outcomes):
            mail = attrs.evolve(mail, ret="")  # RFC 3461 4.3: the whole of it goes back with a failure alone
        if mail.requiretls:
            mail = attrs.evolve(mail, ret="HDRS")  # RFC 8689 5: whatever its sender wants, as the way back may leak it
        header, whole = await self._original(message.id, mail)
        report = self._describe(message, mail, sender, told, header, whole)
        octets = delivery_status(report)
        # RFC 8689 5: what goes back of a message is to be protected as it was; and it is as urgent (RFC 6710).
        declared = Mail(None, "8BITMIME", mail.smtputf8, requiretls=mail.requiretls, priority=mail.priority)
        if octets.isascii():
            # It declares what it has itself, whatever its message had.
            octets = delivery_status(attrs.evolve(report, smtputf8=False))
            declared = attrs.evolve(declared, body_type="7BIT", smtputf8=False)
        if self.signer is not None:
            octets = await self.signer.signed(octets)
        plan = make_plan([accepted], declared, deposits=deposits_of(self.queue, self.store))
        top = return_path(None)
        return Submission(declared, plan, await self._body(top + octets), len(top), needs_of(octets).bits)

    async def _routes(self, message: QueuedMessage, sender: Address) -> Sequence[Route]:
        try:
            return await self.routing.route(sender, OwnTransaction()) or ()
        except (PermanentError, NotYetKnown) as error:
            _log.warn("no DSN: id={id} to=<{to}> reason={error!r}", id=message.id, to=sender, error=error)
            return ()

    async def _original(self, queue_id: str, mail: Mail) -> tuple[bytes, bytes]:
        """The message's header, and all of it where that goes back."""
        try:
            reader = await self.queue.open(queue_id)
        except MessageGone:
            return b"", b""
        except MessageDamaged:
            return await self.queue.kept_header(queue_id), b""
        whole = mail.ret == "FULL" and reader.size <= MESSAGE_LIMIT
        try:
            octets = await reader.read(0, reader.size if whole else HEADER_LIMIT + 1)
        finally:
            reader.close()
        return octets[: fields_end(octets, 0, min(len(octets), HEADER_LIMIT + 1))], octets if whole else b""

    async def _body(self, octets: bytes) -> IBody:
        writer = self.queue.new_body(len(octets))
        try:
            await writer.write(octets)
            return await writer.finish()
        finally:
            writer.abort()

    def _describe(
        self,
        message: QueuedMessage,
        mail: Mail,
        sender: Address,
        told: Sequence[ReportedRecipient],
        header: bytes,
        whole: bytes,
    ) -> Report:
        return Report(
            hostname=self.hostname,
            to=sender,
            recipients=told,
            date=format_date(self.environment.now()),
            message_id=message_id(self.environment, self.hostname),
            boundary=f"=_{token(self.environment.random, 24)}",
            header=header,
            arrival_date=format_date(message.queued_at),
            envelope_id=mail.envid,
            hold=mail.hold,
            deliver_by=format_date(message.queued_at + mail.by.seconds) if mail.by is not None else "",
            smtputf8=mail.smtputf8,
            message=whole,
            log_id=message.id,
            received_from=received_from(header, self.hostname),
            # RFC 8689 6; REQUIRETLS has the last word.
            no_tls=not mail.requiretls and wants_no_tls(Header(header).all(b"tls-required")),
        )

    def _to_be_told(self, mail: Mail, outcomes: Told, until: int) -> list[ReportedRecipient]:
        """Each recipient as it was named to us, where that is to be told; what a route sends on in a name of its own is
        told to that name, whatever the sender wanted to know."""
        told = []
        last = format_date(until) if until else ""
        for row, outcome in outcomes:
            if not is_news(mail, row, outcome):
                continue
            # What has waited for its DSN alone was not tried again, nor what was left alone with its host.
            at_once = outcome.tried and (row.last is None or row.last.state is State.DELAYED)
            tried = self.environment.now() if at_once else row.tried
            made = ReportedRecipient(
                row.route.recipient,
                outcome,
                tried=format_date(tried) if tried else "",
                until=last if outcome.state is State.DELAYED else "",
            )
            if row.route.owned or not row.route.originals:
                told.append(made)
                continue
            for named in row.route.originals:
                if is_wanted(mail, named, outcome):
                    original = None if named.address == made.recipient else named.address
                    told.append(attrs.evolve(made, original=original, orcpt=named.orcpt))
        return told
