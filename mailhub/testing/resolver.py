"""DNS as a table."""

from __future__ import annotations

from collections.abc import Sequence

import attrs
from zope.interface import implementer

from mailhub.errors import PermanentError, TemporaryError
from mailhub.interfaces import HostAddresses, IResolver, MailExchanger, Tlsa, TlsaRecord


@implementer(IResolver)
class FakeResolver:
    """Answers from its tables, which may be changed at any time: `exchangers` (domain -> MX), `hosts` (name ->
    addresses), `txt` (name -> TXT), `ptr` (address -> names) and `dane` (name -> TLSA).

    Names in `failing` get no answer. A domain that is neither in `exchangers` nor in `hosts` does not exist. DNSSEC
    vouches for the names in `secure` and all below them. `asked` is every question.
    """

    def __init__(self) -> None:
        self.exchangers: dict[str, list[MailExchanger]] = {}
        self.hosts: dict[str, list[str]] = {}
        self.txt: dict[str, list[bytes]] = {}
        self.ptr: dict[str, list[str]] = {}
        self.dane: dict[str, list[TlsaRecord]] = {}
        self.secure: set[str] = set()
        self.failing: set[str] = set()
        self.asked: list[tuple[str, str]] = []

    def add(self, domain: str, host: str, address: str, preference: int = 10) -> None:
        """A mail exchanger of a domain and its address."""
        self.exchangers.setdefault(domain, []).append(MailExchanger(preference, host))
        self.hosts.setdefault(host, []).append(address)

    async def mail_exchangers(self, domain: str) -> Sequence[MailExchanger]:
        """See `IResolver`."""
        self._ask("MX", domain)
        if domain not in self.exchangers and domain not in self.hosts:
            raise PermanentError("Domain does not exist", status="5.1.2")
        secure = self._is_secure(domain)
        return tuple(attrs.evolve(each, secure=secure) for each in self.exchangers.get(domain, ()))

    async def addresses(self, host: str) -> Sequence[str]:
        """See `IResolver`."""
        return (await self.host(host)).addresses

    async def host(self, name: str) -> HostAddresses:
        """See `IResolver`."""
        self._ask("A", name)
        return HostAddresses(tuple(self.hosts.get(name, ())), self._is_secure(name), name)

    async def texts(self, name: str) -> Sequence[bytes]:
        """See `IResolver`."""
        self._ask("TXT", name)
        return tuple(self.txt.get(name, ()))

    async def pointers(self, address: str) -> Sequence[str]:
        """See `IResolver`."""
        self._ask("PTR", address)
        return tuple(self.ptr.get(address, ()))

    async def tlsa(self, name: str) -> Tlsa:
        """See `IResolver`."""
        self._ask("TLSA", name)
        return Tlsa(tuple(self.dane.get(name, ())), self._is_secure(name))

    def _is_secure(self, name: str) -> bool:
        labels = name.split(".")
        return any(".".join(labels[start:]) in self.secure for start in range(len(labels)))

    def _ask(self, kind: str, name: str) -> None:
        self.asked.append((kind, name))
        if name in self.failing:
            raise TemporaryError(f"DNS gives no answer about {name}", status="4.4.3")
