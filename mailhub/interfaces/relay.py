"""The way to other servers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import attrs
from zope.interface import Interface

if TYPE_CHECKING:
    from twisted.internet.interfaces import IOpenSSLClientConnectionCreator

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


class IClientTls(Interface):
    """TLS of outgoing connections: what `transport.startTLS` takes. Raises ValueError for a name that no certificate
    can have."""

    def opportunistic(host: str) -> IOpenSSLClientConnectionCreator:
        """Encrypted, but to whomever (RFC 7435): the certificate is not looked at."""

    def verifying(host: str) -> IOpenSSLClientConnectionCreator:
        """Only to a peer that a trusted root vouches for as `host` (a name, or an IP address)."""
