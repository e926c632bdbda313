"""mailhub's built-in components: they come in by the door that all plugins use."""

from mailhub.builtin import (
    accounts_checker,
    accounts_router,
    aliases_router,
    catch_all_router,
    exchangers_router,
    lmtp_agent,
    postmaster_router,
    smtp_agent,
    sqlite_store,
    static_router,
    store_agent,
)

__all__ = [
    "accounts_checker",
    "accounts_router",
    "aliases_router",
    "catch_all_router",
    "exchangers_router",
    "lmtp_agent",
    "postmaster_router",
    "smtp_agent",
    "sqlite_store",
    "static_router",
    "store_agent",
]
