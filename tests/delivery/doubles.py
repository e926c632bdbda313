"""Small stand-ins for what delivery works with."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from zope.interface import implementer

from mailhub.errors import NoSuchUser, OverQuota
from mailhub.interfaces import IRouter, Route
from mailhub.message.address import Address


class KnownAccounts:
    """As much of an IMailStore as routing asks for."""

    def __init__(self, *users: str, full: Sequence[str] = ()) -> None:
        self.users = set(users)
        self.full = set(full)

    async def exists(self, user: str) -> bool:
        return user in self.users

    async def check_quota(self, user: str, size: int) -> None:
        if user not in self.users:
            raise NoSuchUser()
        if user in self.full:
            raise OverQuota()


@implementer(IRouter)
class Table:
    """A router of a plugin: fixed answers, None for the rest."""

    def __init__(self, answers: dict[str, Any]) -> None:
        self.answers = answers

    async def route(self, recipient: Address) -> Sequence[Route] | None:
        answer = self.answers.get(recipient.key)
        if isinstance(answer, Exception):
            raise answer
        return answer
