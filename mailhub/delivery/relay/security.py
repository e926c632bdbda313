"""How much TLS each server of a domain is to show, by what its owner has published: DANE (RFC 7672) and MTA-STS
(RFC 8461)."""

from __future__ import annotations

import attrs

from mailhub.delivery.relay.servers import Server
from mailhub.delivery.relay.sts import StsPolicies, fetch_over_https
from mailhub.delivery.relay.tls_policy import Demand, effective
from mailhub.errors import PermanentError, TemporaryError
from mailhub.interfaces import Environment, HostAddresses, IClientTls, IResolver, IState
from mailhub.log import Logger
from mailhub.net import dane

_log = Logger(namespace="mailhub.delivery.smtp")


class Security:
    """Asks DNS and the policies of domains, and says what is to be demanded."""

    def __init__(self, resolver: IResolver, policies: StsPolicies | None = None) -> None:
        self._resolver = resolver
        self._policies = policies

    async def required(self, server: Server, found: HostAddresses) -> Server:
        """The same for a message with REQUIRETLS: the server must prove that it is the one that it was taken for, and
        that must be known for sure (RFC 8689 4.2.1). Raises PermanentError where it cannot be."""
        demanding = await self.demanded(server, found)
        demand = demanding.demand
        if demand is not None and demand.level in ("required", "dane"):
            return demanding
        # The MX record says who is meant; a domain without one is meant itself, if that is sure.
        if server.found_by_dns and server.secure and (server.host != server.domain or found.secure):
            return attrs.evolve(server, demand=Demand("required", server.host))
        raise PermanentError(
            "REQUIRETLS support required, but nobody vouches for the name of the host", status="5.7.30"
        )

    async def demanded(self, server: Server, found: HostAddresses) -> Server:
        """A server with what it is to show, whose addresses are known. Raises TemporaryError where it must not be used,
        or that cannot be known now: whoever can suppress an answer must not be able to have us do without (RFC 7672
        2.1.2)."""
        level = effective(server.tls, credentials=server.credentials is not None)
        if level != "opportunistic":
            return attrs.evolve(server, demand=Demand(level, server.host))
        demand = await self._by_dane(server, found) if server.secure and found.secure else None
        # A policy must not make up for records that do not fit (RFC 8461 2), and need not where they do.
        if demand is None or demand.level == "encrypted":
            demand = await self._by_policy(server) or demand
        return attrs.evolve(server, demand=demand or Demand(level, server.host))

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

    async def _by_policy(self, server: Server) -> Demand | None:
        """None where the domain has no policy."""
        if self._policies is None or not server.found_by_dns or server.domain.startswith("["):
            return None
        policy, _ = await self._policies.policy(server.domain)
        if policy is None:
            return None
        if policy.mode == "enforce":
            if not policy.allows(server.host):
                raise TemporaryError(f"Policy of {server.domain} has no exchanger {server.host}", status="4.7.0")
            return Demand("required", server.host)
        if not policy.allows(server.host):
            _log.warn(
                "policy that is being tested has no such exchanger: domain={domain} host={host}",
                domain=server.domain,
                host=server.host,
            )
        return Demand("opportunistic", server.host, observed=True)


def security(environment: Environment, state: IState, tls: IClientTls) -> Security:
    """Of a hub; what it must remember over a restart is in `state`."""
    return Security(environment.resolver, StsPolicies(environment, state, fetch_over_https(environment, tls)))
