"""How much TLS a next hop is to show (RFC 7435 opportunistic security)."""

from __future__ import annotations

import attrs

from mailhub.interfaces import IClientTls, IPeerConnections, TlsaRecord, TlsPolicy
from mailhub.net import dane

SUBMISSIONS_PORT = 465  # TLS from the first octet (RFC 8314 3.3)
# What is said of a certificate that does not do, in place of the words of reports.
CERTIFICATE_FAILURES = {
    dane.EXPIRED: "Certificate has expired",
    dane.OTHER_HOST: "Certificate is for another host",
    dane.NOT_TRUSTED: "Certificate is not trusted",
}


@attrs.frozen(cache_hash=True)
class Demand:
    """What a server must show before it is given a message. With "dane" it is a certificate that one of `records`
    vouches for, the record of an authority as one of `names`. `server_name` is asked for. `observed`: nothing is
    demanded of the certificate, but what is wrong with it is to be known."""

    level: TlsPolicy = "opportunistic"
    server_name: str = ""
    records: tuple[TlsaRecord, ...] = ()
    names: tuple[str, ...] = ()
    observed: bool = False

    @property
    def needs_tls(self) -> bool:
        """Whether nothing is sent in the clear."""
        return self.level not in ("never", "opportunistic")

    def context(self, tls: IClientTls, address: str) -> IPeerConnections:
        """For a connection to `address`. Raises ValueError for a name that no certificate can have where one is
        needed."""
        if self.level == "required":
            return tls.verifying(self.server_name)
        if self.level == "dane":
            return tls.dane(self.server_name, self.records, self.names)
        try:
            return tls.observing(self.server_name) if self.observed else tls.opportunistic(self.server_name)
        except ValueError:
            return tls.opportunistic(address)


def effective(policy: TlsPolicy, *, credentials: bool) -> TlsPolicy:
    """A password is for one host only, so that a hop with a login gets the full check unless TLS is ruled out."""
    return "required" if credentials and policy not in ("never", "dane") else policy
