"""The realm: what a login becomes. IMailAccount for IMAP and POP3, ISubmitter for SMTP."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress

import attrs
from twisted.cred.portal import IRealm
from twisted.internet.defer import Deferred
from zope.interface import Interface, implementer

from mailhub.auth.send_as import FindRoutes, SendAs
from mailhub.errors import AuthenticationFailed, NoSuchUser, NotYetKnown, PermanentError
from mailhub.interfaces import STORE, IMailAccount, IMailStore, ISubmitter, Route
from mailhub.message.address import Address


def canonical_user(name: str, default_domain: str = "") -> str:
    """The account a login name means: `Address.key`, with `default_domain` where the name has none.

    Raises AuthenticationFailed for what cannot be an address.
    """
    if "@" not in name and default_domain:
        name = f"{name}@{default_domain}"
    try:
        return Address.parse(name).key
    except ValueError as error:
        raise AuthenticationFailed(detail=str(error)) from None


def as_sent(name: str, default_domain: str = "") -> str:
    """The user of a realm that is not ours, whose names we know nothing of."""
    return name


def address_or_name(name: str, default_domain: str = "") -> str:
    """As `canonical_user`, but what cannot be an address is taken as it is."""
    try:
        return canonical_user(name, default_domain)
    except AuthenticationFailed:
        return name


@implementer(ISubmitter)
@attrs.frozen
class Submitter:
    """May send as its own address, with or without +detail, as every alias that reaches its mailbox, and as what it has
    been granted."""

    user: str
    routes: FindRoutes
    send_as: SendAs | None = None

    async def may_send_as(self, address: Address | None) -> bool:
        # The null reverse-path is how user agents send read receipts (RFC 8098 3).
        if address is None or address.key == self.user:
            return True
        try:
            routes: Sequence[Route] = await self.routes(address)
        except (PermanentError, NotYetKnown):
            routes = ()
        if any(route.agent == STORE and route.target == self.user for route in routes):
            return True
        return self.send_as is not None and await self.send_as.allows(self.user, address, self.routes)


Avatar = tuple[type[Interface], object, Callable[[], None]]


def _no_logout() -> None:
    """A submitter holds nothing, and an account is told by its session (`IMailAccount.logout`)."""


@implementer(IRealm)
@attrs.define(eq=False)
class MailRealm:
    """Avatars over one mail store. `routes` says where an address leads; `default_domain` may be "". `send_as` has what
    accounts may send as beside their own addresses."""

    store: IMailStore
    routes: FindRoutes
    default_domain: str = ""
    send_as: SendAs | None = None

    def requestAvatar(
        self, avatarId: bytes | tuple[()], mind: object, *interfaces: type[Interface]
    ) -> Deferred[Avatar]:
        """See `IRealm`. Fails with NotImplementedError for other interfaces, NoSuchUser for an account that is gone."""
        return Deferred.fromCoroutine(self._avatar(avatarId, interfaces))

    async def _avatar(self, avatar_id: bytes | tuple[()], interfaces: tuple[type[Interface], ...]) -> Avatar:
        if not isinstance(avatar_id, bytes):
            raise NoSuchUser(detail="anonymous login")
        user = canonical_user(avatar_id.decode(), self.default_domain)
        if IMailAccount in interfaces:
            return IMailAccount, await self.store.account(user, create=True), _no_logout
        if ISubmitter in interfaces:
            if not await self.store.exists(user):
                # Who is known to a foreign checker alone: answers to what is sent now must find a mailbox. A store may
                # have none for who only sends.
                with suppress(NoSuchUser):
                    await (await self.store.account(user, create=True)).logout()
            return ISubmitter, Submitter(user, self.routes, self.send_as), _no_logout
        raise NotImplementedError(f"no avatar provides {interfaces}")
