"""The servers that a message may be handed to."""

from __future__ import annotations

from functools import lru_cache

import attrs

from mailhub.credentials import PlainCredentials
from mailhub.delivery.relay.exchangers import SMTP_PORT, exchangers, family, parse_target
from mailhub.delivery.relay.tls_policy import Demand
from mailhub.errors import MailError, TemporaryError
from mailhub.interfaces import Environment, NextHop, TlsPolicy
from mailhub.message.envelope import Outcome, Reach, State, outcome_of
from mailhub.message.tls_report import TlsPolicyUsed


@attrs.frozen(cache_hash=True)
class Server:
    """A host to try. `found_by_dns`: the choice of a stranger, who must not send us to our own machine; `secure`: for
    which DNSSEC vouches, as it need not for an operator's. `domain` is the recipients', `canonical` where its aliases
    lead ("" where that is not known). `preference` is that of its MX record. `source`: the addresses that connections
    are to come from. `extensions_off` are those it is not believed.

    `demand` is how much TLS it is to show, by what is known of it. For reports: `used` is what its domain has
    published, `trouble` why that could not be had, or does not fit (a result type of RFC 8460 4.3), and `why` in words.
    """

    host: str
    port: int
    tls: TlsPolicy = "opportunistic"
    credentials: PlainCredentials | None = None
    lmtp: bool = False
    found_by_dns: bool = False
    secure: bool = attrs.field(default=True, eq=False)
    domain: str = attrs.field(default="", eq=False)
    canonical: str = attrs.field(default="", eq=False)
    preference: int = attrs.field(default=0, eq=False)
    source: tuple[str, ...] = ()
    extensions_off: frozenset[str] = frozenset()
    demand: Demand | None = None
    used: TlsPolicyUsed | None = attrs.field(default=None, eq=False)
    trouble: str = attrs.field(default="", eq=False)
    why: str = attrs.field(default="", eq=False)

    @property
    def policy_domain(self) -> str:
        """The domain whose policies count (RFC 8461 3.4): that of the recipients, or a smarthost itself; "" for an
        address and for what is no name of DNS."""
        if self.found_by_dns:
            return "" if self.domain.startswith("[") else self.domain
        name = self.host.rstrip(".").lower()
        is_name = "." in name and not name.startswith("unix:") and not family(name)
        return name if is_name and not self.lmtp else ""

    def demanding(self, demand: Demand, used: TlsPolicyUsed | None = None) -> Server:
        """The same, with how much TLS it is to show. What an operator has named is made once for all messages."""
        return attrs.evolve(self, demand=demand, used=used) if self.found_by_dns else _of_operator(self, demand, used)

    def source_for(self, address: str) -> str:
        """The one of the same family as `address`, "" where there is none."""
        kind = family(address)
        return next((each for each in self.source if family(each) == kind), "")


@lru_cache(256)
def _of_operator(server: Server, demand: Demand, used: TlsPolicyUsed | None) -> Server:
    return attrs.evolve(server, demand=demand, used=used)


@lru_cache(256)
def server_at(hop: NextHop, default_port: int, *, lmtp: bool = False) -> Server:
    """The server a next hop names. Raises TemporaryError when it names none: the operator will mend that."""
    try:
        host, port = parse_target(hop.host, default_port)
    except ValueError as error:
        raise TemporaryError(f"Next hop is misconfigured: {error}", status="4.3.5") from None
    credentials = PlainCredentials("", hop.user, hop.password) if hop.user else None
    # A local socket needs no TLS, and no certificate could name it.
    tls = "never" if host.startswith("unix:") else hop.tls
    return Server(host, port, tls, credentials, lmtp, source=hop.source_address, extensions_off=hop.extensions_off)


async def servers_of(domain: str, hop: NextHop, hostname: str, environment: Environment) -> list[Server]:
    """By the mail exchangers of a domain; `hop` says how they are to be talked to. Raises what `exchangers` raises."""
    found = await exchangers(domain, hostname, environment.resolver, environment.random)
    return [
        Server(
            each.host,
            SMTP_PORT,
            hop.tls,
            found_by_dns=True,
            secure=each.secure,
            domain=domain,
            canonical=each.domain,
            preference=each.preference,
            source=hop.source_address,
            extensions_off=hop.extensions_off,
        )
        for each in found
    ]


def no_way(error: MailError) -> Outcome:
    """Why there is no server to try, for every recipient. That none can be found now is not about the message."""
    outcome = outcome_of(error)
    return attrs.evolve(outcome, reach=Reach.UNREACHED) if outcome.state is State.DELAYED else outcome
