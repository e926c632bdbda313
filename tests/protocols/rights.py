"""A store in front of another that permits less: what a backend without some methods looks like."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mailhub.errors import NotPermitted
from mailhub.message.record import ALL_RIGHTS, READ_ONLY, Rights, storable

# What asks for which of these rights, one at least.
_NEEDS = {"append": "i", "change_flags": "swt", "expunge": "e"}
_NEVER = ("create", "delete", "rename")


class RestrictedMailbox:
    """`rights` are those of the mailbox; methods without the right raise NotPermitted, as the contract says."""

    def __init__(self, mailbox: Any, rights: Rights) -> None:
        self.rights = rights
        self._mailbox = mailbox
        self.calls: list[str] = []

    def __getattr__(self, name: str) -> Any:
        if name in _NEEDS and self.rights.isdisjoint(_NEEDS[name]):
            raise NotPermitted
        return getattr(self._mailbox, name)

    async def append(self, body: Any, flags: Any, internal_date: int, delivery_id: str = "") -> int:
        if "i" not in self.rights or storable(flags, self.rights) != flags:
            raise NotPermitted
        uid: int = await self._mailbox.append(body, flags, internal_date, delivery_id)
        return uid

    async def change_flags(self, uids: Any, change: Any, unchanged_since: int | None = None) -> Any:
        """Looks at each message: what it may not change must stay as it is."""
        for entry in await self._mailbox.entries(uids):
            new = change.apply(entry.flags)
            differing = new ^ entry.flags
            if storable(differing, self.rights) != differing:
                raise NotPermitted
        return await self._mailbox.change_flags(uids, change, unchanged_since)

    async def copy(self, uids: Any, target: Any) -> Any:
        if "i" not in target.rights:
            raise NotPermitted
        return await self._mailbox.copy(uids, target._mailbox)

    async def move(self, uids: Any, target: Any) -> Any:
        if "i" not in target.rights or "e" not in self.rights:
            raise NotPermitted
        return await self._mailbox.move(uids, target._mailbox)


class RestrictedAccount:
    """`rights` by the name of the mailbox; others have all. With `fixed` no mailbox can be made or removed."""

    def __init__(self, account: Any, rights: Mapping[str, Rights], *, fixed: bool) -> None:
        self._account = account
        self._rights = rights
        self._fixed = fixed

    def __getattr__(self, name: str) -> Any:
        if self._fixed and name in _NEVER:
            return self._never
        return getattr(self._account, name)

    async def _never(self, *_: Any) -> None:
        raise NotPermitted

    async def subscribe(self, name: str, subscribed: bool) -> None:
        if self._fixed:
            raise NotPermitted
        await self._account.subscribe(name, subscribed)

    async def mailbox(self, name: str) -> RestrictedMailbox:
        mailbox = await self._account.mailbox(name)
        return RestrictedMailbox(mailbox, self._rights.get(mailbox.name, ALL_RIGHTS))


class RestrictedStore:
    """An IMailStore."""

    def __init__(self, store: Any, rights: Mapping[str, Rights] | None = None, *, fixed: bool = False) -> None:
        self._store = store
        self._rights = {"INBOX": READ_ONLY} if rights is None else rights
        self._fixed = fixed

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def account(self, user: str, create: bool = False) -> RestrictedAccount:
        account = await self._store.account(user, create)
        return RestrictedAccount(account, self._rights, fixed=self._fixed)

    async def check_quota(self, user: str, size: int) -> None:
        await self._store.check_quota(user, size)
        if "i" not in self._rights.get("INBOX", ALL_RIGHTS):
            raise NotPermitted("Mailbox takes no messages", status="5.2.1")
