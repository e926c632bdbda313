"""Mail of a list's own: answers to who asks it for something, notices to its owners, and what goes on to them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from hashlib import sha256

import attrs

from mailhub.delivery.authentication.signer import Signer
from mailhub.delivery.intake import Intake
from mailhub.delivery.lists import PATIENCE
from mailhub.delivery.plan import Accepted
from mailhub.errors import MailError, PermanentError
from mailhub.interfaces import (
    Committed,
    Delivery,
    IBlobReader,
    IQueue,
    IRouter,
    OwnTransaction,
    QueuedRecipient,
    Route,
)
from mailhub.log import Logger
from mailhub.message.address import POSTMASTER, Address
from mailhub.message.answering import answering
from mailhub.message.dates import format_date
from mailhub.message.envelope import BodyType, Mail, Recipient
from mailhub.message.header import fields_end
from mailhub.message.lists import REQUEST, MailingList, list_fields, owners_of, role
from mailhub.message.needs import HEADER_LIMIT
from mailhub.message.submission import mend_header
from mailhub.message.trace import count_received, delivered_to, return_path
from mailhub.net.body import copy

_log = Logger(namespace="mailhub.delivery.lists")

Commit = Callable[[Mail, Sequence[Accepted], Intake, str], Awaitable[Committed]]


@attrs.frozen
class Request:
    """What somebody wants of a list. What is done for it is done `once`; `moment` is when it came, in
    seconds since the epoch."""

    name: Address
    settings: MailingList
    who: Address
    once: str
    moment: int
    header: bytes = attrs.field(repr=False)


@attrs.frozen(eq=False)
class ListMail:
    """Mail of a list's own, which `commit` commits once (see `Pipeline.send_on`)."""

    _hostname: str
    _queue: IQueue
    _routing: IRouter
    _commit: Commit
    _signer: Signer | None = None

    async def answer(self, request: Request, subject: str, text: str) -> None:
        """To who asks. Raises MailError."""
        more = f"Auto-Submitted: auto-replied\r\n{answering(request.header).decode()}"
        to = [request.who]
        fields = list_fields(request.settings, request.name)
        mail, octets = self._written(request.name, to, subject, text, request.once, request.moment, fields, more)
        await self._send(
            mail, [Accepted(Recipient(request.who), await self._ways(request.who, mail))], octets, request.once
        )

    async def tell_owners(
        self, name: Address, settings: MailingList, subject: str, text: str, once: str, moment: int, attempts: int
    ) -> None:
        """In the name of the list `name`. Repeated with the same `once`, it has to say the same, also of `moment`
        (seconds since the epoch), which its date is. Nothing depends on whether anybody can be reached. Raises
        MailError for what may be better later, in the first attempts."""
        for to, its_once in _answering(name, settings, once):
            fields = list_fields(settings, name)
            mail, octets = self._written(name, to, subject, text, its_once, moment, fields)
            if await self._refusal(name, to, attempts, mail, octets, its_once) is None:
                return

    async def pass_on(self, delivery: Delivery, row: QueuedRecipient, header: bytes, settings: MailingList) -> None:
        """A message as it is to the owners of the list that it was sent to, or the postmaster where none of them can be
        reached. Raises MailError where nobody can, and for what may be better later, in the first attempts."""
        name = Address.parse(delivery.target)
        refusals = []
        for to, once in _answering(name, settings, f"{delivery.id} {row.id} owners"):
            more = delivery.body, delivery.needs, row.route.recipient.key
            refusal = await self._refusal(name, to, row.attempts, delivery.mail, header, once, *more)
            if refusal is None:
                return
            refusals.append(refusal)
        raise refusals[0]

    def _written(
        self,
        name: Address,
        to: Sequence[Address],
        subject: str,
        text: str,
        once: str,
        moment: int,
        fields: bytes,
        more: str = "Auto-Submitted: auto-generated\r\n",
    ) -> tuple[Mail, bytes]:
        """From nobody to whom a report could come."""
        sender = role(name, REQUEST)
        header = "".join(
            [
                f"From: {sender}\r\nTo: {', '.join(map(str, to))}\r\nSubject: {subject}\r\n{more}",
                "MIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n",
            ]
        ).encode()
        date = format_date(moment)
        message_id = f"<{sha256(once.encode()).hexdigest()[:32]}@{self._hostname}>"
        octets = mend_header(header + fields, date, message_id) + b"\r\n" + text.replace("\n", "\r\n").encode()
        body_type: BodyType = "7BIT" if octets.isascii() else "8BITMIME"
        return Mail(None, body_type, smtputf8=not all(each.is_ascii for each in (sender, *to))), octets

    async def _refusal(
        self,
        name: Address,
        to: Sequence[Address],
        attempts: int,
        mail: Mail,
        octets: bytes,
        once: str,
        rest: IBlobReader | None = None,
        needs: int | None = None,
        via: str = "",
    ) -> MailError | None:
        """Why it came to nobody. Who is not reached is in the log, and keeps it from none of the others."""
        refusal: MailError | None = None

        def give_up(who: Sequence[Address], error: MailError) -> None:
            nonlocal refusal
            if error.temporary and attempts < PATIENCE:
                raise error
            refusal = refusal or error
            for each in who:
                _log.event("owner not told", {"list": name, "owner": each, "reason": error.text})

        accepted = []
        for each in to:
            try:
                ways = await self._ways(each, mail)
            except MailError as error:
                give_up([each], error)
                continue
            if via:
                ways = tuple([attrs.evolve(way, via=(via, *way.via)) for way in ways])
            accepted.append(Accepted(Recipient(each), ways))
        if not accepted:
            return refusal
        try:
            await self._send(mail, accepted, octets, once, rest, needs)
        except MailError as error:
            give_up([each.address for each in accepted], error)
            return error
        return None

    async def ways_to(self, who: Address) -> Sequence[Route]:
        """Those of what is sent to somebody; none where it is refused for good. Raises TemporaryError."""
        try:
            return await self._ways(who, Mail(None))
        except PermanentError:
            return ()

    async def _ways(self, address: Address, mail: Mail) -> tuple[Route, ...]:
        return tuple(await self._routing.route(address, OwnTransaction(mail=mail)) or ())

    async def _send(
        self,
        mail: Mail,
        accepted: Sequence[Accepted],
        octets: bytes,
        once: str,
        rest: IBlobReader | None = None,
        needs: int | None = None,
    ) -> None:
        """`octets`, and what `rest` has behind as many: a message of somebody else, which is not ours to sign."""
        if rest is None and self._signer is not None:
            octets = await self._signer.signed(octets)
        top = return_path(mail.reverse_path)
        writer = self._queue.new_body(len(top) + max(len(octets), rest.size if rest is not None else 0))
        try:
            await writer.write(top + octets)
            if rest is not None:
                await copy(rest, writer.write, len(octets))
            body = await writer.finish()
        finally:
            writer.abort()
        intake = Intake(body, len(top), count_received(octets), delivered_to(octets), needs, len(top))
        try:
            await self._commit(mail, accepted, intake, once)
        finally:
            body.discard()


def _answering(name: Address, settings: MailingList, once: str) -> Sequence[tuple[Sequence[Address], str]]:
    """Who answers for a list, and who does where none of them can be reached, each with what it is told once by."""
    return (owners_of(settings, name), once), ([Address(POSTMASTER, name.domain)], f"{once} postmaster")


async def header_of(delivery: Delivery) -> bytes:
    """The header of a message; empty where it is too large to be read. Raises MailError."""
    return await header_in(delivery.body)


async def header_in(body: IBlobReader) -> bytes:
    """The same of its octets."""
    top = await body.read(0, HEADER_LIMIT + 1)
    end = fields_end(top, 0, len(top))
    return top[:end] if end <= HEADER_LIMIT else b""
