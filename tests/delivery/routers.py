"""The routers of a hub as its configuration has them by default, for tests of what stands behind them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from mailhub.delivery.names import LocalNames
from mailhub.delivery.routing import (
    AccountRouter,
    AliasRouter,
    CatchAllRouter,
    ExchangerRouter,
    NextHop,
    PostmasterRouter,
    Routing,
    StaticRouter,
)
from mailhub.interfaces import IMailStore, IRouter


def standard_routing(
    hostname: str,
    names: LocalNames,
    store: IMailStore,
    hops: Mapping[str, NextHop],
    before: Sequence[IRouter] = (),
) -> Routing:
    """In the order in which a hub asks by default, `before` first."""
    return Routing(
        [
            *before,
            AliasRouter(names, store),
            AccountRouter(names, store),
            PostmasterRouter(hostname, names, store),
            CatchAllRouter(names),
            StaticRouter(hops),
            ExchangerRouter(),
        ],
        names,
    )
