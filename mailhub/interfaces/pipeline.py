"""The way in for every message, and who has a say in it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import attrs
from zope.interface import Interface

from mailhub.interfaces.accounts import (
    ISubmitter,
    Origin,
)
from mailhub.interfaces.octets import IBody, IBodyWriter
from mailhub.interfaces.transport import (
    Route,
)
from mailhub.message.address import Address
from mailhub.message.envelope import Mail, Outcome


@attrs.frozen
class Verdict:
    """What a policy says. `status` and `text` are for the client when `action` is "reject" or "defer".

    "discard" pretends to accept a recipient or a message; before the first recipient it counts as "reject".
    """

    action: Literal["accept", "reject", "defer", "discard"] = "accept"
    status: str = ""
    text: str = ""


ACCEPT = Verdict()


class IPolicy(Interface):
    """Has a say at each step of a transaction. The first verdict other than ACCEPT counts."""

    async def on_connect(origin: Origin) -> Verdict:
        """Before the greeting."""

    async def on_mail(origin: Origin, envelope: Mail) -> Verdict:
        """MAIL FROM."""

    async def on_recipient(origin: Origin, envelope: Mail, recipient: Address) -> Verdict:
        """Each RCPT TO."""

    async def on_message(origin: Origin, envelope: Mail, recipients: Sequence[Address], body: IBody) -> Verdict:
        """The end of the data, before the commit."""


@attrs.frozen
class Accepted:
    """A recipient that was accepted at RCPT, and where its mail goes."""

    address: Address
    routes: tuple[Route, ...]


@attrs.frozen
class Committed:
    """The answer to the end of data: the id to tell, and one outcome a recipient (as the client named it)."""

    id: str
    outcomes: Mapping[Address, Outcome]


class IPipeline(Interface):
    """The way in for every message from outside: SMTP, submission and LMTP. Built in delivery/."""

    async def connected(origin: Origin) -> None:
        """Raises NotPermitted, TemporaryError: say so instead of the greeting."""

    async def sender(origin: Origin, envelope: Mail, submitter: ISubmitter | None, size: int = 0) -> None:
        """MAIL FROM. `size` as announced, 0 when unknown. Raises NotPermitted (the login does not own the address, a
        policy rejects), StorageFull, TemporaryError."""

    async def recipient(origin: Origin, envelope: Mail, address: Address, size: int = 0) -> Accepted:
        """RCPT TO. Raises NotPermitted (relaying denied), NoSuchUser, OverQuota, TemporaryError."""

    def open_body(origin: Origin, envelope: Mail, recipients: Sequence[Accepted], size: int = 0) -> IBodyWriter:
        """DATA: a writer that has the trace header on top and, for submission, mends the header."""

    async def commit(origin: Origin, envelope: Mail, recipients: Sequence[Accepted], body: IBody) -> Committed:
        """The end of data; durable on return. For LMTP each recipient has its own outcome; for SMTP, refused
        recipients get a DSN unless all are refused. Raises MailError when nothing was taken."""
