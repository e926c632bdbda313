"""The gate in front of the portal."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import attrs
from twisted.cred.error import LoginFailed
from twisted.internet.task import deferLater
from zope.interface import Interface, implementer

from mailhub.auth.checkers import Login
from mailhub.auth.foreign_realm import GuardedPortal, Logout, log_out
from mailhub.auth.known_users import KnownUsers
from mailhub.auth.realm import canonical_user
from mailhub.auth.sessions import OpenSessions
from mailhub.auth.throttle import Throttle, Turns
from mailhub.credentials import PlainCredentials
from mailhub.errors import AuthenticationFailed, Busy, MailError, NoSuchUser, TemporaryError
from mailhub.interfaces import Account, IAuthenticator, Origin
from mailhub.log import Logger

if TYPE_CHECKING:
    from twisted.cred.portal import Portal
    from twisted.internet.interfaces import IReactorTime

_log = Logger(namespace="mailhub.auth")

# For fail2ban and its like, which should know the first one alone: its form is a promise.
_FAILED = "authentication failed: service={service} user={user!r} peer=[{peer}] session={session} ({reason:text})"
# The same password for the same user from the same network as before.
_FAILED_AGAIN = _FAILED.replace("failed:", "failed again:")


@implementer(IAuthenticator)
@attrs.define(eq=False)
class Authenticator:
    """Logs users in through a `Portal`: throttled, with one answer for every kind of refusal, and logged.

    `canonical` makes the user of a login name and `default_domain`: by that name checkers and realm know who it is.
    """

    portal: Portal | GuardedPortal
    clock: IReactorTime
    throttle: Throttle = attrs.field(factory=Throttle)
    default_domain: str = ""
    turns: Turns = attrs.field(factory=Turns)
    sessions: OpenSessions | None = None
    canonical: Callable[[str, str], str] = canonical_user
    users: KnownUsers | None = None  # None where only passwords tell
    # What the realm wants called when a session is over, by session.
    _logouts: dict[str, Logout] = attrs.field(init=False, factory=dict)

    async def login(
        self,
        credentials: PlainCredentials,
        avatar: type[Interface],
        origin: Origin,
        revoked: Callable[[], None] | None = None,
    ) -> Any:
        """See `IAuthenticator`."""
        user = self._name(credentials.user)

        async def attempt() -> Any:
            # Those before it in the line may have failed meanwhile.
            self._refuse_guessers(credentials, user, origin)
            return await self._avatar(credentials, avatar, origin, revoked)

        self._refuse_guessers(credentials, user, origin)
        known = self.throttle.knows(origin.peer, user, self.clock.seconds())
        try:
            found = await self.turns.take(origin.peer, attempt, user if known else "")
        except AuthenticationFailed as error:
            failed = self.throttle.failed(origin.peer, user, credentials.password, self.clock.seconds())
            _log.warn(
                _FAILED_AGAIN if failed.repeated else _FAILED,
                service=origin.service,
                user=credentials.user,
                peer=origin.peer,
                session=origin.session_id,
                reason=error.detail or "credentials",
            )
            if failed.delay:
                await deferLater(self.clock, failed.delay)
            raise AuthenticationFailed from None
        self.throttle.succeeded(origin.peer, user, self.clock.seconds())
        _log.info(
            "authenticated: service={service} user={user} peer=[{peer}] session={session}",
            service=origin.service,
            user=found.user,
            peer=origin.peer,
            session=origin.session_id,
        )
        return found

    async def vouched(
        self, user: str, avatar: type[Interface], origin: Origin, revoked: Callable[[], None] | None = None
    ) -> Any:
        """See `IAuthenticator`."""
        realm = getattr(self.portal, "realm", None)
        if realm is None:
            raise AuthenticationFailed(detail="this portal has no users but those that it has logged in itself")
        seen = self.sessions.seen if self.sessions is not None else 0
        try:
            name, account = await self.known(user)
            _, found, logout = await realm.requestAvatar(name.encode(), origin, avatar)
        except TemporaryError:
            raise
        except MailError as error:
            _log.warn(
                _FAILED,
                service=origin.service,
                user=user,
                peer=origin.peer,
                session=origin.session_id,
                reason=error.detail or str(error),
            )
            raise AuthenticationFailed from None
        self.logged_out(origin.session_id)
        self._logouts[origin.session_id] = logout
        if self.sessions is not None and revoked is not None and account is not None:
            self.sessions.enter(origin.session_id, name, account.password_hash, revoked, seen)
        _log.info(
            "vouched for: service={service} user={user} peer=[{peer}] session={session}",
            service=origin.service,
            user=found.user,
            peer=origin.peer,
            session=origin.session_id,
        )
        return found

    async def known(self, user: str) -> tuple[str, Account | None]:
        """The canonical name of a login, and its account where there is one: of who may log in, as far as that can be
        known without a password. Raises AuthenticationFailed, TemporaryError."""
        name = self.canonical(user, self.default_domain)
        if self.users is None:
            raise AuthenticationFailed(detail="nobody is known here without a password")
        return name, await self.users.find(name)

    def _refuse_guessers(self, credentials: PlainCredentials, user: str, origin: Origin) -> None:
        """Raises Busy."""
        if not self.throttle.refused(origin.peer, user, credentials.password, self.clock.seconds()):
            return
        _log.info(
            "login not tried, too many failures: service={service} peer=[{peer}] session={session}",
            service=origin.service,
            peer=origin.peer,
            session=origin.session_id,
        )
        raise Busy("Too many failed logins, please try again later", status="4.7.0")

    def _name(self, name: str) -> str:
        """The account that a login name means, or the name itself: to count by."""
        try:
            return self.canonical(name, self.default_domain)
        except AuthenticationFailed:
            return name

    def logged_out(self, session_id: str) -> None:
        """See `IAuthenticator`."""
        if self.sessions is not None:
            self.sessions.leave(session_id)
        logout = self._logouts.pop(session_id, None)
        if logout is not None:
            log_out(logout, session_id)

    async def _avatar(
        self,
        credentials: PlainCredentials,
        interface: type[Interface],
        origin: Origin,
        revoked: Callable[[], None] | None,
    ) -> Any:
        user = self.canonical(credentials.user, self.default_domain)
        acting_as = credentials.authorization_id
        if acting_as and self.canonical(acting_as, self.default_domain) != user:
            raise AuthenticationFailed(detail="authorization identity differs")
        asked = Login(user.encode(), credentials.password.encode())
        seen = self.sessions.seen if self.sessions is not None else 0
        try:
            _, found, logout = await self.portal.login(asked, origin, interface)
        except LoginFailed:
            raise AuthenticationFailed from None
        except NoSuchUser as error:
            raise AuthenticationFailed(detail=str(error.detail)) from None
        except TemporaryError:
            raise
        except MailError as error:
            raise AuthenticationFailed(detail=str(error)) from None
        self.logged_out(origin.session_id)  # of a login before this one
        self._logouts[origin.session_id] = logout
        if self.sessions is not None and revoked is not None and asked.account_hash:
            self.sessions.enter(origin.session_id, user, asked.account_hash, revoked, seen)
        return found
