"""Routers of plugins, which may raise anything, give anything, or not answer at all."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from twisted.internet.defer import TimeoutError as DeferredTimeout
from twisted.internet.interfaces import IReactorTime
from zope.interface import implementer

from mailhub.answers import in_time
from mailhub.delivery import routing
from mailhub.delivery.editing import TransactionView
from mailhub.delivery.routing import MISTAKE, are_routes
from mailhub.errors import MailError, TemporaryError
from mailhub.interfaces import IRouter, ITransactionView, ReversePath, Route
from mailhub.log import Logger
from mailhub.message.address import Address, is_address

_log = Logger(namespace="mailhub.delivery.routing")

ANSWER_SECONDS = 30.0


def watched(name: str, router: IRouter, clock: IReactorTime) -> IRouter:
    """A router as it is where it is one of ours, which raise MailError alone and wait for the database at most."""
    return router if type(router).__module__ == routing.__name__ else ForeignRouter(name, router, clock)


@implementer(IRouter)
class ForeignRouter:
    """A router with a time for its answers. Whatever goes wrong with it is logged with its name, and the sender is
    asked to come again: nobody knows whether the mail would have been the router's."""

    def __init__(self, name: str, router: IRouter, clock: IReactorTime) -> None:
        self.name = name
        self.router = router
        self._clock = clock

    async def route(self, recipient: Address, transaction: ITransactionView) -> Sequence[Route] | None:
        """See `IRouter`. Raises MailError."""
        known: dict[str, Any] = {"router": self.name, "session": transaction.origin.session_id, "to": recipient}
        try:
            view = TransactionView(transaction)
            routes = await in_time(self._clock, ANSWER_SECONDS, self.router.route, recipient, view)
        except MailError:
            raise
        except DeferredTimeout:
            _log.error("router timed out: router={router} session={session} to=<{to}>", **known)
        except Exception:
            _log.failure("router failed: router={router} session={session} to=<{to}>", **known)
        else:
            if not routes:
                return None
            if are_routes(routes) and all(map(_is_sound, routes)):
                return tuple(routes)
            _log.error(
                "router failed: router={router} session={session} to=<{to}> gave={gave}",
                gave=f"{routes!r:.100}",
                **known,
            )
        raise TemporaryError(MISTAKE, status="4.3.5", detail=f"router {self.name}")


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
