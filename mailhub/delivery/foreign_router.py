"""Routers of plugins, which may raise anything, give anything, or not answer at all."""

from __future__ import annotations

from collections.abc import Sequence

from twisted.internet.interfaces import IReactorTime
from zope.interface import implementer

from mailhub.delivery import routing
from mailhub.delivery.editing import TransactionView
from mailhub.delivery.routing import MISTAKE, are_routes
from mailhub.errors import TemporaryError
from mailhub.guard import Guard, Unanswered
from mailhub.interfaces import IRouter, ITransactionView, ReversePath, Route
from mailhub.message.address import Address, is_address

ANSWER_SECONDS = 30.0


def watched(name: str, router: IRouter, clock: IReactorTime, guard: Guard | None = None) -> IRouter:
    """A router as it is where it is one of ours, which raise MailError alone and wait for the database at most."""
    return (
        router
        if type(router).__module__ == routing.__name__
        else ForeignRouter(name, router, guard or Guard("router", name, "", clock, ANSWER_SECONDS))
    )


@implementer(IRouter)
class ForeignRouter:
    """A router with a time for its answers. Whatever goes wrong with it is logged with its name, and the sender is
    asked to come again: nobody knows whether the mail would have been the router's."""

    def __init__(self, name: str, router: IRouter, guard: Guard) -> None:
        self.name = name
        self.router = router
        self._guard = guard

    async def route(self, recipient: Address, transaction: ITransactionView) -> Sequence[Route] | None:
        """See `IRouter`. Raises MailError."""
        about = {"session": transaction.origin.session_id, "to": recipient}
        try:
            view = TransactionView(transaction)
            routes = await self._guard.ask_about(about, "route", self.router.route, recipient, view)
            if not routes:
                return None
            if not are_routes(routes) or not all(map(_is_sound, routes)):
                raise self._guard.fault("route", f"it gave {routes!r:.100}", about)
        except Unanswered as error:
            raise TemporaryError(MISTAKE, status="4.3.5", detail=f"router {self.name}") from error
        return tuple(routes)


def _is_sound(route: Route) -> bool:
    """Whether its parts are what they should be. Later a mistake would be nobody's."""
    own = route.reverse_path
    return (
        is_address(route.recipient)
        and (own is None or (isinstance(own, ReversePath) and (own.address is None or is_address(own.address))))
        and isinstance(route.flags, frozenset)
        and isinstance(route.via, tuple)
        and all(isinstance(text, str) for text in (route.agent, route.target, route.mailbox, *route.flags, *route.via))
    )
