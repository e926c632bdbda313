"""How much TLS each server of a domain is to show, by what its owner has published: DANE (RFC 7672)."""

from __future__ import annotations

import attrs

from mailhub.delivery.relay.servers import Server
from mailhub.delivery.relay.tls_policy import Demand, effective
from mailhub.errors import TemporaryError
from mailhub.interfaces import HostAddresses, IResolver
from mailhub.net import dane


class Security:
    """Asks DNS, and says what is to be demanded."""

    def __init__(self, resolver: IResolver) -> None:
        self._resolver = resolver

    async def demanded(self, server: Server, found: HostAddresses) -> Server:
        """A server with what it is to show, whose addresses are known. Raises TemporaryError where that cannot be known
        now: whoever can suppress an answer must not be able to have us do without (RFC 7672 2.1.2)."""
        level = effective(server.tls, credentials=server.credentials is not None)
        demand = Demand(level, server.host)
        if level == "opportunistic" and server.secure and found.secure:
            demand = await self._by_dane(server, found) or demand
        return attrs.evolve(server, demand=demand)

    async def _by_dane(self, server: Server, found: HostAddresses) -> Demand | None:
        """None where there are no records. A name that leads to another is looked for there first (RFC 7672 2.2.2)."""
        for name in dict.fromkeys((found.canonical or server.host, server.host)):
            try:
                answer = await self._resolver.tlsa(f"_{server.port}._tcp.{name}")
            except TemporaryError as error:
                raise TemporaryError(
                    f"TLSA records of {name} cannot be looked up", status="4.7.5", detail=error.detail or error.text
                ) from error
            if answer.secure and answer.records:
                break
        else:
            return None
        records = dane.usable(answer.records)
        if not records:
            return Demand("encrypted", name)  # RFC 7672 2.2: TLS, but to whomever
        by_authority = any(record.usage == dane.DANE_TA for record in records)
        # Names make no difference where the certificate itself is known, and would keep connections apart.
        names = tuple(dict.fromkeys(filter(None, (name, server.host, server.domain)))) if by_authority else ()
        return Demand("dane", name, records, names)
