"""What a name of ours stands for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress

import attrs

from mailhub.message.address import Address, fold_local, parse_domain, parse_local, to_ascii, to_unicode
from mailhub.message.expressions import Pattern, expanded

# How the name of an alias begins that is a pattern over addresses. None of an address does: there a colon is quoted.
WILDCARD = "wildcard:"
REGEX = "regex:"


@attrs.frozen
class PatternAlias:
    """A pattern over whole addresses, with A-labels or U-labels, and targets in which `\\1` stands for what its first
    group has matched."""

    pattern: Pattern
    targets: tuple[str, ...]

    @classmethod
    def parse(cls, name: str, targets: Sequence[str]) -> PatternAlias:
        """Raises ValueError."""
        if name.startswith(REGEX):
            pattern = Pattern.regex(name.removeprefix(REGEX))
        else:
            text = name.removeprefix(WILDCARD)
            pattern = Pattern.wildcard(text if "@" in text else f"{text}@*")
        if not targets:
            raise ValueError("needs at least one target")
        for target in targets:
            Address.parse(expanded(target, ("x",) * (pattern.groups + 1)))
        return cls(pattern, tuple(targets))

    def named(self, address: Address) -> tuple[Address, ...]:
        """The targets for an address; those that would be no addresses are left out."""
        forms = dict.fromkeys((address.ascii_domain, to_unicode(address.ascii_domain)))
        matches = (self.pattern.match(f"{address.local}@{domain}") for domain in forms)
        groups = next(filter(None, matches), None)
        found = []
        for target in self.targets if groups is not None else ():
            with suppress(ValueError):
                found.append(Address.parse(expanded(target, groups or ())))
        return tuple(found)


def is_pattern(name: str) -> bool:
    """Whether an alias of this name is for all addresses of a pattern."""
    return name.startswith((WILDCARD, REGEX))


@attrs.frozen
class AliasTable:
    """The `[aliases]` of the configuration. Keys are `Address.key`, folded local parts, and A-labels. `patterns` are
    for what nothing else knows, and the first one that matches counts."""

    exact: Mapping[str, tuple[Address, ...]] = attrs.field(factory=dict)
    everywhere: Mapping[str, tuple[Address, ...]] = attrs.field(factory=dict)
    catch_all: Mapping[str, tuple[Address, ...]] = attrs.field(factory=dict)
    patterns: tuple[PatternAlias, ...] = ()

    @classmethod
    def parse(cls, table: Mapping[str, Sequence[str]], domains: Iterable[str]) -> AliasTable:
        """Read `address`, `@domain`, bare local part, `wildcard:` or `regex:` with a pattern -> addresses. Raises
        ValueError that names the key."""
        local = frozenset(domains)
        exact: dict[str, tuple[Address, ...]] = {}
        everywhere: dict[str, tuple[Address, ...]] = {}
        catch_all: dict[str, tuple[Address, ...]] = {}
        patterns = []
        for name, targets in table.items():
            try:
                if is_pattern(name):
                    patterns.append(PatternAlias.parse(name, targets))
                    continue
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
        return cls(exact, everywhere, catch_all, tuple(patterns))

    def before(self, others: AliasTable) -> AliasTable:
        """Both tables in one; where both have a name, this one's targets count."""
        return AliasTable(
            {**others.exact, **self.exact},
            {**others.everywhere, **self.everywhere},
            {**others.catch_all, **self.catch_all},
            self.patterns + others.patterns,
        )

    def named(self, address: Address) -> tuple[Address, ...]:
        """The targets of an alias by name; empty when there is none."""
        return self.exact.get(address.key) or self.everywhere.get(fold_local(address.local)) or ()

    def matching(self, address: Address) -> tuple[Address, ...]:
        """The targets of the first pattern that the address matches, or of its domain's catch-all; empty when there is
        none."""
        for alias in self.patterns:
            if targets := alias.named(address):
                return targets
        return self.catch_all.get(address.ascii_domain, ())


def _local_domain(domain: str, domains: frozenset[str]) -> str:
    if domain not in domains:
        raise ValueError(f"{domain} is not one of the local domains")
    return domain
