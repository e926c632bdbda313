"""What a name of ours stands for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import attrs

from mailhub.message.address import Address, fold_local, parse_domain, parse_local, to_ascii


@attrs.frozen
class AliasTable:
    """The `[aliases]` of the configuration. Keys are `Address.key`, folded local parts, and A-labels."""

    exact: Mapping[str, tuple[Address, ...]] = attrs.field(factory=dict)
    everywhere: Mapping[str, tuple[Address, ...]] = attrs.field(factory=dict)
    catch_all: Mapping[str, tuple[Address, ...]] = attrs.field(factory=dict)

    @classmethod
    def parse(cls, table: Mapping[str, Sequence[str]], domains: Iterable[str]) -> AliasTable:
        """Read `address`, `@domain` or bare local part -> addresses. Raises ValueError that names the key."""
        local = frozenset(domains)
        exact: dict[str, tuple[Address, ...]] = {}
        everywhere: dict[str, tuple[Address, ...]] = {}
        catch_all: dict[str, tuple[Address, ...]] = {}
        for name, targets in table.items():
            try:
                addresses = tuple(Address.parse(target) for target in targets)
                if not addresses:
                    raise ValueError("needs at least one target")
                if name.startswith("@"):
                    catch_all[_local_domain(to_ascii(parse_domain(name[1:])), local)] = addresses
                elif "@" in name:
                    address = Address.parse(name)
                    _local_domain(address.ascii_domain, local)
                    exact[address.key] = addresses
                else:
                    everywhere[fold_local(parse_local(name))] = addresses
            except ValueError as error:
                raise ValueError(f'"{name}": {error}') from error
        return cls(exact, everywhere, catch_all)

    def before(self, others: AliasTable) -> AliasTable:
        """Both tables in one; where both have a name, this one's targets count."""
        return AliasTable(
            {**others.exact, **self.exact},
            {**others.everywhere, **self.everywhere},
            {**others.catch_all, **self.catch_all},
        )

    def named(self, address: Address) -> tuple[Address, ...]:
        """The targets of an alias by name; empty when there is none."""
        return self.exact.get(address.key) or self.everywhere.get(fold_local(address.local)) or ()


def _local_domain(domain: str, domains: frozenset[str]) -> str:
    if domain not in domains:
        raise ValueError(f"{domain} is not one of the local domains")
    return domain
