"""The agent "lmtp": another mail store behind a local socket or a port (RFC 2033)."""

from __future__ import annotations

from collections.abc import Mapping

from zope.interface import implementer

from mailhub.delivery.relay.smtp import hop_of, no_way, server_at
from mailhub.delivery.relay.transmit import Transmitter
from mailhub.errors import MailError
from mailhub.interfaces import Delivery, IDeliveryAgent, NextHop
from mailhub.message.envelope import Outcome

LMTP_PORT = 24


@implementer(IDeliveryAgent)
class LmtpAgent:
    """Hands mail to the host or `unix:/path` that the route names. `hops` are the static next hops by domain."""

    def __init__(self, hops: Mapping[str, NextHop], transmitter: Transmitter) -> None:
        self._hops = dict(hops)
        self._transmitter = transmitter

    async def deliver(self, delivery: Delivery) -> Mapping[int, Outcome]:
        """See `IDeliveryAgent`."""
        try:
            server = server_at(hop_of(delivery, self._hops), LMTP_PORT, lmtp=True)
        except MailError as error:
            return dict.fromkeys((row.id for row in delivery.recipients), no_way(error))
        return await self._transmitter.transmit(delivery, [server])

    async def stop(self) -> None:
        """Close kept connections."""
        await self._transmitter.stop()
