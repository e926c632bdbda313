"""The table of accounts: IAccounts over the engine."""

from __future__ import annotations

from collections.abc import Sequence

from zope.interface import implementer

from mailhub.interfaces import Account, IAccounts
from mailhub.store.sql import accounts, mailbox_rows
from mailhub.store.sql.engine import Engine
from mailhub.store.sql.transaction import Touched


@implementer(IAccounts)
class Accounts:
    """The account table."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def find(self, user: str) -> Account | None:
        """The row."""
        return await self._engine.read(lambda snapshot: accounts.find_account(snapshot, user))

    async def add(self, user: str, password_hash: str, quota: int = 0) -> None:
        """Raises MailboxExists."""
        now = self._engine.environment.now()
        await self._engine.write(
            lambda transaction: mailbox_rows.add_account(transaction, user, password_hash, quota, now)
        )

    async def remove(self, user: str) -> None:
        """Raises NoSuchUser."""
        try:
            await self._engine.write(
                lambda transaction: accounts.remove_account(transaction, user), (), lambda: Touched(users=(user,))
            )
        finally:
            self._engine.known.drop()

    async def set_password(self, user: str, password_hash: str) -> None:
        """Raises NoSuchUser."""
        await self._engine.write(lambda transaction: accounts.set_password(transaction, user, password_hash))

    async def set_enabled(self, user: str, enabled: bool) -> None:
        """Raises NoSuchUser."""
        await self._engine.write(lambda transaction: accounts.set_enabled(transaction, user, enabled))

    async def set_quota(self, user: str, quota: int) -> None:
        """Raises NoSuchUser."""
        try:
            await self._engine.write(lambda transaction: accounts.set_quota(transaction, user, quota))
        finally:
            self._engine.known.drop()

    async def all(self) -> Sequence[Account]:
        """In address order."""
        return await self._engine.read(accounts.all_accounts)

    async def changed(self, after: int) -> tuple[int, Sequence[str]]:
        """Passwords, states and removals since then."""
        return await self._engine.read(lambda snapshot: accounts.changed_accounts(snapshot, after))
