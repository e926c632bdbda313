"""The database behind mailhub's own mailboxes: mail that comes in, the queue, and accounts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from zope.interface import Attribute, Interface

if TYPE_CHECKING:
    from mailhub.interfaces.accounts import IAccounts, INames
    from mailhub.interfaces.mailboxes import IMailStore
    from mailhub.interfaces.transport import IQueue


class IDatabase(Interface):
    """All that mailhub itself keeps. The four facets are there before it is started, and share their transactions.

    Which mailboxes can be delivered to in the queue's own commit is asked of `queue.deposits_into`.
    """

    store: IMailStore = Attribute("Its mailboxes. Starting and stopping them starts and stops the database.")
    queue: IQueue = Attribute("The durable queue.")
    accounts: IAccounts = Attribute("The account table.")
    names: INames = Attribute("Domains and aliases.")

    async def start() -> None:
        """Open it, bring it up to date, and set aside what a crash left behind. Doing it twice does nothing. Raises
        ConfigurationError when there is none, when it is a newer mailhub's, or when it cannot be opened or written."""

    async def stop() -> None:
        """Commit what waits and close. It cannot be started again. May be called again, and without a start."""
