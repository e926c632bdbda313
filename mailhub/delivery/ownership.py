"""Whether a mailbox has the owner whom its sender means (RFC 7293): looked at when it is named, when a message is taken
and when one that has waited is delivered."""

from __future__ import annotations

import attrs

from mailhub.errors import PermanentError
from mailhub.interfaces import STORE, IAccounts, Route
from mailhub.message.valid_since import TASKS

STATUS = "5.7.17"
UNKNOWN = "5.7.19"


@attrs.define
class Owners:
    """By the account table: an account that is made anew has another owner."""

    accounts: IAccounts | None = None
    _earliest: int = 0  # when the oldest account was made of which that is known

    async def check(self, since: int, route: Route) -> None:
        """Raises PermanentError where a route's mailbox is younger than its sender's knowledge of it, or may be, and
        StoreUnavailable. What an alias leads to was not meant, and a mailbox for a task (RFC 2142) is nobody's."""
        if self.accounts is None or route.agent != STORE or route.via:
            return
        if route.recipient.local.lower() in TASKS:
            return
        account = await self.accounts.find(route.target)
        made = 0 if account is None else account.created or await self._made_by(self.accounts)
        if route.create or made > since:
            raise PermanentError("Mailbox has another owner than at that time", status=STATUS)

    async def _made_by(self, accounts: IAccounts) -> int:
        """RFC 7293 5: the latest time at which an account of before the table had dates can have been made. Raises
        PermanentError where nothing tells it, StoreUnavailable."""
        if not self._earliest:
            self._earliest = min((each.created for each in await accounts.all() if each.created), default=0)
        if not self._earliest:
            raise PermanentError("It is not known since when the mailbox has this owner", status=UNKNOWN)
        return self._earliest

    async def check_waiting(self, route: Route) -> None:
        """As `check`, of a message that has waited: it goes to all who have named the mailbox, or to none."""
        wanted = [named.rrvs for named in route.originals]
        if wanted and all(wanted):
            await self.check(max(since.timestamp for since in wanted if since is not None), route)
