"""A router as it is asked, ours or a plugin's: it may raise anything, give anything, or not answer at all."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice

import attrs

from mailhub.answers import Nonsense, shown
from mailhub.delivery.editing import TransactionView
from mailhub.delivery.routing import MISTAKE, TARGET_LIMIT, OwnRouter
from mailhub.errors import TemporaryError
from mailhub.guard import Guard, Unanswered
from mailhub.interfaces import IRouter, ITransactionView, ReversePath, Route
from mailhub.message.address import Address, is_address


@attrs.frozen(eq=False)
class GuardedRouter:
    """A router, and the guard that it is asked by. Whatever goes wrong with it is logged with its name, and the sender
    is asked to come again: nobody knows whether the mail would have been the router's."""

    router: IRouter
    guard: Guard
    _own: OwnRouter | None = attrs.field(init=False)

    @_own.default
    def _find_own(self) -> OwnRouter | None:
        return self.router if isinstance(self.router, OwnRouter) else None

    @property
    def final(self) -> bool:
        """See `IRouter`."""
        return getattr(self.router, "final", False) is True

    def passes(self, recipient: Address) -> bool:
        """Whether it need not be asked. A plugin always is."""
        return self._own is not None and self._own.passes(recipient)

    def way_to_account(self, recipient: Address) -> tuple[Route, ...] | None:
        """See `OwnRouter`. A plugin has none."""
        return None if self._own is None else self._own.way_to_account(recipient)

    async def route(self, recipient: Address, transaction: ITransactionView) -> Sequence[Route] | None:
        """See `IRouter`. Raises MailError."""
        about = {"session": transaction.origin.session_id, "to": recipient}
        try:
            view = TransactionView(transaction)
            routes = await self.guard.ask_about(about, "route", self.router.route, recipient, view)
            return self.guard.look("route", lambda given: _sound(given, recipient), routes, about)
        except Unanswered as error:
            raise TemporaryError(MISTAKE, status="4.3.5", detail=f"router {self.guard.name}") from error


def _sound(given: object, asked: Address) -> Sequence[Route] | None:
    """The routes that were given. Raises Nonsense."""
    if not given:
        return None
    if not isinstance(given, tuple | list):
        raise Nonsense(f"it gave {shown(given)}, not a sequence of Route")
    routes = tuple(islice(given, TARGET_LIMIT + 1))
    if len(routes) > TARGET_LIMIT:
        raise Nonsense(f"it gave more than {TARGET_LIMIT} routes for one recipient")
    if not all(_is_sound(route, asked) for route in routes):
        raise Nonsense(f"it gave {shown(given)}")
    return routes


def _is_sound(route: object, asked: Address) -> bool:
    """Whether it is a route, and its parts are what they should be. Later a mistake would be nobody's. Most routes are
    for the very address that was asked for, and plain: looked at in that order, they cost a microsecond."""
    if not isinstance(route, Route):
        return False
    own = route.reverse_path
    return (
        (route.recipient is asked or is_address(route.recipient))
        and (own is None or (isinstance(own, ReversePath) and (own.address is None or is_address(own.address))))
        and isinstance(route.agent, str)
        and isinstance(route.target, str)
        and isinstance(route.mailbox, str)
        and isinstance(route.flags, frozenset)
        and isinstance(route.via, tuple)
        and len(route.flags) + len(route.via) <= TARGET_LIMIT
        and (not (route.flags or route.via) or all(isinstance(text, str) for text in (*route.flags, *route.via)))
    )
