"""The way in for every message: who may send what to whom, and one commit that makes it durable."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import attrs
from zope.interface import implementer

from mailhub.delivery.intake import HEADERS_TOGETHER, Intake, IntakeWriter, LongLines
from mailhub.delivery.loops import break_loops
from mailhub.delivery.names import LocalNames
from mailhub.delivery.naming import message_id
from mailhub.delivery.plan import make_plan, outcomes
from mailhub.delivery.policies import refusal
from mailhub.delivery.routing import is_postmaster
from mailhub.errors import MailError, NoSuchUser, NotPermitted, NotYetKnown, OverQuota, PermanentError, TemporaryError
from mailhub.interfaces import (
    STORE,
    Accepted,
    Committed,
    Environment,
    IBody,
    IBodyWriter,
    IMailStore,
    IPipeline,
    IPolicy,
    IQueue,
    IRouter,
    ISubmitter,
    Origin,
    Plan,
    Receipt,
    Route,
    Submission,
)
from mailhub.log import Logger
from mailhub.message.address import Address, literal_of
from mailhub.message.dates import format_date
from mailhub.message.envelope import Mail, Outcome, State
from mailhub.message.submission import mend_header
from mailhub.message.trace import received, return_path
from mailhub.wire.budget import Budget

_log = Logger(namespace="mailhub.delivery")


@implementer(IPipeline)
@attrs.frozen(kw_only=True, eq=False)
class Pipeline:
    """The pipeline of one hub.

    `wake` tells the queue's runner that there is something for it. A message that has come through `hop_limit` hosts
    goes round in a loop (RFC 5321 6.3). `headers` is what those that are not whole yet may hold together. `long_lines`:
    what happens to those of a submitted message.
    """

    hostname: str
    names: LocalNames
    environment: Environment
    store: IMailStore
    queue: IQueue
    routing: IRouter
    policies: IPolicy
    wake: Callable[[], None]
    hop_limit: int = 50
    headers: Budget = attrs.field(factory=lambda: Budget(HEADERS_TOGETHER))
    long_lines: LongLines = "wrap"

    async def connected(self, origin: Origin) -> None:
        """See `IPipeline`."""
        _raise(refusal(await self.policies.on_connect(origin)))

    async def sender(self, origin: Origin, envelope: Mail, submitter: ISubmitter | None, size: int = 0) -> None:
        """See `IPipeline`. Raises NotPermitted 5.7.0 for submission without login."""
        if origin.submission and submitter is None:
            raise NotPermitted("Authentication required", status="5.7.0")
        if submitter is not None and not await submitter.may_send_as(envelope.reverse_path):
            raise NotPermitted("Sender address does not belong to your login")
        self.queue.check_space(size)
        _raise(refusal(await self.policies.on_mail(origin, envelope)))

    async def recipient(self, origin: Origin, envelope: Mail, address: Address, size: int = 0) -> Accepted:
        """See `IPipeline`. A mailbox known to be full is refused with 5.2.2: the sender's own host tells the sender at
        once, and a full mailbox seldom empties within a queue's patience (RFC 5321 4.2.2 has 552 for it)."""
        routes = await self._ways(origin, address)
        await self._check_quota(routes, size)
        verdict = await self.policies.on_recipient(origin, envelope, address)
        if verdict.action == "discard":
            _log.event("discarded", {"session": origin.session_id, "to": address})
            return Accepted(address, ())
        _raise(refusal(verdict))
        return Accepted(address, routes)

    def open_body(self, origin: Origin, envelope: Mail, recipients: Sequence[Accepted], size: int = 0) -> IBodyWriter:
        """See `IPipeline`."""
        hop = received(
            hostname=self.hostname,
            origin=origin,
            date=format_date(self.environment.now()),
            recipient=recipients[0].address if len(recipients) == 1 else None,
            smtputf8=envelope.smtputf8,
        )
        top = return_path(envelope.reverse_path)
        mend = self._mend if origin.submission else None
        # Who sends old mail again by hand means it.
        aliases = mend is None and any(route.via for accepted in recipients for route in accepted.routes)
        writer = self.queue.new_body(size and size + len(top) + len(hop))
        long_lines = None if mend is None else self.long_lines
        return IntakeWriter(writer, top, hop, mend, aliases=aliases, budget=self.headers, long_lines=long_lines)

    async def commit(self, origin: Origin, envelope: Mail, recipients: Sequence[Accepted], body: IBody) -> Committed:
        """See `IPipeline`. `body` comes from `open_body`; it is used up, whatever the result."""
        try:
            if not isinstance(body, Intake):
                raise TypeError("the body does not come from open_body()")
            if body.hops >= self.hop_limit:
                raise PermanentError("Too many hops, this message goes round in a loop", status="5.4.6")
            addresses = tuple(accepted.address for accepted in recipients)
            verdict = await self.policies.on_message(origin, envelope, addresses, body.body)
            if verdict.action != "discard":
                _raise(refusal(verdict))
            recipients = self._without_loops(origin, recipients, body.delivered_to)
            plan = self._plan(recipients) if verdict.action != "discard" else Plan()
            if plan == Plan():
                return _discarded(origin, envelope, recipients)
            return await self._submit(origin, recipients, Submission(envelope, plan, body.body, body.relay_offset))
        finally:
            body.discard()

    async def _ways(self, origin: Origin, address: Address) -> tuple[Route, ...]:
        """Where the mail may go. A domain or alias may have been added a moment ago: before a refusal all is asked
        again, unless nothing has changed."""
        await self.names.refresh()
        asked = self.names.generation
        try:
            return await self._permitted(origin, address)
        except (PermanentError, NotYetKnown):
            await self.names.look_again()
            if self.names.generation == asked:
                raise
        return await self._permitted(origin, address)

    async def _permitted(self, origin: Origin, address: Address) -> tuple[Route, ...]:
        if origin.local and address.domain in (literal_of(origin.local), literal_of(f"::ffff:{origin.local}")):
            # RFC 5321 4.1.3 and 4.5.1: who cannot use our name can still tell the postmaster so.
            if not is_postmaster(address):
                raise NoSuchUser()
            address = Address(address.local, self.hostname)
        if not (origin.user or self._is_local(address)):
            raise NotPermitted("Relaying denied")
        return await self._route(address)

    def _is_local(self, address: Address) -> bool:
        domain = address.ascii_domain
        return domain in self.names.domains or (domain == self.hostname and is_postmaster(address))

    async def _route(self, address: Address) -> tuple[Route, ...]:
        routes = await self.routing.route(address)
        if not routes:
            raise TemporaryError("Server configuration error", status="4.3.5", detail=f"no router knows {address}")
        return tuple(routes)

    async def _check_quota(self, routes: Sequence[Route], size: int) -> None:
        """Raises OverQuota when no route has room; a list with one full mailbox is accepted, and the DSN tells."""
        full: OverQuota | None = None
        for route in routes:
            if route.agent != STORE:
                return
            try:
                await self.store.check_quota(route.target, size)
            except OverQuota as error:
                full = error
            else:
                return
        _raise(full)

    def _mend(self, header: bytes) -> bytes:
        date = format_date(self.environment.now())
        return mend_header(header, date, message_id(self.environment, self.hostname))

    @staticmethod
    def _without_loops(
        origin: Origin, recipients: Sequence[Accepted], delivered_to: frozenset[str]
    ) -> Sequence[Accepted]:
        left = break_loops(recipients, delivered_to)
        for before, after in zip(recipients, left, strict=True):
            if before.routes and not after.routes:
                _log.event("looped", {"session": origin.session_id, "to": before.address})
        return left

    def _plan(self, recipients: Sequence[Accepted]) -> Plan:
        routes = (route for accepted in recipients for route in accepted.routes)
        return make_plan(routes, deposits=self.queue.deposits_into(self.store))

    async def _submit(self, origin: Origin, recipients: Sequence[Accepted], message: Submission) -> Committed:
        # Where each recipient is answered, only a recipient that is one mailbox can be refused whole.
        each = origin.each_recipient and all(len(accepted.routes) <= 1 for accepted in recipients)
        receipt = await self.queue.submit(message, "reply" if each else "bounce")
        refused_all = len(receipt.refused) == len(message.plan.deposits) and not message.plan.routes
        if refused_all and not origin.each_recipient:
            raise _as_error(tuple(receipt.refused.values()))
        _log_states(origin, message, receipt)
        if message.plan.routes or (receipt.refused and not each):
            self.wake()
        if each or refused_all:
            return Committed(receipt.id, outcomes(recipients, message.plan, receipt))
        return Committed(receipt.id, {accepted.address: Outcome.delivered() for accepted in recipients})


