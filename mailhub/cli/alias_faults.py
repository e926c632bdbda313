"""Aliases that lead to nobody, or round in a circle: as routing would find when mail comes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from copy import copy
from typing import Literal

import attrs

from mailhub.delivery.names import LocalNames
from mailhub.message.address import POSTMASTER, Address, is_postmaster
from mailhub.message.lists import ROLES, unfit


@attrs.frozen
class Everybody:
    """All who get mail here: our names, and the accounts."""

    hostname: str
    names: LocalNames
    users: frozenset[str]

    def without(self, name: str) -> Everybody:
        """The same without one alias for an address."""
        key = Address.parse(name).key
        aliases = self.names.aliases
        exact = {other: targets for other, targets in aliases.exact.items() if other != key}
        names = copy(self.names)
        names.aliases = attrs.evolve(aliases, exact=exact)
        return attrs.evolve(self, names=names)

    def is_account(self, address: Address) -> bool:
        """Whether it has a mailbox, with or without its detail."""
        plain = (plain for plain, _ in self.names.without_detail(address))
        return any(each.key in self.users for each in (address, *plain))

    def is_list(self, address: Address) -> bool:
        """Whether it is a mailing list's, or one of its owners'."""
        local = address.local.lower()
        owned = [attrs.evolve(address, local=local[: -len(end)]) for end in ROLES if local.endswith(end)]
        plain = [plain for plain, _ in self.names.without_detail(address)]
        return any(each.key in self.names.lists for each in (address, *plain, *owned))

    def has(self, address: Address) -> bool:
        """Whether it is an account, an alias or a list here."""
        return self.is_account(address) or bool(self.targets(address)) or self.is_list(address)

    def targets(self, address: Address) -> tuple[Address, ...]:
        """What an alias makes of it: one of its name, with its detail or without, the same name in another domain, or
        else a pattern or its domain's catch-all."""
        aliases = self.names.aliases
        if address.ascii_domain not in self.names.domains:
            return ()
        if named := aliases.named(address):
            return named
        for plain, _ in self.names.without_detail(address):
            if address.key not in self.users and (named := aliases.named(plain)):
                return named
        if same := self.names.same(address):
            return (same,)
        return () if self.is_account(address) else aliases.matching(address)

    def knows(self, address: Address) -> bool:
        """Whether mail for the address finds anybody: an address elsewhere, an account, an alias."""
        if address.ascii_domain not in self.names.domains:
            return True
        if self.has(address):
            return True
        return is_postmaster(address) and any(
            self.names.aliases.named(other) or other.key in self.users
            for other in (Address(POSTMASTER, domain) for domain in self.names.domains)
        )


def faults(everybody: Everybody) -> list[str]:
    """What is wrong with the aliases, a line each."""
    aliases = everybody.names.aliases
    found = [
        f"alias {before}{name} leads to nobody: there is no account or alias {target}"
        for before, table in (("", aliases.exact), ("", aliases.everywhere), ("@", aliases.catch_all))
        for name in sorted(table)
        for target in table[name]
        if not everybody.knows(target)
    ]
    told: set[frozenset[str]] = set()
    for start in _starts(everybody):
        circle = _circle(everybody, start)
        keys = frozenset(address.key for address in circle)
        if circle and keys not in told:
            told.add(keys)
            found.append(f"aliases go round in a loop: {' -> '.join(map(str, circle))}")
    return found


def list_faults(everybody: Everybody, members: Mapping[str, Sequence[Address]]) -> list[str]:
    """What is wrong with the lists, a line each. `members` are those of each."""
    found = []
    for name, settings in sorted(everybody.names.lists.items()):
        there: list[tuple[Literal["owner", "member"], Address]] = [
            ("owner", Address.parse(text)) for text in settings.owners
        ]
        there += [("member", member) for member in members[name]]
        found += [
            f"list {name}: there is no account or alias for its {what} {address}"
            for what, address in there
            if not everybody.knows(address)
        ]
        found += [
            f"list {name}: its {what} {address} is of no use: {reason}"
            for what, address in there
            if (reason := unfit(everybody.names.lists, name, address, what))
        ]
        if not members[name]:
            found.append(f"list {name} has no members: what is sent to it comes back")
        if everybody.is_account(Address.parse(name)):
            found.append(f"list {name} has the name of an account, which gets no mail any more")
    return found


def _starts(everybody: Everybody) -> Iterator[Address]:
    """An address for each alias; those of a catch-all alias are its targets."""
    aliases = everybody.names.aliases
    for key in sorted(aliases.exact):
        local, _, domain = key.rpartition("@")
        yield Address(local, domain)
    for local in sorted(aliases.everywhere):
        for domain in sorted(everybody.names.domains):
            yield Address(local, domain)
    for domain in sorted(aliases.catch_all):
        yield from aliases.catch_all[domain]


def _circle(everybody: Everybody, start: Address) -> tuple[Address, ...]:
    """The way from an address by aliases back to itself, empty when there is none.

    An alias that names itself, directly or through others, means the account of that name: that is no loop.
    """
    if everybody.is_account(start):
        return ()
    pending: list[tuple[Address, ...]] = [(start,)]
    seen: set[str] = set()
    while pending:
        path = pending.pop()
        for step in everybody.targets(path[-1]):
            if step.key == start.key:
                return (*path, step)
            if step.key not in seen:
                seen.add(step.key)
                pending.append((*path, step))
    return ()
