"""DNS as a table."""

from __future__ import annotations

from collections.abc import Sequence

from zope.interface import implementer

from mailhub.errors import PermanentError, TemporaryError
from mailhub.interfaces import IResolver, MailExchanger


@implementer(IResolver)
class FakeResolver:
    """Answers from `exchangers` (domain -> records) and `hosts` (name -> addresses), which may be changed at any time.

    Names in `failing` get no answer. A name in neither table does not exist. `asked` is every question.
    """

    def __init__(self) -> None:
        self.exchangers: dict[str, list[MailExchanger]] = {}
        self.hosts: dict[str, list[str]] = {}
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
        return tuple(self.exchangers.get(domain, ()))

    async def addresses(self, host: str) -> Sequence[str]:
        """See `IResolver`."""
        self._ask("A", host)
        return tuple(self.hosts.get(host, ()))

    def _ask(self, kind: str, name: str) -> None:
        self.asked.append((kind, name))
        if name in self.failing:
            raise TemporaryError(f"DNS gives no answer about {name}", status="4.4.3")
