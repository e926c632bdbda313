"""Replies of rules: messages of their own, committed with the one that they answer."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Sequence

import attrs

from mailhub.delivery.authentication.signer import Signer
from mailhub.delivery.plan import Accepted, deposits_of, make_plan
from mailhub.interfaces import IMailStore, IQueue, Reply, Route, Submission
from mailhub.message.address import Address
from mailhub.message.answering import answering
from mailhub.message.envelope import BodyType, Mail, Recipient
from mailhub.message.header import Header, fields_end, without_field
from mailhub.message.needs import needs_of
from mailhub.message.trace import return_path

_LINE_END = re.compile(rb"\r\n|\r|\n")
_AUTOMATIC = b"Auto-Submitted: auto-replied\r\n"


def is_automatic(header: bytes) -> bool:
    """Whether a program sent it by itself: it is not answered (RFC 3834 2)."""
    said = Header(header).first(b"auto-submitted")
    return said is not None and said.partition(b";")[0].strip().lower() != b"no"


@attrs.frozen(eq=False)
class Replies:
    """`mend` puts into a header what it lacks; `routes` finds the way, and raises MailError. `signer` signs them."""

    queue: IQueue
    store: IMailStore
    mend: Callable[[bytes], bytes]
    routes: Callable[[Address], Awaitable[Sequence[Route]]]
    signer: Signer | None = None

    async def submission(self, reply: Reply, to: Address, answered: bytes, *, requiretls: bool) -> Submission:
        """Ready to be committed; its body is to be discarded. `answered` is the header of the message that it answers.
        `requiretls`: that is to go by TLS alone, and so is what comes of it (RFC 8689 6). Raises MailError."""
        octets = self._octets(reply.message, answered)
        header = octets[: fields_end(octets, 0, len(octets))]
        wide = not header.isascii() or not to.is_ascii or not (reply.reverse_path or to).is_ascii
        body_type: BodyType = "7BIT" if octets.isascii() else "8BITMIME"
        mail = Mail(reply.reverse_path, body_type, smtputf8=wide, requiretls=requiretls)
        routes = tuple([attrs.evolve(route, reverse_path=None) for route in await self.routes(to)])
        plan = make_plan([Accepted(Recipient(to), routes)], mail, deposits=deposits_of(self.queue, self.store))
        if self.signer is not None:
            octets = await self.signer.signed(octets)
        top = return_path(reply.reverse_path)
        writer = self.queue.new_body(len(top) + len(octets))
        try:
            await writer.write(top + octets)
            body = await writer.finish()
        finally:
            writer.abort()
        return Submission(mail, plan, body, len(top), needs_of(octets).bits, reply=True)

    def _octets(self, message: bytes, answered: bytes) -> bytes:
        octets = _LINE_END.sub(b"\r\n", message.replace(b"\0", b""))
        end = fields_end(octets, 0, len(octets))
        header, rest = octets[:end], octets[end:]
        if header and not header.endswith(b"\n"):
            header += b"\r\n"
        if not rest.startswith(b"\r\n"):
            rest = b"\r\n" + rest
        if not Header(header).count(b"auto-submitted"):
            header = _AUTOMATIC + header
        if not Header(header).count(b"in-reply-to") and not Header(header).count(b"references"):
            header += answering(answered)
        return self.mend(without_field(header, b"return-path")) + rest
