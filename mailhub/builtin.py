"""mailhub's own components, made by the factories that any plugin would have."""

from __future__ import annotations

from mailhub.auth.checkers import AccountsChecker
from mailhub.components import Hub
from mailhub.delivery.local import StoreAgent
from mailhub.delivery.routing import (
    AccountRouter,
    AliasRouter,
    CatchAllRouter,
    ExchangerRouter,
    PostmasterRouter,
    StaticRouter,
)
from mailhub.interfaces import IMailStore
from mailhub.plugins import Component, NoOptions


def _sqlite(_: NoOptions, hub: Hub) -> IMailStore:
    """The mailboxes in the very database of the queue: what is accepted is delivered by one commit."""
    return hub.database.store


sqlite_store = Component("store", "sqlite", _sqlite)

store_agent = Component("agent", "store", lambda _, hub: StoreAgent(hub.store, hub.environment))

accounts_checker = Component(
    "checker", "accounts", lambda _, hub: AccountsChecker(hub.accounts, hub.passwords, hub.verified)
)

aliases_router = Component("router", "aliases", lambda _, hub: AliasRouter(hub.domains, hub.aliases, hub.store))
accounts_router = Component("router", "accounts", lambda _, hub: AccountRouter(hub.domains, hub.store))
postmaster_router = Component(
    "router", "postmaster", lambda _, hub: PostmasterRouter(hub.hostname, hub.domains, hub.aliases, hub.store)
)
catch_all_router = Component("router", "catch-all", lambda _, hub: CatchAllRouter(hub.domains, hub.aliases))
static_router = Component("router", "static", lambda _, hub: StaticRouter(hub.hops))
exchangers_router = Component("router", "exchangers", lambda _, hub: ExchangerRouter())