def _log_states(origin: Origin, message: Submission, receipt: Receipt) -> None:
    """A line for each final recipient, with what there is to say of the message."""
    known: dict[str, object] = {
        "id": receipt.id,
        "session": origin.session_id,
        "from": message.envelope.reverse_path or "",
        "size": message.body.size,
    }
    client = {"peer": origin.peer, "helo": origin.helo, "tls": origin.tls, "user": origin.user}
    for deposit in message.plan.deposits:
        fields = {**known, "to": deposit.recipient, "agent": STORE, "target": deposit.user, **client}
        refused = receipt.refused.get(deposit.recipient)
        if refused is None:
            _log.event("delivered", fields)
        else:
            _log.event("refused", {**fields, "status": refused.status, "reply": refused.reply})
    for route in message.plan.routes:
        way = {"to": route.recipient, "agent": route.agent, "target": route.target}
        _log.event("queued", {**known, **way, **client})


def _raise(error: MailError | None) -> None:
    if error is not None:
        raise error


def _discarded(origin: Origin, envelope: Mail, recipients: Sequence[Accepted]) -> Committed:
    _log.event("discarded", {"session": origin.session_id, "from": envelope.reverse_path or ""})
    return Committed("discarded", {accepted.address: Outcome.delivered() for accepted in recipients})


def _as_error(refused: Sequence[Outcome]) -> MailError:
    """What SMTP says when no recipient could be delivered to: temporary when any of them may succeed later."""
    worst = next((outcome for outcome in refused if outcome.state is State.DELAYED), refused[0])
    kind = TemporaryError if worst.state is State.DELAYED else PermanentError
    return kind(worst.reply, status=worst.status)
