"""Delivery status notifications for what could not be delivered (RFC 3464), on the way back to the sender."""

from __future__ import annotations

from collections.abc import Sequence

import attrs

from mailhub.delivery.naming import message_id, token
from mailhub.delivery.plan import Accepted, make_plan
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
from mailhub.message.envelope import Mail, Outcome, Recipient
from mailhub.message.header import fields_end
from mailhub.message.report import HEADER_LIMIT, Report, ReportedRecipient, delivery_status
from mailhub.message.trace import return_path

_log = Logger(namespace="mailhub.queue")

Failures = Sequence[tuple[QueuedRecipient, Outcome]]


def mail_of(message: QueuedMessage, route: Route) -> Mail:
    """What MAIL says on a route, which may have a reverse-path of its own."""
    own = route.reverse_path
    return message.mail if own is None else attrs.evolve(message.mail, reverse_path=own.address)


@attrs.frozen(kw_only=True, eq=False)
class Bouncer:
    """Makes the DSNs of one hub. A DSN has the null reverse-path, and there is none about a message that has it."""

    hostname: str
    environment: Environment
    store: IMailStore
    queue: IQueue
    routing: IRouter

    async def report(self, message: QueuedMessage, failures: Failures) -> Submission | None:
        """A DSN about these recipients, whose routes have one reverse-path, ready for `IQueue.settle`; None when nobody
        can be told.

        Raises TemporaryError when the way to the sender cannot be found now, StoreUnavailable.
        """
        sender = mail_of(message, failures[0][0].route).reverse_path
        if sender is None:
            _log.info("no DSN: id={id} reason='null reverse-path'", id=message.id)
            return None
        routes = await self._routes(message, sender)
        if not routes:
            return None
        plan = make_plan([Accepted(Recipient(sender), tuple(routes))], deposits=self.queue.deposits_into(self.store))
        utf8 = message.mail.smtputf8
        mail = Mail(None, "8BITMIME" if utf8 else "7BIT", utf8)
        top = return_path(None)
        header = await self._header(message.id)
        body = await self._body(top + delivery_status(self._describe(message, sender, failures, header)))
        return Submission(mail, plan, body, len(top))

    async def _routes(self, message: QueuedMessage, sender: Address) -> Sequence[Route]:
        try:
            return await self.routing.route(sender, OwnTransaction()) or ()
        except (PermanentError, NotYetKnown) as error:
            _log.warn("no DSN: id={id} to=<{to}> reason={error!r}", id=message.id, to=sender, error=error)
            return ()

    async def _header(self, queue_id: str) -> bytes:
        try:
            reader = await self.queue.open(queue_id)
        except MessageGone:
            return b""
        except MessageDamaged:
            return await self.queue.kept_header(queue_id)
        try:
            octets = await reader.read(0, HEADER_LIMIT + 1)
        finally:
            reader.close()
        return octets[: fields_end(octets, 0, len(octets))]

    async def _body(self, octets: bytes) -> IBody:
        writer = self.queue.new_body(len(octets))
        try:
            await writer.write(octets)
            return await writer.finish()
        finally:
            writer.abort()

    def _describe(self, message: QueuedMessage, sender: Address, failures: Failures, header: bytes) -> Report:
        return Report(
            hostname=self.hostname,
            to=sender,
            recipients=[ReportedRecipient(row.route.recipient, outcome) for row, outcome in failures],
            date=format_date(self.environment.now()),
            message_id=message_id(self.environment, self.hostname),
            boundary=f"=_{token(self.environment.random, 24)}",
            header=header,
            arrival_date=format_date(message.queued_at),
            smtputf8=message.mail.smtputf8,
        )
