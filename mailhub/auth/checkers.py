"""Credential checkers (`twisted.cred`): the account table, and several checkers behind one door."""

from __future__ import annotations

import hmac
from collections import OrderedDict
from collections.abc import Sequence
from hashlib import blake2b
from random import Random
from typing import Any

import attrs
from twisted.cred.checkers import ANONYMOUS, ICredentialsChecker
from twisted.cred.credentials import IUsernamePassword, UsernamePassword
from twisted.cred.error import UnauthorizedLogin
from twisted.internet.defer import Deferred, maybeDeferred
from zope.interface import implementer

from mailhub.answers import Nonsense
from mailhub.errors import ConfigurationError, MailError, TemporaryError
from mailhub.guard import Guard
from mailhub.interfaces import IAccounts, IPasswords, IVerifiedLogins
from mailhub.keys import Key
from mailhub.log import Logger

_log = Logger(namespace="mailhub.auth")


LOGINS_REMEMBERED = Key("limits", "logins_remembered", 10_000, 0, 10_000_000)


@implementer(IVerifiedLogins)
class VerifiedCache:
    """Remembers which passwords were right, so that a client that logs in every minute costs microseconds.

    Holds keyed digests under a key of this process alone, each with the stored hash it was verified against:
    a password change makes the entry worthless by itself.
    """

    def __init__(self, random: Random, size: int = LOGINS_REMEMBERED.default) -> None:
        self._key = random.randbytes(32)
        self._size = size
        self._verified: OrderedDict[bytes, str] = OrderedDict()

    def _digest(self, user: str, password: str) -> bytes:
        name = user.encode()
        return blake2b(len(name).to_bytes(4, "big") + name + password.encode(), key=self._key).digest()

    def knows(self, user: str, password: str, encoded: str) -> bool:
        """Whether this password was verified against this very hash."""
        digest = self._digest(user, password)
        known = self._verified.get(digest)
        if known is None or not hmac.compare_digest(known, encoded):
            return False
        self._verified.move_to_end(digest)
        return True

    def remember(self, user: str, password: str, encoded: str) -> None:
        """Note a successful verification; the least recently used one makes room."""
        self._verified[self._digest(user, password)] = encoded
        if len(self._verified) > self._size:
            self._verified.popitem(last=False)


class Login(UsernamePassword):
    """What the gate has checked. `account_hash` is the stored hash by which the account table has vouched for the
    user, "" where another checker did."""

    account_hash = ""

    def checkPassword(self, password: bytes | str) -> bool:
        """Also of a checker that was given its passwords as text."""
        expected = password.encode() if isinstance(password, str) else password
        return hmac.compare_digest(self.password, expected)


@implementer(ICredentialsChecker)
@attrs.define(eq=False)
class AccountsChecker:
    """Checks against mailhub's own account table. Unknown user, disabled account and wrong password look alike."""

    accounts: IAccounts
    passwords: IPasswords
    cache: IVerifiedLogins
    credentialInterfaces = (IUsernamePassword,)

    def requestAvatarId(self, credentials: Any) -> Deferred[bytes | tuple[()]]:
        """Gives the canonical address as UTF-8, or fails with UnauthorizedLogin, Busy, StoreUnavailable."""
        return Deferred.fromCoroutine(self._check(credentials))

    async def _check(self, credentials: Any) -> bytes | tuple[()]:
        user: str = credentials.username.decode()
        password: str = credentials.password.decode()
        account = await self.accounts.find(user)
        encoded = account.password_hash if account is not None and account.enabled else ""
        if not (encoded and self.cache.knows(user, password, encoded)):
            if not await self.passwords.verify(encoded, password):
                raise UnauthorizedLogin
            self.cache.remember(user, password, encoded)
        if isinstance(credentials, Login):
            credentials.account_hash = encoded
        return user.encode()

    async def exists(self, user: str) -> bool:
        """See `IUserDirectory`: mail is taken for a disabled account, too."""
        return await self.accounts.find(user) is not None


def not_of_passwords(checker: Any) -> str:
    """Why a checker can be asked about no name and password; "" when it can."""
    try:
        interfaces = tuple(checker.credentialInterfaces)
        if any(interface.providedBy(_ASKED) for interface in interfaces):
            return ""
        return f"it takes {', '.join(interface.__name__ for interface in interfaces) or 'nothing'}"
    except Exception as error:
        return f"its credentialInterfaces are no list of interfaces ({type(error).__name__})"


_ASKED = Login(b"", b"")


@implementer(ICredentialsChecker)
class FirstMatch:
    """Asks checkers in turn; the first that accepts decides.

    `Portal` keeps one checker per credential interface, so several have to stand behind one. A failed login asks
    them all, whoever knows the user: time does not tell. A checker that breaks does not open the door; when no other
    accepts, the answer is "try again later", not "wrong password".
    """

    credentialInterfaces = (IUsernamePassword,)

    def __init__(self, checkers: Sequence[ICredentialsChecker], guards: Sequence[Guard] = ()) -> None:
        """`guards`: what each checker is called by."""
        for checker in checkers:
            if faults := not_of_passwords(checker):
                name = type(checker).__name__
                raise ConfigurationError(f"[auth] checkers: {name} cannot check passwords: {faults}")
        self._checkers = tuple(checkers)
        self._guards = tuple(guards) or (None,) * len(self._checkers)

    def requestAvatarId(self, credentials: Any) -> Deferred[bytes | tuple[()]]:
        """Gives the first accepting checker's avatar id, or fails with UnauthorizedLogin, TemporaryError."""
        return Deferred.fromCoroutine(self._ask_all(credentials))

    async def _ask_all(self, credentials: Any) -> bytes | tuple[()]:
        broken: MailError | None = None
        for checker, guard in zip(self._checkers, self._guards, strict=True):
            try:
                if guard is None:
                    avatar_id = _avatar_id(await _asked(checker, credentials))
                else:
                    avatar_id = await guard.ask("requestAvatarId", _asked, checker, credentials)
                    avatar_id = guard.look("requestAvatarId", _avatar_id, avatar_id)
            except TemporaryError as error:
                broken = error
            except Exception:
                _log.failure("checker {checker} failed", checker=type(checker).__name__)
                broken = TemporaryError(status="4.7.0", detail=f"checker {type(checker).__name__} failed")
            else:
                if avatar_id:
                    return avatar_id
        raise broken or UnauthorizedLogin()


def _avatar_id(given: object) -> bytes:
    """In octets; none for nobody's. Raises Nonsense."""
    try:
        if isinstance(given, str | bytes):
            text = given if isinstance(given, str) else bytes.decode(given)
            if "\0" in text:  # which no table keeps
                raise Nonsense("it gave an avatar id with a NUL")
            return str.encode(text)
    except UnicodeError:
        raise Nonsense("it gave an avatar id that is no text in UTF-8") from None
    if given != ANONYMOUS:
        raise Nonsense(f"it gave {type(given).__name__}, no avatar id")
    return b""


async def _asked(checker: ICredentialsChecker, credentials: Any) -> Any:
    """An avatar id; the one of nobody where the checker says no."""
    try:
        return await maybeDeferred(checker.requestAvatarId, credentials)
    except UnauthorizedLogin:
        return ANONYMOUS
