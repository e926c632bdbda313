"""Mail for everybody@ one of our domains goes to each account there, if it is one of ours who writes."""

from mailhub.api import ALIAS, Address, Component, IHub, ITransactionView, NoOptions, NotPermitted, Route


class Everybody:
    def __init__(self, options: NoOptions, hub: IHub) -> None:
        self.accounts = hub.accounts

    async def route(self, recipient: Address, transaction: ITransactionView) -> list[Route] | None:
        if recipient.local != "everybody":
            return None
        if not transaction.origin.user:
            raise NotPermitted
        found = [Address.parse(account.user) for account in await self.accounts.all()]
        return [Route(ALIAS, each) for each in found if each.domain == recipient.ascii_domain]


everybody = Component("router", "everybody", Everybody)
