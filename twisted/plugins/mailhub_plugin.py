"""What mailhub offers to twistd, and its built-in components: they come in by the door that all plugins use."""

from twisted.application.service import ServiceMaker

from mailhub.builtin import (
    accounts_checker,
    accounts_router,
    aliases_router,
    catch_all_router,
    exchangers_router,
    postmaster_router,
    sqlite_store,
    static_router,
    store_agent,
)

mailhub_service = ServiceMaker(  # type: ignore[no-untyped-call]
    "mailhub", "mailhub.tap", "A mail server: SMTP, submission, POP3 and IMAP4.", "mailhub"
)

__all__ = [
    "accounts_checker",
    "accounts_router",
    "aliases_router",
    "catch_all_router",
    "exchangers_router",
    "mailhub_service",
    "postmaster_router",
    "sqlite_store",
    "static_router",
    "store_agent",
]
