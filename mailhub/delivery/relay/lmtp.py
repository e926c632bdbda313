"""The agent "lmtp": another mail store behind a local socket or a port (RFC 2033)."""

from __future__ import annotations

from collections.abc import Mapping

from zope.interface import implementer

from mailhub.delivery.relay.smtp import hop_of
from mailhub.interfaces import Delivery, IDeliveryAgent, ITransmitter, NextHop
from mailhub.message.envelope import Outcome


@implementer(IDeliveryAgent)
class LmtpAgent:
    """Hands mail to the host or `unix:/path` that the route names. `hops` are the static next hops by domain, `hop` is
    the one for all, of an agent that a transport has for itself."""

    def __init__(self, hops: Mapping[str, NextHop], transmitter: ITransmitter, hop: NextHop | None = None) -> None:
        self._hops = dict(hops)
        self._hop = hop
        self._transmitter = transmitter

    async def deliver(self, delivery: Delivery) -> Mapping[int, Outcome]:
        """See `IDeliveryAgent`."""
        return await self._transmitter.lmtp(delivery, self._hop or hop_of(delivery, self._hops))

    async def stop(self) -> None:
        """Close kept connections."""
        await self._transmitter.stop()
