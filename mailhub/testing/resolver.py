"""DNS as a table, filled by hand or from zone data."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import attrs
import dns.name
import dns.rdatatype
import dns.reversename
import dns.zone
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from zope.interface import implementer

from mailhub.errors import PermanentError, TemporaryError
from mailhub.interfaces import HostAddresses, IResolver, MailExchanger, ServiceLocation, Tlsa, TlsaRecord

# How long a resolver asks all its servers before it gives up.
TIMEOUT_SECONDS = 10.0
_ALIASES = 8  # that are followed


@implementer(IResolver)
class FakeResolver:
    """Answers from its tables, which may be changed at any time: `exchangers` (domain -> MX), `hosts` (name ->
    addresses), `txt` (name -> TXT), `ptr` (address -> names), `srv` (name -> SRV), `dane` (name -> TLSA) and
    `aliases` (name -> name, CNAME). `load` fills them from zone data.

    Names in `failing` get no answer (SERVFAIL). Where there is a `clock`, those in `silent` get none after
    `TIMEOUT_SECONDS`, and those in `slow` get theirs after so many seconds. A domain that is neither in `exchangers`
    nor in `hosts` does not exist. DNSSEC vouches for the names in `secure` and all below them. `asked` is every
    question.
    """

    def __init__(self, clock: IReactorTime | None = None) -> None:
        self.exchangers: dict[str, list[MailExchanger]] = {}
        self.hosts: dict[str, list[str]] = {}
        self.txt: dict[str, list[bytes]] = {}
        self.ptr: dict[str, list[str]] = {}
        self.srv: dict[str, list[ServiceLocation]] = {}
        self.dane: dict[str, list[TlsaRecord]] = {}
        self.aliases: dict[str, str] = {}
        self.secure: set[str] = set()
        self.failing: set[str] = set()
        self.silent: set[str] = set()
        self.slow: dict[str, float] = {}
        self.asked: list[tuple[str, str]] = []
        self._clock = clock

    def add(self, domain: str, host: str, address: str, preference: int = 10) -> None:
        """A mail exchanger of a domain and its address."""
        self.exchangers.setdefault(domain, []).append(MailExchanger(preference, host))
        self.hosts.setdefault(host, []).append(address)

    def load(self, zone: str, origin: str = ".") -> None:
        """Add the records of a master file (RFC 1035 5): A, AAAA, MX, TXT, CNAME, SRV, TLSA and PTR; others are passed
        over. Names without a dot at their end are below `origin`. Raises `dns.exception.DNSException`."""
        # The zone is the root, so that one text may have names of many domains and of in-addr.arpa.
        text = f"$ORIGIN {dns.name.from_text(origin)}\n{zone}"
        found = dns.zone.from_text(text, origin=".", relativize=False, check_origin=False)
        for name, _, record in found.iterate_rdatas():
            self._enter(name, record)

    def _enter(self, name: dns.name.Name, record: Any) -> None:
        key = _text(name)
        match record.rdtype:
            case dns.rdatatype.A | dns.rdatatype.AAAA:
                self.hosts.setdefault(key, []).append(record.address)
            case dns.rdatatype.MX:
                exchanger = MailExchanger(record.preference, _text(record.exchange))
                self.exchangers.setdefault(key, []).append(exchanger)
            case dns.rdatatype.TXT:
                self.txt.setdefault(key, []).append(b"".join(record.strings))
            case dns.rdatatype.CNAME:
                self.aliases[key] = _text(record.target)
            case dns.rdatatype.SRV:
                place = ServiceLocation(record.priority, record.weight, record.port, _text(record.target))
                self.srv.setdefault(key, []).append(place)
            case dns.rdatatype.TLSA:
                known = TlsaRecord(record.usage, record.selector, record.mtype, record.cert)
                self.dane.setdefault(key, []).append(known)
            case dns.rdatatype.PTR:
                self.ptr.setdefault(dns.reversename.to_address(name), []).append(_text(record.target))

    async def mail_exchangers(self, domain: str) -> Sequence[MailExchanger]:
        """See `IResolver`."""
        name = await self._ask("MX", domain)
        if name not in self.exchangers and name not in self.hosts:
            raise PermanentError("Domain does not exist", status="5.1.2")
        secure = self._is_secure(domain)
        return tuple(attrs.evolve(each, secure=secure, domain=name) for each in self.exchangers.get(name, ()))

    async def addresses(self, host: str) -> Sequence[str]:
        """See `IResolver`."""
        return (await self.host(host)).addresses

    async def host(self, name: str) -> HostAddresses:
        """See `IResolver`."""
        canonical = await self._ask("A", name)
        secure = self._is_secure(name)
        return HostAddresses(
            tuple(self.hosts.get(canonical, ())),
            secure and self._is_secure(canonical),
            canonical,
            secure and canonical != name,
        )

    async def texts(self, name: str) -> Sequence[bytes]:
        """See `IResolver`."""
        return tuple(self.txt.get(await self._ask("TXT", name), ()))

    async def pointers(self, address: str) -> Sequence[str]:
        """See `IResolver`."""
        return tuple(self.ptr.get(await self._ask("PTR", address), ()))

    async def services(self, name: str) -> Sequence[ServiceLocation]:
        """See `IResolver`."""
        return tuple(self.srv.get(await self._ask("SRV", name), ()))

    async def tlsa(self, name: str) -> Tlsa:
        """See `IResolver`."""
        return Tlsa(tuple(self.dane.get(await self._ask("TLSA", name), ())), self._is_secure(name))

    def _is_secure(self, name: str) -> bool:
        labels = name.split(".")
        return any(".".join(labels[start:]) in self.secure for start in range(len(labels)))

    async def _ask(self, kind: str, name: str) -> str:
        """The name whose records are the answer: where the aliases of this one lead."""
        self.asked.append((kind, name))
        if self._clock is not None and name in self.silent:
            await deferLater(self._clock, TIMEOUT_SECONDS)
        elif self._clock is not None and name in self.slow:
            await deferLater(self._clock, self.slow[name])
        if name in self.failing or name in self.silent:
            raise TemporaryError(f"DNS gives no answer about {name}", status="4.4.3")
        for _ in range(_ALIASES):
            if name not in self.aliases:
                return name
            name = self.aliases[name]
        raise TemporaryError(f"DNS gives no answer about {name}: too many aliases", status="4.4.3")


def _text(name: dns.name.Name) -> str:
    return name.to_text(omit_final_dot=True).lower() if len(name) > 1 else ""
