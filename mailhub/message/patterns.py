"""Which addresses are meant where a configuration names some: one address, a domain, all domains below one, any."""

from __future__ import annotations

from collections.abc import Iterable

import attrs

from mailhub.message.address import Address, parse_domain, to_ascii

ANY = "*"
NULL = "<>"


@attrs.frozen
class AddressPatterns:
    """`user@domain`; `domain` or `@domain`; `*.domain`, which is every domain below but not that one; `*` for every
    address; `<>` for the null reverse-path. Case, normal form and A- or U-labels do not matter."""

    addresses: frozenset[str] = frozenset()
    domains: frozenset[str] = frozenset()
    above: frozenset[str] = frozenset()
    any: bool = False
    null: bool = False

    @classmethod
    def parse(cls, texts: Iterable[str]) -> AddressPatterns:
        """Read a list. Raises ValueError that names what is none."""
        addresses, domains, above = set(), set(), set()
        words = set()
        for text in texts:
            try:
                domain = text.removeprefix("@")
                if text in (ANY, NULL):
                    words.add(text)
                elif domain.startswith("*."):
                    above.add(_ascii(domain[2:]))
                elif "@" in domain:
                    addresses.add(Address.parse(text).key)
                else:
                    domains.add(_ascii(domain))
            except ValueError as error:
                raise ValueError(f'"{text}" is no address, no domain and no "*.domain": {error}') from None
        return cls(frozenset(addresses), frozenset(domains), frozenset(above), ANY in words, NULL in words)

    def match(self, address: Address | None) -> bool:
        """Whether it is one of them; None is the null reverse-path."""
        if address is None:
            return self.null
        return self.any or self.names(address)

    def names(self, address: Address) -> bool:
        """The same, by more than `*`."""
        domain = address.ascii_domain
        if domain in self.domains or (self.addresses and address.key in self.addresses):
            return True
        return bool(self.above) and any(parent in self.above for parent in _parents(domain))


def _ascii(domain: str) -> str:
    parsed = parse_domain(domain)
    return parsed if parsed.isascii() else to_ascii(parsed)


def _parents(domain: str) -> Iterable[str]:
    _, dot, rest = domain.partition(".")
    while dot:
        yield rest
        _, dot, rest = rest.partition(".")
