"""TLS as it is played between servers in memory: nothing is computed, and contexts are not looked at."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import attrs
from twisted.internet.interfaces import IReactorTime
from zope.interface import implementer

from mailhub.interfaces import IClientTls, IPeerConnections, TlsaRecord
from mailhub.net.tls import ServerTls


class PlayedTls(ServerTls):
    """A server's TLS as it is played here: there are no files, and what is named is what is shown."""

    def __init__(self, certificate: Path, key: Path, clock: IReactorTime) -> None:
        self._certificate = certificate
        self._key = key
        self._clock = clock
        self._kept = False

    def adopt(self, new: ServerTls) -> None:
        """Show the certificate of `new` from now on."""
        self._certificate, self._key = new._certificate, new._key

    @property
    def fingerprint(self) -> bytes:
        """Another one for each file."""
        return bytes(self._certificate)


@implementer(IPeerConnections)
@attrs.define(eq=False)
class PlayedConnections:
    """A client's TLS as it is played here. `strict`: the handshake ends when the certificate is not good, else that is
    only noted in `failure`, where it is `looked_at`."""

    looked_at: bool
    strict: bool
    failure: str = ""
    reason: str = ""

    def clientConnectionForTLS(self, protocol: object) -> Any:
        """No handshake is computed."""
        raise NotImplementedError

    def accepts(self, *, expired: bool) -> bool:
        """Whether the handshake goes on."""
        self.failure = "certificate-expired" if expired and self.looked_at else ""
        return not (self.failure and self.strict)


@implementer(IClientTls)
class PlayedClientTls:
    """TLS of outgoing connections for a network in memory. All names and TLSA records are right."""

    def opportunistic(self, host: str) -> PlayedConnections:
        """See `IClientTls`."""
        return PlayedConnections(looked_at=False, strict=False)

    def verifying(self, host: str) -> PlayedConnections:
        """See `IClientTls`."""
        return PlayedConnections(looked_at=True, strict=True)

    def observing(self, host: str) -> PlayedConnections:
        """See `IClientTls`."""
        return PlayedConnections(looked_at=True, strict=False)

    def dane(self, host: str, records: Sequence[TlsaRecord], names: Sequence[str]) -> PlayedConnections:
        """See `IClientTls`. Dates of a certificate that is named itself do not count (RFC 7672 3.1.1)."""
        return PlayedConnections(looked_at=all(record.usage != 3 for record in records), strict=True)
