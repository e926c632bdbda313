"""Realms written for `twisted.mail`, served by mailhub's own protocols as they are.

Whoever logs somebody in asks the portal for one of `ADAPTERS` beside mailhub's own interfaces, and `adapt`s the avatar
that comes. What all logins of a realm share is its `Foreign`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from twisted.mail.interfaces import IAccountIMAP, IMailboxPOP3, IMessageDelivery, IMessageDeliveryFactory
from zope.interface import Interface

from mailhub.foreign.calls import Foreign, Learnt
from mailhub.foreign.delivery import ForeignDelivery
from mailhub.foreign.imap import ForeignAccount
from mailhub.foreign.pop3 import ForeignMaildrop

__all__ = ["ADAPTERS", "Foreign", "Learnt", "adapt"]

Adapter = Callable[[Any, str, Foreign, Callable[[], Any]], Any]


def _delivery(avatar: Any, user: str, foreign: Foreign, logout: Callable[[], Any]) -> ForeignDelivery:
    """Who has logged somebody in to a receiver logs him out."""
    return ForeignDelivery(avatar, foreign)


# By what the realm's avatar provides: of avatar, user (canonical address), realm, and the portal's logout function.
ADAPTERS: Mapping[type[Interface], Adapter] = {
    IAccountIMAP: ForeignAccount,
    IMailboxPOP3: ForeignMaildrop,
    IMessageDelivery: _delivery,
    IMessageDeliveryFactory: _delivery,
}


def adapt(
    interface: type[Interface], avatar: Any, user: str, foreign: Foreign, logout: Callable[[], Any] = lambda: None
) -> Any:
    """What mailhub's sessions take in the place of this avatar: an IMailAccount, which calls `logout` at its end, or an
    IMailReceiver, which does not. Raises KeyError for an interface that is not among ADAPTERS."""
    return ADAPTERS[interface](avatar, user, foreign, logout)
