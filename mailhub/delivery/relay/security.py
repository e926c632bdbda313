"""How much TLS each server of a domain is to show, by what its owner has published: DANE (RFC 7672) and MTA-STS
(RFC 8461)."""

from __future__ import annotations

from collections.abc import Callable

import attrs

from mailhub.delivery.relay.servers import Server
from mailhub.delivery.relay.sts import FETCH_FAILURES, StsPolicies, fetch_over_https
from mailhub.delivery.relay.tls_policy import Demand, effective
from mailhub.delivery.relay.tls_reports import OTHER, Reporter, TlsReports
from mailhub.errors import PermanentError, TemporaryError
from mailhub.interfaces import Environment, HostAddresses, IClientTls, IResolver, IState
from mailhub.log import Logger
from mailhub.message.tls_report import TlsFailure, TlsPolicyUsed
from mailhub.net import dane
from mailhub.net.https import Https

_NONE = "no-policy-found"
_NOT_LISTED = "host is not in the policy"
_log = Logger(namespace="mailhub.delivery.smtp")


class Security:
    """Asks DNS and the policies of domains, and says what is to be demanded."""

    def __init__(
        self, resolver: IResolver, policies: StsPolicies | None = None, reports: TlsReports | None = None
    ) -> None:
        self._resolver = resolver
        self._policies = policies
        self._reports = reports

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
        if level not in ("opportunistic", "dane"):
            return server.demanding(Demand(level, server.host))
        used = TlsPolicyUsed(_NONE, server.policy_domain)
        server = server.demanding(Demand("opportunistic", server.host), used)
        if server.secure and (found.secure or found.alias_secure):
            server = await self._by_dane(server, found)
        if level == "dane":
            return self._with_dane(server)
        # A policy must not make up for records that do not fit (RFC 8461 2), and need not where they do.
        if server.demand is not None and server.demand.level != "dane":
            server = await self._by_policy(server)
        return server

    def start(self) -> None:
        """Report to domains that want to know, day by day."""
        if self._reports is not None:
            self._reports.start()

    async def stop(self) -> None:
        """Keep what is to be reported."""
        if self._policies is not None:
            self._policies.stop()
        if self._reports is not None:
            await self._reports.stop()

    def told(
        self, server: Server, address: str, failure: str, reason: str = "", source: str = "", helo: str = ""
    ) -> None:
        """What came of TLS with a server: nothing, or a result type of RFC 8460 4.3. `source`: where we came from;
        `helo`: what it calls itself."""
        if self._reports is None or server.used is None or not server.policy_domain:
            return
        failed = TlsFailure(failure, server.host, address, reason[:200], source, helo[:255]) if failure else None
        self._reports.note(server.policy_domain, server.used, failed)
        if failure == server.trouble and failure in FETCH_FAILURES and server.used.type == "sts":
            # The policy could not be had anew; the session was as the one that is kept wants it.
            self._reports.note(server.policy_domain, server.used)

    def _with_dane(self, server: Server) -> Server:
        """A server whose operator wants it to be known by its records alone. Raises TemporaryError where it is not."""
        if server.demand is not None and server.demand.level == "dane":
            return server
        self.told(attrs.evolve(server, used=TlsPolicyUsed("tlsa", server.host)), "", "dane-required")
        raise TemporaryError(
            f"{server.host} has no TLSA records that can be used and that DNSSEC vouches for", status="4.7.5"
        )

    async def _by_dane(self, server: Server, found: HostAddresses) -> Server:
        """As it is where there are no records. A name that leads to another is looked for there first, unless DNSSEC
        does not vouch for the other (RFC 7672 2.2.2)."""
        last = found.canonical if found.secure else ""
        for name in dict.fromkeys((last or server.host, server.host)):
            try:
                answer = await self._resolver.tlsa(f"_{server.port}._tcp.{name}")
            except TemporaryError as error:
                used = TlsPolicyUsed("tlsa", name)
                self.told(attrs.evolve(server, used=used), "", "dnssec-invalid", error.detail or error.text)
                raise TemporaryError(
                    f"TLSA records of {name} cannot be looked up", status="4.7.5", detail=error.detail or error.text
                ) from error
            if answer.secure and answer.records:
                break
        else:
            return server
        strings = tuple(f"{each.usage} {each.selector} {each.matching} {each.data.hex()}" for each in answer.records)
        server = attrs.evolve(server, used=TlsPolicyUsed("tlsa", name, strings, (server.host,)))
        records = dane.usable(answer.records)
        if not records:
            # RFC 7672 2.2: TLS, but to whomever.
            return attrs.evolve(server, demand=Demand("encrypted", name), trouble="tlsa-invalid")
        by_authority = any(record.usage == dane.DANE_TA for record in records)
        # Names make no difference where the certificate itself is known, and would keep connections apart.
        likely = (name, server.host, server.domain, server.canonical)
        names = tuple(dict.fromkeys(filter(None, likely))) if by_authority else ()
        return attrs.evolve(server, demand=Demand("dane", name, records, names))

    async def _by_policy(self, server: Server) -> Server:
        """As it is where the domain has no policy."""
        domain = server.policy_domain
        if self._policies is None or not domain:
            return server
        policy, trouble = await self._policies.policy(domain)
        server = attrs.evolve(server, trouble=trouble or server.trouble)
        if policy is None:
            return server
        server = attrs.evolve(server, used=TlsPolicyUsed("sts", domain, policy.lines, policy.mx))
        if policy.mode == "enforce":
            if not policy.allows(server.host):
                self.told(server, "", OTHER, _NOT_LISTED)
                raise TemporaryError(f"Policy of {domain} has no exchanger {server.host}", status="4.7.0")
            return attrs.evolve(server, demand=Demand("required", server.host))
        if not policy.allows(server.host):
            server = attrs.evolve(server, trouble=OTHER, why=_NOT_LISTED)
            _log.warn(
                "policy that is being tested has no such exchanger: domain={domain} host={host}",
                domain=domain,
                host=server.host,
            )
        level = server.demand.level if server.demand is not None else "opportunistic"
        return attrs.evolve(server, demand=Demand(level, server.host, observed=True))


def security(environment: Environment, state: IState, tls: IClientTls, reporter: Callable[[], Reporter]) -> Security:
    """Of a hub; what it must remember over a restart is in `state`. `reporter` is who reports what failed."""
    policies = StsPolicies(environment, state, fetch_over_https(environment, tls))
    https = Https(environment.network, environment.resolver, environment.clock, tls)
    return Security(environment.resolver, policies, TlsReports(environment, state, https, reporter))
