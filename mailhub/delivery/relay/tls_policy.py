"""How much TLS a next hop gets (RFC 7435 opportunistic security)."""

from __future__ import annotations

from twisted.internet.interfaces import IOpenSSLClientConnectionCreator

from mailhub.interfaces import IClientTls, TlsPolicy

SUBMISSIONS_PORT = 465  # TLS from the first octet (RFC 8314 3.3)


def effective(policy: TlsPolicy, *, credentials: bool) -> TlsPolicy:
    """A password is for one host only, so that a hop with a login gets the full check unless TLS is ruled out."""
    return "required" if credentials and policy == "opportunistic" else policy


def context(tls: IClientTls, policy: TlsPolicy, host: str, address: str) -> IOpenSSLClientConnectionCreator:
    """What `startTLS` takes for a connection to `address`, which is to be `host`. Raises ValueError for a name that no
    certificate can have where one is needed."""
    if policy == "required":
        return tls.verifying(host)
    try:
        return tls.opportunistic(host)
    except ValueError:
        return tls.opportunistic(address)
