"""The agent "smtp": other hosts, by mail exchanger or by a static next hop."""

from __future__ import annotations

from collections.abc import Mapping

from zope.interface import implementer

from mailhub.interfaces import Delivery, IDeliveryAgent, ITransmitter, NextHop
from mailhub.message.envelope import Outcome


def hop_of(delivery: Delivery, hops: Mapping[str, NextHop]) -> NextHop:
    """The configuration of a static next hop, as it is now. What is in the queue since before it changed finds at
    least what is said about the same host. Without a target it is what is said of hosts that are found by MX."""
    domain = delivery.recipients[0].route.recipient.ascii_domain
    own = hops.get(domain) or hops.get("*")
    if not delivery.target:
        return own if own is not None and not own.host else NextHop()
    for hop in (own, *hops.values()):
        if hop is not None and hop.host == delivery.target:
            return hop
    return NextHop(host=delivery.target)


@implementer(IDeliveryAgent)
class SmtpAgent:
    """Relays mail (RFC 5321 5.1). `hops` are the static next hops by recipient domain; `hop` is the one for all, of an
    agent that a transport has for itself."""

    def __init__(self, hops: Mapping[str, NextHop], transmitter: ITransmitter, hop: NextHop | None = None) -> None:
        self._hops = dict(hops)
        self._hop = hop
        self._transmitter = transmitter

    async def deliver(self, delivery: Delivery) -> Mapping[int, Outcome]:
        """See `IDeliveryAgent`. All recipients have one domain where the target is found by MX."""
        return await self._transmitter.smtp(delivery, self._hop or hop_of(delivery, self._hops))

    async def stop(self) -> None:
        """Close kept connections."""
        await self._transmitter.stop()
