"""The way to other servers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal

import attrs
from zope.interface import Interface

if TYPE_CHECKING:
    from twisted.internet.interfaces import IOpenSSLClientConnectionCreator

    from mailhub.interfaces.transport import Delivery
    from mailhub.message.envelope import Outcome

TlsPolicy = Literal["never", "opportunistic", "required"]
"""`never`: plain. `opportunistic`: whatever the server offers, plain when that fails, no look at the certificate.
`required`: nothing is sent unless a trusted certificate vouches for the host we meant to reach."""


@attrs.frozen
class NextHop:
    """A `[route."domain"]`. `host` is what the agent takes: for "smtp" and "lmtp" `host[:port]`, or `unix:/path`.

    The agent "refuse" takes nothing: recipients are refused at once.
    """

    agent: str = "smtp"
    host: str = ""
    tls: TlsPolicy = "opportunistic"
    user: str = ""
    password: str = attrs.field(default="", repr=False)


class ITransmitter(Interface):
    """An SMTP and LMTP client for delivery agents. It keeps connections for the next message, and goes by the limits
    of the configuration."""

    async def smtp(delivery: Delivery, hop: NextHop | None = None) -> Mapping[int, Outcome]:
        """Hand a message to a next hop, or to the mail exchangers of its recipients' domain, which is one for all
        (RFC 5321 5.1). An outcome for every `QueuedRecipient.id`, whatever happens."""

    async def lmtp(delivery: Delivery, hop: NextHop) -> Mapping[int, Outcome]:
        """Hand a message to a mail store (RFC 2033). An outcome for every `QueuedRecipient.id`, whatever happens."""

    async def stop() -> None:
        """Say goodbye on the connections that are kept. For the `stop` of the agent that it is for."""


class IRelay(Interface):
    """The way to other servers."""

    def transmitter() -> ITransmitter:
        """A new one, with connections of its own."""


class IClientTls(Interface):
    """TLS of outgoing connections: what `transport.startTLS` takes. Raises ValueError for a name that no certificate
    can have."""

    def opportunistic(host: str) -> IOpenSSLClientConnectionCreator:
        """Encrypted, but to whomever (RFC 7435): the certificate is not looked at."""

    def verifying(host: str) -> IOpenSSLClientConnectionCreator:
        """Only to a peer that a trusted root vouches for as `host` (a name, or an IP address)."""
