"""A checker in a few lines: you say whether a password is right, mailhub does the rest.

class Family(SimpleChecker):
    def check(self, user, password):
        return ask_the_family_server(user, password)

family = Component("checker", "family", Family)
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable
from inspect import iscoroutinefunction
from typing import Any

from twisted.cred.checkers import ICredentialsChecker
from twisted.cred.credentials import IUsernamePassword
from twisted.cred.error import UnauthorizedLogin
from twisted.internet.defer import Deferred
from zope.interface import implementer

from mailhub.answers import answer
from mailhub.interfaces import IHub


@implementer(ICredentialsChecker)
class SimpleChecker(ABC):
    """An ICredentialsChecker of one method; `Component("checker", "mine", MyChecker)` is all that is needed.

    `check` may be a plain function: then it is called in a thread of this checker's own, up to four calls at the same
    time, and may block. Or it may be `async def`: then it runs on the reactor, and must not block. What it raises is
    logged with file and method, and the client is asked to come again; a MailError goes to the client as it is.
    """

    credentialInterfaces = (IUsernamePassword,)

    def __init__(self, options: Any, hub: IHub) -> None:
        self.options = options
        self.hub = hub

    @abstractmethod
    def check(self, user: str, password: str, /) -> bool | Awaitable[bool]:
        """Whether this is the user's password. A user is an address in its canonical form (`Address.key`)."""

    def requestAvatarId(self, credentials: Any) -> Deferred[bytes | tuple[()]]:
        """See ICredentialsChecker."""
        return Deferred.fromCoroutine(self.__ask(credentials))

    async def __ask(self, credentials: Any) -> bytes | tuple[()]:
        user: bytes = credentials.username
        try:
            told = user.decode(), credentials.password.decode()
        except UnicodeDecodeError:
            raise UnauthorizedLogin from None
        if iscoroutinefunction(self.check):
            right = await self.check(*told)
        else:
            right = await answer(await self.hub.environment.threads.run(self.check, *told))
        if not isinstance(right, bool):
            raise TypeError(f"check() gave {type(right).__name__}, neither True nor False")
        if not right:
            raise UnauthorizedLogin
        return user
