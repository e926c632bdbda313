"""The gate of logins, for sessions of all protocols."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import attrs
from zope.interface import Interface, implementer

from mailhub.answers import answer
from mailhub.credentials import PlainCredentials
from mailhub.errors import AuthenticationFailed
from mailhub.interfaces import IAuthenticator, Origin

PASSWORD = "secret"


@implementer(IAuthenticator)
@attrs.define(eq=False, slots=False)
class FakeAuthenticator:
    """Everybody's password is PASSWORD, unless there is `trouble`. `avatar` makes what a user is given, which must be
    asked for by `interface`; `origins` are those of all logins, `revoked` what sessions want called, by session."""

    interface: type[Interface]
    avatar: Callable[[str], Any]
    trouble: Exception | None = None
    origins: list[Origin] = attrs.field(factory=list)
    revoked: dict[str, Callable[[], None]] = attrs.field(factory=dict)

    def logged_out(self, session_id: str) -> None:
        self.revoked.pop(session_id, None)

    async def vouched(
        self, user: str, avatar: type[Interface], origin: Origin, revoked: Callable[[], None] | None = None
    ) -> Any:
        if revoked is not None:
            self.revoked[origin.session_id] = revoked
        assert avatar is self.interface
        self.origins.append(origin)
        if self.trouble is not None:
            raise self.trouble
        return await answer(self.avatar(user))

    async def login(
        self,
        credentials: PlainCredentials,
        avatar: type[Interface],
        origin: Origin,
        revoked: Callable[[], None] | None = None,
    ) -> Any:
        if revoked is not None:
            self.revoked[origin.session_id] = revoked
        assert avatar is self.interface
        self.origins.append(origin)
        if self.trouble is not None:
            raise self.trouble
        if credentials.password != PASSWORD:
            raise AuthenticationFailed
        return await answer(self.avatar(credentials.user))
