"""Whether a mailbox has the owner whom its sender means (RFC 7293): looked at when it is named, when a message is taken
and when one that has waited is delivered."""

from __future__ import annotations

import attrs

from mailhub.errors import PermanentError
from mailhub.interfaces import STORE, IAccounts, Route

STATUS = "5.7.17"


@attrs.frozen
class Owners:
    """By the account table: an account that is made anew has another owner."""

    accounts: IAccounts | None = None

    async def check(self, since: int, route: Route) -> None:
        """Raises PermanentError where a route's mailbox is younger than its sender's knowledge of it, and
        StoreUnavailable. What an alias leads to was not meant, nor is anything known of an account of before the table
        had dates."""
        if self.accounts is None or route.agent != STORE or route.via:
            return
        account = await self.accounts.find(route.target)
        if route.create or (account is not None and account.created > since):
            raise PermanentError("Mailbox has another owner than at that time", status=STATUS)

    async def check_waiting(self, route: Route) -> None:
        """As `check`, of a message that has waited: it goes to all who have named the mailbox, or to none."""
        wanted = [named.rrvs for named in route.originals]
        if wanted and all(wanted):
            await self.check(max(since.timestamp for since in wanted if since is not None), route)
