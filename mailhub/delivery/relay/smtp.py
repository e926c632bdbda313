"""The agent "smtp": other hosts, by mail exchanger or by a static next hop."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import attrs
from zope.interface import implementer

from mailhub.credentials import PlainCredentials
from mailhub.delivery.relay.exchangers import SMTP_PORT, exchangers, parse_target
from mailhub.delivery.relay.transmit import Server, Transmitter
from mailhub.errors import MailError, TemporaryError
from mailhub.interfaces import Delivery, Environment, IDeliveryAgent, NextHop
from mailhub.message.envelope import Outcome, Reach, State, outcome_of


def hop_of(delivery: Delivery, hops: Mapping[str, NextHop]) -> NextHop:
    """The configuration of a static next hop, as it is now. What is in the queue since before it changed finds at
    least what is said about the same host."""
    domain = delivery.recipients[0].route.recipient.ascii_domain
    own = hops.get(domain) or hops.get("*")
    for hop in (own, *hops.values()):
        if hop is not None and hop.host == delivery.target:
            return hop
    return NextHop(host=delivery.target)


def server_at(hop: NextHop, default_port: int, *, lmtp: bool = False) -> Server:
    """The server a next hop names. Raises TemporaryError when it names none: the operator will mend that."""
    try:
        host, port = parse_target(hop.host, default_port)
    except ValueError as error:
        raise TemporaryError(f"Next hop is misconfigured: {error}", status="4.3.5") from None
    credentials = PlainCredentials("", hop.user, hop.password) if hop.user else None
    # A local socket needs no TLS, and no certificate could name it.
    return Server(host, port, "never" if host.startswith("unix:") else hop.tls, credentials, lmtp)


def no_way(error: MailError) -> Outcome:
    """Why there is no server to try, for every recipient. That none can be found now is not about the message."""
    outcome = outcome_of(error)
    return attrs.evolve(outcome, reach=Reach.UNREACHED) if outcome.state is State.DELAYED else outcome


@implementer(IDeliveryAgent)
class SmtpAgent:
    """Relays mail (RFC 5321 5.1). `hops` are the static next hops by recipient domain."""

    def __init__(
        self, hostname: str, environment: Environment, hops: Mapping[str, NextHop], transmitter: Transmitter
    ) -> None:
        self._hostname = hostname
        self._environment = environment
        self._hops = dict(hops)
        self._transmitter = transmitter

    async def deliver(self, delivery: Delivery) -> Mapping[int, Outcome]:
        """See `IDeliveryAgent`. All recipients have one domain where the target is found by MX."""
        try:
            servers = await self._servers(delivery)
        except MailError as error:
            return dict.fromkeys((row.id for row in delivery.recipients), no_way(error))
        return await self._transmitter.transmit(delivery, servers)

    async def _servers(self, delivery: Delivery) -> Sequence[Server]:
        if delivery.target:
            return [server_at(hop_of(delivery, self._hops), SMTP_PORT)]
        environment = self._environment
        domain = delivery.recipients[0].route.recipient.ascii_domain
        hosts = await exchangers(domain, self._hostname, environment.resolver, environment.random)
        return [Server(host, SMTP_PORT, found_by_dns=True) for host in hosts]

    async def stop(self) -> None:
        """Close kept connections."""
        await self._transmitter.stop()
