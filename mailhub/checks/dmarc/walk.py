"""The walk up the tree of DNS, to a domain's policy and to the organization that it belongs to (RFC 9989 4.10)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

import attrs
from twisted.internet.defer import Deferred, gatherResults

from mailhub.checks.dmarc.record import DmarcRecord, is_dmarc, parse_dmarc
from mailhub.errors import PermanentError, TemporaryError
from mailhub.interfaces import IResolver

QUESTIONS_LIMIT = 8  # names of one walk
_LABELS = 8  # from which on a name is cut to one less
_NONE: Mapping[str, Walked] = MappingProxyType({})


@attrs.frozen
class Found:
    """Whose record, and what it says."""

    domain: str
    record: DmarcRecord


@attrs.frozen
class Walked:
    """What one walk has found, from the domain upwards."""

    domain: str
    found: tuple[Found, ...]

    @property
    def own(self) -> DmarcRecord | None:
        """The record of the domain itself."""
        return self.found[0].record if self.found and self.found[0].domain == self.domain else None

    @property
    def organizational(self) -> str:
        """The Organizational Domain (RFC 9989 4.10.2): the domain itself where nothing else is said."""
        for each in self.found:
            if each.record.psd == "n":
                return each.domain
            if each.record.psd == "y" and each.domain != self.domain:
                return ".".join(self.domain.split(".")[-1 - len(each.domain.split(".")) :])
        return self.found[-1].domain if self.found else self.domain

    @property
    def policy(self) -> Found | None:
        """Where the policy is: that of the domain, of its Organizational Domain, or of the public suffix above."""
        organizational = self.organizational
        for name in (self.domain, organizational):
            for each in self.found:
                if each.domain == name:
                    return each
        return next((each for each in self.found if each.record.psd == "y"), None)


async def walk(domain: str, resolver: IResolver) -> Walked:
    """From a domain (A-labels) upwards, until a record says where to stop. Raises TemporaryError."""
    found: list[Found] = []
    name = domain
    for _ in range(QUESTIONS_LIMIT):
        record = await record_of(name, resolver)
        if record is not None:
            found.append(Found(name, record))
            if record.psd != "u":
                break
        labels = name.split(".")
        if len(labels) < 2:
            break
        name = ".".join(labels[-(_LABELS - 1) :] if len(labels) >= _LABELS else labels[1:])
    return Walked(domain, tuple(found))


class Walks:
    """Those of one message, each made once; `known` are made already."""

    def __init__(self, resolver: IResolver, known: Mapping[str, Walked] = _NONE) -> None:
        self.resolver = resolver
        self._made: dict[str, Walked | TemporaryError] = {**known}

    async def begin(self, domains: Sequence[str]) -> Sequence[Walked]:
        """Make those of these domains, side by side; gives the ones that DNS has answered."""
        made = await gatherResults([Deferred.fromCoroutine(self._make(each)) for each in dict.fromkeys(domains)])
        return [each for each in made if isinstance(each, Walked)]

    async def of(self, domain: str) -> Walked:
        """Raises TemporaryError."""
        made = self._made.get(domain) or await self._make(domain)
        if isinstance(made, TemporaryError):
            raise made
        return made

    async def _make(self, domain: str) -> Walked | TemporaryError:
        made: Walked | TemporaryError
        try:
            made = await walk(domain, self.resolver)
        except TemporaryError as error:
            made = error
        self._made[domain] = made
        return made


async def record_of(name: str, resolver: IResolver) -> DmarcRecord | None:
    """That of the domain itself; several at one name are none (RFC 9989 4.10.1). Raises TemporaryError."""
    try:
        texts = await resolver.texts(f"_dmarc.{name}")
    except PermanentError:
        return None
    found = [each for each in texts if is_dmarc(each)]
    return parse_dmarc(found[0]) if len(found) == 1 else None
