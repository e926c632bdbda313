"""What is asked of routers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mailhub.errors import InvalidMailboxName, MailError
from mailhub.interfaces import ALIAS, STORE, ITransactionView, OwnTransaction, ReversePath, Route
from mailhub.message import flags, mailbox_names
from mailhub.message.address import Address, is_address
from mailhub.message.envelope import Recipient
from mailhub.store.exam.rig import question, same
from mailhub.testing.exam import samples
from mailhub.testing.exam.component import ComponentExam, shown
from mailhub.testing.exam.samples import MAILS, ORIGINS, RECIPIENTS


class RouterExam(ComponentExam):
    """An `IRouter`. Where mail goes is its own; that its routes are ways is examined."""

    kind = "router"

    def make_router(self) -> Any:
        """The router; by default the one that `factory` makes of `options`."""
        return self.build()

    @question
    async def test_any_recipient_has_an_answer(self) -> None:
        """IRouter.route(): None, or Routes; raises NoSuchUser, TemporaryError."""
        router = self.make_router()
        for what, recipient in RECIPIENTS.items():
            await self._route(router, recipient, what)

    @question
    async def test_any_sender_has_an_answer(self) -> None:
        """IRouter.route(): `transaction` says who sends it, be it nobody or mailhub itself (`OwnTransaction`)."""
        router = self.make_router()
        recipient = RECIPIENTS["a user"]
        for who, origin in ORIGINS.items():
            for what, mail in MAILS.items():
                await self._route(router, recipient, f"{who}, {what}", samples.transaction(origin, mail, ()))
        await self._route(router, recipient, "mailhub itself", OwnTransaction())

    @question
    async def test_recipients_follow_one_another(self) -> None:
        """IRouter.route(): its transaction's recipients are those before this one, and stay as they are."""
        router = self.make_router()
        before = list(RECIPIENTS.values())
        for count, recipient in enumerate(before):
            transaction = samples.transaction(recipients=before[:count])
            await self._route(router, recipient, f"after {count} others", transaction)
            same(list(transaction.recipients), before[:count])

    @question
    async def test_recipients_may_be_asked_for_at_once(self) -> None:
        """IRouter.route(): one call may begin while another is under way."""
        router = self.make_router()
        await self.at_once(self._route(router, each, f"{what}, with others") for what, each in RECIPIENTS.items())

    # --- How it is done ----------------------------------------------------------------------------------------------

    async def _route(
        self, router: Any, recipient: Recipient, about: str, transaction: ITransactionView | None = None
    ) -> None:
        address = recipient.address
        about = f"{address}: {about}"
        try:
            found = await self.ask(
                "IRouter.route()", router.route, address, transaction or samples.transaction(recipients=()), about=about
            )
        except MailError:
            return
        if found is None:
            return
        if not isinstance(found, tuple | list) or not all(isinstance(each, Route) for each in found):
            raise AssertionError(
                f"IRouter.route() must give None or a sequence of Routes; {shown(found)} came; {about}"
            )
        self._check_all(found, address, about)

    def _check_all(self, routes: Sequence[Route], address: Address, about: str) -> None:
        for route in routes:
            if fault := _fault(route):
                raise AssertionError(f"IRouter.route(): {fault}; {shown(route)} came; {about}")
        if routes and all(route.agent == ALIAS and route.recipient.key == address.key for route in routes):
            raise AssertionError(f"IRouter.route(): an alias leads to another address; {about}")


def _fault(route: Route) -> str:
    """What is wrong with a route, in the words of its contract; "" for nothing."""
    own = route.reverse_path
    texts = (route.agent, route.target, route.mailbox)
    if not all(isinstance(text, str) for text in texts) or not route.agent:
        return "Route.agent names a delivery agent, target and mailbox are text"
    if not is_address(route.recipient):
        return "Route.recipient is an Address"
    if own is not None and not (isinstance(own, ReversePath) and (own.address is None or is_address(own.address))):
        return "Route.reverse_path is a ReversePath or None"
    if not isinstance(route.flags, frozenset) or not all(isinstance(flag, str) for flag in route.flags):
        return "Route.flags are a frozenset of text"
    if not isinstance(route.via, tuple) or not all(isinstance(name, str) for name in route.via):
        return "Route.via is a tuple of names"
    if route.agent == STORE and "@" not in route.target:
        return f"Route.target is the account for the agent {STORE!r}, its canonical address"
    try:
        flags.normalise(route.flags)
        if route.mailbox:
            mailbox_names.check(mailbox_names.normalise(route.mailbox))
    except (ValueError, InvalidMailboxName) as error:
        return f"Route.flags and Route.mailbox must be possible ones ({error})"
    return ""
