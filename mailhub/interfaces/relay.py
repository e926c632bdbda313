"""The way to other servers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Literal

import attrs
from twisted.internet.interfaces import IOpenSSLClientConnectionCreator
from zope.interface import Attribute, Interface

if TYPE_CHECKING:
    from mailhub.interfaces.environment import TlsaRecord
    from mailhub.interfaces.transport import Delivery
    from mailhub.message.envelope import Outcome

TlsPolicy = Literal["never", "opportunistic", "encrypted", "required", "dane"]
"""`never`: plain. `opportunistic`: whatever the server offers, plain when that fails, no look at the certificate.
`encrypted`: not without TLS, no look at the certificate. `required`: nothing is sent unless a trusted certificate
vouches for the host we meant to reach. `dane`: nothing is sent unless the host shows what its TLSA records say, and
DNSSEC vouches for these. Where it does so, `opportunistic` becomes what they say, too (RFC 7672)."""


@attrs.frozen
class NextHop:
    """A `[route."domain"]`. `host` is what the agent takes: for "smtp" and "lmtp" `host[:port]`, or `unix:/path`; ""
    for the hosts that are found by MX. `source_address`: one IPv4 and one IPv6 address at most to come from.
    `extensions_off`: keywords of EHLO, in capitals, that are passed over.

    The agent "refuse" takes nothing: recipients are refused at once.
    """

    agent: str = "smtp"
    host: str = ""
    tls: TlsPolicy = "opportunistic"
    user: str = ""
    password: str = attrs.field(default="", repr=False)
    source_address: tuple[str, ...] = ()
    extensions_off: frozenset[str] = frozenset()


class ITransmitter(Interface):
    """An SMTP and LMTP client for delivery agents. It keeps connections for the next message, and goes by the limits
    of the configuration."""

    async def smtp(delivery: Delivery, hop: NextHop | None = None) -> Mapping[int, Outcome]:
        """Hand a message to a next hop, or, without one or where it has no host, to the mail exchangers of its
        recipients' domain, which is one for all (RFC 5321 5.1). An outcome for every `QueuedRecipient.id`, whatever
        happens."""

    async def lmtp(delivery: Delivery, hop: NextHop) -> Mapping[int, Outcome]:
        """Hand a message to a mail store (RFC 2033). An outcome for every `QueuedRecipient.id`, whatever happens."""

    async def stop() -> None:
        """Say goodbye on the connections that are kept. For the `stop` of the agent that it is for."""


class IRelay(Interface):
    """The way to other servers."""

    def transmitter() -> ITransmitter:
        """A new one, with connections of its own."""


class IPeerConnections(IOpenSSLClientConnectionCreator):
    """What `transport.startTLS` takes, for one connection."""

    failure: str = Attribute("What was wrong with the certificate, as a result type of RFC 8460 4.3; else empty.")
    reason: str = Attribute("The same in words, where there is more to say of it; else empty.")


class IClientTls(Interface):
    """TLS of outgoing connections. Raises ValueError for a name that no certificate can have."""

    def opportunistic(host: str) -> IPeerConnections:
        """Encrypted, but to whomever (RFC 7435): the certificate is not looked at."""

    def verifying(host: str) -> IPeerConnections:
        """Only to a peer that a trusted root vouches for as `host` (a name, or an IP address)."""

    def observing(host: str) -> IPeerConnections:
        """To whomever, but what is wrong with the certificate is noted."""

    def dane(host: str, records: Sequence[TlsaRecord], names: Sequence[str]) -> IPeerConnections:
        """Only to a peer that one of the TLSA records vouches for, the record of an authority as one of `names`
        (RFC 7672 3.1). `host` is asked for (RFC 6066 3)."""
