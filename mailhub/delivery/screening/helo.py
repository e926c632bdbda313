"""What clients call themselves (RFC 5321 4.1.1.1): a name or an address that could be theirs.

MAIL before a greeting and a greeting without a name are refused by the protocol itself, whatever policies there are.
"""

from __future__ import annotations

from collections.abc import Collection
from ipaddress import ip_address

import attrs
from zope.interface import implementer

from mailhub.delivery.screening.rule import Rule
from mailhub.errors import PermanentError, TemporaryError
from mailhub.interfaces import ACCEPT, IHub, IPolicy, IResolver, Origin, Screen, Verdict
from mailhub.message.address import literal_of, parse_domain, to_ascii

_STATUS = "5.7.1"
_LOCALHOST = frozenset({"localhost", "localhost.localdomain", "localhost6", "localhost6.localdomain6"})


@attrs.frozen
class HeloOptions:
    """`qualified`: a name without a dot is refused. `strict`: the name must have an MX or address record, and an
    address literal must be the client's own."""

    qualified: bool = True
    strict: bool = False


@implementer(IPolicy)
@attrs.frozen(eq=False)
class Helo(Screen):
    """Refuses EHLO and HELO by what they say."""

    _options: HeloOptions
    _hub: IHub
    _rule: Rule

    @classmethod
    def of(cls, options: HeloOptions, hub: IHub) -> Helo:
        """The policy of a hub."""
        return cls(options, hub, Rule.of(hub))

    def begin(self, origin: Origin) -> Screen:
        """See `IPolicy`."""
        return self if self._rule.concerns(origin) else Screen()

    async def hello(self, origin: Origin) -> Verdict:
        """See `IScreen`."""
        if not origin.helo or not self._rule.concerns(origin):
            return ACCEPT  # from a program of ours, which has no greeting to say
        hub = self._hub
        fault = helo_fault(
            origin, {hub.hostname, *hub.domains}, qualified=self._options.qualified, literal=self._options.strict
        )
        if fault:
            return self._rule.reject(_STATUS, fault)
        if self._options.strict and not origin.helo.startswith("["):
            return await self._resolves(to_ascii(parse_domain(origin.helo)))
        return ACCEPT

    async def _resolves(self, name: str) -> Verdict:
        try:
            known = await has_records(self._hub.environment.resolver, name)
        except TemporaryError:
            return self._rule.defer("4.4.3", "The name in your greeting cannot be looked up now")
        return ACCEPT if known else self._rule.reject(_STATUS, "The name in your greeting does not exist")


async def has_records(resolver: IResolver, name: str) -> bool:
    """Whether a domain has an MX or an address record. Raises TemporaryError."""
    try:
        if await resolver.mail_exchangers(name):
            return True
    except PermanentError:
        return False
    return bool(await resolver.addresses(name))


def helo_fault(origin: Origin, ours: Collection[str], *, qualified: bool, literal: bool) -> str:
    """What is wrong with what a client calls itself, "" for nothing. `ours` are names that only we have (A-labels);
    `literal`: an address in brackets must be the one it comes from."""
    said = origin.helo
    try:
        ip_address(said)
        return "An address in your greeting must stand in brackets"
    except ValueError:
        pass
    try:
        domain = parse_domain(said)
        name = domain if domain.isascii() else to_ascii(domain)
    except ValueError:
        return "Your greeting names neither a host nor an address in brackets"
    if name.startswith("["):
        if name in (literal_of(origin.local), literal_of(f"::ffff:{origin.local}")) and origin.peer != origin.local:
            return "That is our own address"
        if literal and name not in (literal_of(origin.peer), literal_of(f"::ffff:{origin.peer}")):
            return "The address in your greeting is not yours"
        return ""
    if name in ours or name in _LOCALHOST:
        return "That is our own name"
    if qualified and "." not in name:
        return "The name in your greeting is not fully qualified"
    return ""
