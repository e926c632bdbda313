"""Avatars of a realm that is not ours: asked for in time, looked at, and let go of when nobody waits for them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import attrs
from twisted.cred.error import LoginFailed, UnhandledCredentials
from twisted.cred.portal import IRealm, Portal
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.python.failure import Failure
from zope.interface import Interface, implementer

from mailhub.guard import Guard
from mailhub.interfaces import Origin
from mailhub.log import Logger

_log = Logger(namespace="mailhub.auth")

Logout = Callable[[], Any]
# Makes what sessions take of an avatar, whose user and logout function it is told; gives the function that is to be
# called besides when the session is over.
Adapter = Callable[[Any, str, Logout], tuple[Any, Logout]]
# What a realm may give where a session wants an avatar of ours, the dearest first, and what is made of it.
Wanted = Mapping[type[Interface], Adapter]


def nothing() -> None:
    """Nobody is there to be told."""


def as_it_is(avatar: Any, user: str, logout: Logout) -> tuple[Any, Logout]:
    """The adapter of what needs none."""
    return avatar, logout


@attrs.frozen(eq=False)
class Avatars:
    """What sessions are given of a realm. `wanted` says what stands for each interface of ours; `fault` what an avatar
    lacks of an interface ("" for nothing)."""

    guard: Guard
    wanted: Mapping[type[Interface], Wanted]
    fault: Callable[[type[Interface], Any], str]

    async def get(
        self, method: str, ask: Callable[..., Any], subject: Any, mind: Any, interface: type[Interface], user: str
    ) -> tuple[type[Interface], Any, Logout]:
        """The avatar for `user`, which `ask(subject, mind, *interfaces)` gives. Raises LoginFailed, MailError: for all
        that is not as it should be Unanswered, when the log has said why."""
        wanted = self.wanted.get(interface, {interface: as_it_is})
        about = {"session": mind.session_id} if isinstance(mind, Origin) else {}
        given = await self.guard.ask_about(about, method, _asked, ask, subject, mind, tuple(wanted))
        if isinstance(given, LoginFailed):
            raise given
        fault = _fault(given, wanted)
        if not fault:
            found, avatar, logout = given
            fault = self.fault(found, avatar)
        if fault:
            _let_go(given)
            raise self.guard.fault(method, fault, about)
        adapted, logout = wanted[found](avatar, user, logout)
        return interface, adapted, logout


async def _asked(ask: Callable[..., Any], subject: Any, mind: Any, interfaces: tuple[type[Interface], ...]) -> Any:
    """What it gives; a refused login is an answer."""
    waiting: Deferred[Any] = Deferred()

    def came(result: Any) -> None:
        if not waiting.called:
            waiting.callback(result)
        elif not isinstance(result, Failure):
            _let_go(result)  # given up meanwhile

    maybeDeferred(ask, subject, mind, *interfaces).addBoth(came)
    try:
        return await waiting
    except UnhandledCredentials:
        raise  # which is a mistake of whoever made the portal
    except LoginFailed as error:
        return error


def _fault(given: Any, wanted: Wanted) -> str:
    if not isinstance(given, tuple) or len(given) != 3:
        return f"gave {given!r:.100}, not interface, avatar and logout function"
    interface, avatar, logout = given
    if not any(interface is each for each in wanted):
        named = ", ".join(each.__name__ for each in wanted)
        return f"gave an avatar for {getattr(interface, '__name__', repr(interface)):.100}; asked was for {named}"
    if avatar is None or isinstance(avatar, type):
        return f"gave {avatar!r:.100}, no {interface.__name__}"
    return "" if callable(logout) else f"gave {logout!r:.100}, which is no logout function"


def _let_go(given: Any) -> None:
    """Of an avatar that nobody takes."""
    logout = given[2] if isinstance(given, tuple) and len(given) == 3 else None
    if callable(logout):
        log_out(logout, "")


def log_out(logout: Logout, session_id: str) -> None:
    """Call a logout function, and wait for nothing. What goes wrong is logged."""
    maybeDeferred(logout).addErrback(
        lambda failure: _log.failure("logout failed: session={session}", failure=failure, session=session_id)
    )


@implementer(IRealm)
@attrs.frozen(eq=False)
class GuardedRealm:
    """A realm behind a portal of ours."""

    realm: Any
    avatars: Avatars

    def requestAvatar(
        self, avatarId: bytes | tuple[()], mind: object, *interfaces: type[Interface]
    ) -> Deferred[tuple[type[Interface], Any, Logout]]:
        """See `IRealm`."""
        (interface,) = interfaces
        user = avatarId.decode("utf-8", "replace") if isinstance(avatarId, bytes) else ""
        ask = self.realm.requestAvatar
        return Deferred.fromCoroutine(self.avatars.get("requestAvatar", ask, avatarId, mind, interface, user))


@attrs.frozen(eq=False)
class GuardedPortal:
    """Somebody's own portal, checkers and all."""

    portal: Portal
    avatars: Avatars

    async def login(
        self, credentials: Any, mind: object, interface: type[Interface]
    ) -> tuple[type[Interface], Any, Logout]:
        """As `Portal.login`. Raises LoginFailed, MailError."""
        user = getattr(credentials, "username", b"").decode()
        return await self.avatars.get("login", self.portal.login, credentials, mind, interface, user)
