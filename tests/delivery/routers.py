"""The routers of a hub as its configuration has them by default, for tests of what stands behind them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import Clock

from mailhub.delivery.guarded_router import GuardedRouter
from mailhub.delivery.names import LocalNames
from mailhub.delivery.routing import (
    AccountRouter,
    AliasRouter,
    CatchAllRouter,
    ExchangerRouter,
    PostmasterRouter,
    Routing,
    StaticRouter,
)
from mailhub.guard import Guard
from mailhub.interfaces import IMailStore, IRouter, NextHop


def guarded(router: IRouter, clock: IReactorTime | None = None) -> GuardedRouter:
    """The router as a hub asks it."""
    return GuardedRouter(router, Guard("router", type(router).__name__.lower(), "", clock or Clock()))


def standard_routing(
    hostname: str,
    names: LocalNames,
    store: IMailStore,
    hops: Mapping[str, NextHop],
    before: Sequence[IRouter | GuardedRouter] = (),
) -> Routing:
    """In the order in which a hub asks by default, `before` first."""
    ours: Sequence[IRouter] = [
        AliasRouter(names, store),
        AccountRouter(names, store),
        PostmasterRouter(hostname, names, store),
        CatchAllRouter(names),
        StaticRouter(hops),
        ExchangerRouter(),
    ]
    routers = [router if isinstance(router, GuardedRouter) else guarded(router) for router in (*before, *ours)]
    return Routing(routers, names)
