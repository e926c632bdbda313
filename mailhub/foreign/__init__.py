"""Realms written for `twisted.mail`, served by mailhub's own protocols as they are.

Whoever logs somebody in asks the portal for one of `ADAPTERS` beside mailhub's own interfaces, and `adapt`s the avatar
that comes. What all logins of a realm share is its `Foreign`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from twisted.mail.interfaces import IAccountIMAP, IMailboxPOP3
from zope.interface import Interface

from mailhub.foreign.calls import Foreign
from mailhub.foreign.imap import ForeignAccount
from mailhub.foreign.pop3 import ForeignMaildrop

__all__ = ["ADAPTERS", "Foreign", "adapt"]

# By what the realm's avatar provides: of avatar, user (canonical address), realm, and the portal's logout function.
ADAPTERS: Mapping[type[Interface], Callable[[Any, str, Foreign, Callable[[], Any]], Any]] = {
    IAccountIMAP: ForeignAccount,
    IMailboxPOP3: ForeignMaildrop,
}


def adapt(
    interface: type[Interface], avatar: Any, user: str, foreign: Foreign, logout: Callable[[], Any] = lambda: None
) -> Any:
    """What mailhub's sessions take in the place of this avatar: an IMailAccount. Raises KeyError for an interface that
    is not among ADAPTERS."""
    return ADAPTERS[interface](avatar, user, foreign, logout)
