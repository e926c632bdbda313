"""Avatars of a realm that is not ours: asked for in time, looked at, and let go of when nobody waits for them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache
from inspect import signature
from typing import Any

import attrs
from twisted.cred.checkers import ANONYMOUS
from twisted.cred.error import LoginFailed, UnhandledCredentials
from twisted.cred.portal import IRealm, Portal
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.python.failure import Failure
from zope.interface import Interface, implementer

from mailhub.answers import answer
from mailhub.auth.realm import address_or_name
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
        self,
        method: str,
        ask: Callable[..., Any],
        subject: Any,
        mind: Any,
        interface: type[Interface],
        user: Callable[[], str],
    ) -> tuple[type[Interface], Any, Logout]:
        """The avatar for `user` (who is known when it is there), which `ask(subject, mind, *interfaces)` gives.

        Raises LoginFailed, MailError: for all that is not as it should be Unanswered, when the log has said why.
        """
        wanted = self.wanted.get(interface, {interface: as_it_is})
        about = {"session": mind.session_id} if isinstance(mind, Origin) else {}
        given = await self.guard.ask_about(about, method, _asked, ask, subject, mind, tuple(wanted))
        if isinstance(given, LoginFailed):
            raise given
        fault = _fault(given, wanted)
        if not fault:
            found, avatar, logout = given
            fault = self.fault(found, avatar)
            # Whoever gives back the first interface means the one that the avatar has.
            other = next((each for each in wanted if fault and each is not found and each.providedBy(avatar)), None)
            if other is not None:
                found, fault = other, self.fault(other, avatar)
        if fault:
            _let_go(given)
            raise self.guard.fault(method, fault, about)
        adapted, logout = wanted[found](avatar, user(), logout)
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
        if isinstance(avatarId, bytes):
            # A checker has its own ways to write an address; accounts have one.
            avatarId = address_or_name(name_of(avatarId)).encode()
        ask = self.realm.requestAvatar
        return Deferred.fromCoroutine(
            self.avatars.get("requestAvatar", ask, avatarId, mind, interface, lambda: name_of(avatarId))
        )


@attrs.frozen(eq=False)
class GuardedPortal:
    """Somebody's own portal, checkers and all."""

    portal: Portal
    avatars: Avatars
    kept: object = None  # as long as anybody can log in

    async def login(
        self, credentials: Any, mind: object, interface: type[Interface]
    ) -> tuple[type[Interface], Any, Logout]:
        """As `Portal.login`. Raises LoginFailed, MailError."""
        realm = _OneLogin(getattr(self.portal, "realm", None), getattr(credentials, "username", b"").decode())
        ask = _over(self.portal, realm).login
        return await self.avatars.get("login", ask, credentials, mind, interface, lambda: realm.user)


class _OneLogin:
    """A realm for one login: sees whose avatar it is asked for, and asks it in the way that it can be asked."""

    def __init__(self, realm: Any, user: str) -> None:
        self._realm = realm
        self.user = user

    def requestAvatar(self, avatar_id: Any, mind: Any, *interfaces: type[Interface]) -> Deferred[Any]:
        """See `IRealm`."""
        self.user = name_of(avatar_id) or self.user
        return Deferred.fromCoroutine(self._ask(avatar_id, mind, interfaces))

    async def _ask(self, avatar_id: Any, mind: Any, interfaces: tuple[type[Interface], ...]) -> Any:
        """Realms that were written for one kind of server look at one interface."""
        ask = self._realm.requestAvatar
        failed: Exception | None = None
        for wanted in (interfaces, *((each,) for each in interfaces)):
            try:
                _bound(ask, avatar_id, mind, *wanted)
                return await answer(ask(avatar_id, mind, *wanted))
            except NotImplementedError as error:
                failed = error
            except WrongSignature as error:
                failed = failed or error
        assert failed is not None, "it was asked"
        raise failed


class WrongSignature(TypeError):
    """A function cannot be called with so many arguments."""


def _bound(function: Callable[..., Any], *arguments: object) -> None:
    try:
        signature(function).bind(*arguments)
    except ValueError:
        return  # it has none to look at
    except TypeError as error:
        raise WrongSignature(f"{getattr(function, '__name__', function)}(): {error}") from error


def _over(portal: Any, realm: _OneLogin) -> Any:
    """The portal with this realm instead of its own, where it is a `Portal`: all else that it has is the same."""
    if not isinstance(portal, Portal):
        return portal
    kind: Any = type(portal)
    made = object.__new__(_class_over(kind))
    made.__dict__ = portal.__dict__
    made.one_login = realm
    return made


@lru_cache(maxsize=100)
def _class_over(kind: type[Any]) -> Any:
    """A class may have a login() of its own."""
    return type(kind.__name__, (kind,), {"__slots__": ("one_login",), "realm": property(lambda self: self.one_login)})


def name_of(avatar_id: Any) -> str:
    """What the user of an avatar is called, each by another name; "" for nobody."""
    if isinstance(avatar_id, str):
        return avatar_id
    if isinstance(avatar_id, bytes):
        return avatar_id.decode("utf-8", "backslashreplace")
    return "" if avatar_id is None or avatar_id == ANONYMOUS else repr(avatar_id)
