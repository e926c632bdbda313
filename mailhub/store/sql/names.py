"""Domains and aliases that are kept in the database, beside those of the configuration."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from zope.interface import implementer

from mailhub.interfaces import INames, KeptNames
from mailhub.interfaces.accounts import NO_NAMES, NO_TARGETS
from mailhub.message.address import Address
from mailhub.store.sql.engine import Engine
from mailhub.store.sql.transaction import Snapshot, Transaction

_ADD_DOMAIN = "INSERT INTO local_domain VALUES (?) ON CONFLICT DO NOTHING"
_ADD_SAME = """
INSERT INTO domain_alias (name, same_as) VALUES (?, ?)
ON CONFLICT (name) DO UPDATE SET same_as = excluded.same_as WHERE domain_alias.same_as <> excluded.same_as
"""
_OF_DOMAINS = ("local_domain", "domain_alias")


def kept(snapshot: Snapshot, newer_than: int) -> KeptNames | None:
    """All, unless nothing has changed since that version: then one row is read."""
    version = int(snapshot.execute("SELECT number FROM local_names_version").fetchone()[0])
    if version <= newer_than:
        return None
    aliases: dict[str, tuple[str, ...]] = {}
    for name, target in snapshot.execute("SELECT name, target FROM local_alias ORDER BY id"):
        aliases[name] = (*aliases.get(name, ()), target)
    domains = frozenset(row[0] for row in snapshot.execute("SELECT name FROM local_domain"))
    same_as = dict(snapshot.execute("SELECT name, same_as FROM domain_alias").fetchall())
    lists = dict(snapshot.execute("SELECT address, settings FROM mailing_list").fetchall())
    return KeptNames(version, domains, aliases, same_as, lists)


def _change(transaction: Transaction, statement: str, parameters: Sequence[object]) -> bool:
    """Run a statement; whether it changed anything, which then has a new version."""
    if not transaction.execute(statement, parameters).rowcount:
        return False
    transaction.execute("UPDATE local_names_version SET number = number + 1")
    return True


def _remove_domain(transaction: Transaction, domain: str) -> bool:
    gone = [_change(transaction, f"DELETE FROM {table} WHERE name = ?", (domain,)) for table in _OF_DOMAINS]
    return any(gone)


def _add_alias(transaction: Transaction, name: str, targets: Sequence[str]) -> list[str]:
    statement = "INSERT INTO local_alias (name, target) VALUES (?, ?) ON CONFLICT DO NOTHING"
    return [target for target in targets if _change(transaction, statement, (name, target))]


def _add_all(
    transaction: Transaction,
    aliases: Mapping[str, Sequence[str]],
    domains: Sequence[str],
    same_as: Mapping[str, str],
    remove: Mapping[str, Sequence[str]],
) -> int:
    for name, targets in remove.items():
        _remove_alias(transaction, name, targets)
    new = sum([_change(transaction, _ADD_DOMAIN, (domain,)) for domain in domains])
    new += sum([_change(transaction, _ADD_SAME, pair) for pair in same_as.items()])
    return new + sum([len(_add_alias(transaction, name, targets)) for name, targets in aliases.items()])


def _remove_list(transaction: Transaction, address: str) -> bool:
    transaction.execute("DELETE FROM list_member WHERE list = ?", (address,))
    return _change(transaction, "DELETE FROM mailing_list WHERE address = ?", (address,))


def _join(transaction: Transaction, address: str, members: Sequence[str]) -> list[str]:
    statement = "INSERT INTO list_member (list, member, address) VALUES (?, ?, ?) ON CONFLICT DO NOTHING"
    rows = [(address, Address.parse(member).key, member) for member in members]
    return [row[2] for row in rows if transaction.execute(statement, row).rowcount]


def _leave(transaction: Transaction, address: str, members: Sequence[str]) -> list[str]:
    statement = "DELETE FROM list_member WHERE list = ? AND member = ?"
    rows = [(member, (address, Address.parse(member).key)) for member in members]
    return [member for member, row in rows if transaction.execute(statement, row).rowcount]


def _remove_alias(transaction: Transaction, name: str, targets: Sequence[str]) -> list[str]:
    rows = transaction.execute("SELECT target FROM local_alias WHERE name = ? ORDER BY id", (name,)).fetchall()
    statement = "DELETE FROM local_alias WHERE name = ? AND target = ?"
    wanted = targets or [row[0] for row in rows]
    return [target for target in wanted if _change(transaction, statement, (name, target))]


@implementer(INames)
class Names:
    """The tables `local_domain`, `domain_alias`, `local_alias`, `mailing_list` and `list_member`."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def kept(self, newer_than: int = -1) -> KeptNames | None:
        """All, or None when nothing has changed since that version."""
        return await self._engine.read(lambda snapshot: kept(snapshot, newer_than))

    async def add_domain(self, domain: str) -> bool:
        """Whether it is new."""
        return await self._engine.write(lambda transaction: _change(transaction, _ADD_DOMAIN, (domain,)))

    async def add_domain_alias(self, domain: str, same_as: str) -> bool:
        """Whether it is new."""
        return await self._engine.write(lambda transaction: _change(transaction, _ADD_SAME, (domain, same_as)))

    async def remove_domain(self, domain: str) -> bool:
        """Whether it was there."""
        return await self._engine.write(lambda transaction: _remove_domain(transaction, domain))

    async def add_alias(self, name: str, targets: Sequence[str]) -> Sequence[str]:
        """The targets that are new."""
        return await self._engine.write(lambda transaction: _add_alias(transaction, name, targets))

    async def add_all(
        self,
        aliases: Mapping[str, Sequence[str]],
        domains: Sequence[str] = (),
        same_as: Mapping[str, str] = NO_NAMES,
        remove: Mapping[str, Sequence[str]] = NO_TARGETS,
    ) -> int:
        """See `INames`."""
        return await self._engine.write(lambda transaction: _add_all(transaction, aliases, domains, same_as, remove))

    async def remove_alias(self, name: str, targets: Sequence[str] = ()) -> Sequence[str]:
        """The targets that were there."""
        return await self._engine.write(lambda transaction: _remove_alias(transaction, name, targets))

    async def put_list(self, address: str, settings: str) -> bool:
        """Whether it is new."""
        statement = """
        INSERT INTO mailing_list (address, settings) VALUES (?, ?)
        ON CONFLICT (address) DO UPDATE SET settings = excluded.settings
        WHERE mailing_list.settings <> excluded.settings
        """
        return await self._engine.write(lambda transaction: _change(transaction, statement, (address, settings)))

    async def remove_list(self, address: str) -> bool:
        """Whether it was there."""
        return await self._engine.write(lambda transaction: _remove_list(transaction, address))

    async def list_members(self, address: str) -> Sequence[str]:
        """See `INames`."""
        statement = "SELECT address FROM list_member WHERE list = ? ORDER BY member"
        return await self._engine.read(lambda snapshot: [row[0] for row in snapshot.execute(statement, (address,))])

    async def has_member(self, address: str, member: str) -> bool:
        """See `INames`."""
        statement = "SELECT 1 FROM list_member WHERE list = ? AND member = ?"
        return await self._engine.read(
            lambda snapshot: snapshot.execute(statement, (address, member)).fetchone() is not None
        )

    async def join_list(self, address: str, members: Sequence[str]) -> Sequence[str]:
        """Those that are new."""
        return await self._engine.write(lambda transaction: _join(transaction, address, members))

    async def leave_list(self, address: str, members: Sequence[str]) -> Sequence[str]:
        """Those that were there."""
        return await self._engine.write(lambda transaction: _leave(transaction, address, members))
