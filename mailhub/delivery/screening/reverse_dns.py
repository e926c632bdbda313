"""Clients without a name in DNS (RFC 7372 3.3): a PTR record, and a name there that leads back to the address."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import IPv4Address, IPv6Address, ip_address

import attrs
from zope.interface import implementer

from mailhub.delivery.screening.by_address import OnceAddressed
from mailhub.delivery.screening.rule import Rule
from mailhub.errors import TemporaryError
from mailhub.interfaces import ACCEPT, IHub, IPolicy, IResolver, Origin, Screen, Verdict

_NAMES = 5  # of an address that are looked at


@attrs.frozen
class ReverseDnsOptions:
    """`confirmed`: one of the names must lead back to the address."""

    confirmed: bool = True


@implementer(IPolicy)
@attrs.frozen(eq=False)
class ReverseDns:
    """Refuses recipients by the client's address."""

    _options: ReverseDnsOptions
    _resolver: IResolver
    _rule: Rule

    @classmethod
    def of(cls, options: ReverseDnsOptions, hub: IHub) -> ReverseDns:
        """The policy of a hub."""
        return cls(options, hub.environment.resolver, Rule.of(hub))

    def begin(self, origin: Origin) -> Screen:
        """See `IPolicy`."""
        return OnceAddressed(self) if self.concerns(origin) else Screen()

    def concerns(self, origin: Origin) -> bool:
        """Whether a client is looked at."""
        return self._rule.concerns(origin)

    async def judge(self, peer: str) -> Verdict:
        """What is said of a client's address."""
        try:
            address = ip_address(peer.partition("%")[0])
        except ValueError:
            return ACCEPT
        try:
            names = await self._resolver.pointers(str(address))
            if not names:
                return self._rule.reject("5.7.25", f"Your address {address} has no name in DNS")
            if self._options.confirmed and not await self._leads_back(names[:_NAMES], address):
                return self._rule.reject("5.7.25", f"The name of your address {address} does not lead back to it")
        except TemporaryError:
            return self._rule.defer("4.7.25", "The name of your address cannot be looked up now")
        return ACCEPT

    async def _leads_back(self, names: Sequence[str], address: IPv4Address | IPv6Address) -> bool:
        """Raises TemporaryError where a name that cannot be looked up might."""
        failed: TemporaryError | None = None
        for name in names:
            try:
                if any(ip_address(found) == address for found in await self._resolver.addresses(name)):
                    return True
            except TemporaryError as error:
                failed = error
        if failed is not None:
            raise failed
        return False
