"""Who may be logged in on the word of another: of a proxy that has checked the password itself."""

from __future__ import annotations

import attrs

from mailhub.answers import answer
from mailhub.errors import AuthenticationFailed
from mailhub.interfaces import Account, IAccounts, ILocalNames, IMailStore, IUserDirectory


@attrs.frozen(eq=False)
class KnownUsers:
    """The users of a hub as far as they are known without a password."""

    accounts: IAccounts
    store: IMailStore
    directories: IUserDirectory
    names: ILocalNames

    async def find(self, user: str) -> Account | None:
        """The account of a canonical name; None for one whom only a store or a directory knows, and that in a domain of
        ours. Nothing is made. Raises AuthenticationFailed for anybody else and for a disabled account, TemporaryError.
        """
        account = await self.accounts.find(user)
        if account is not None:
            if not account.enabled:
                raise AuthenticationFailed(detail="the account is disabled")
            return account
        await self.names.refresh()
        _, at, domain = user.rpartition("@")
        ours = not at or domain in self.names.domains
        if not (ours and (await self.store.exists(user) or await answer(self.directories.exists(user)))):
            raise AuthenticationFailed(detail="there is no such user")
        return None
