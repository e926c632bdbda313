"""What sessions are given of realms that are not ours: each avatar behind the realm's guard."""

from __future__ import annotations

from types import MappingProxyType
from typing import Any

import attrs
from zope.interface import Interface, implementer

from mailhub import plugin_faults
from mailhub.auth.foreign_realm import Adapter, Logout, Wanted
from mailhub.delivery.receiver import Receiver
from mailhub.guard import Guard
from mailhub.interfaces import IMailAccount, IMailReceiver, ISubmitter
from mailhub.message.address import Address
from mailhub.store.guarded.asking import Asking
from mailhub.store.guarded.store import GuardedAccount

_NONE: Wanted = MappingProxyType({})


def accounts(guard: Guard, theirs: Wanted = _NONE) -> Wanted:
    """Where an IMailAccount is wanted; `theirs` will do as well, and what their adapters make of it is one."""

    def account(avatar: Any, user: str, logout: Logout) -> tuple[Any, Logout]:
        return GuardedAccount(Asking(guard, avatar, "account", {"user": avatar.user}), avatar.user), logout

    return {IMailAccount: account, **theirs}


def receivers(guard: Guard, theirs: Wanted = _NONE) -> Wanted:
    """Where an IMailReceiver is wanted; `theirs` will do as well, and what their adapters make of it is one."""

    def receiver(avatar: Any, user: str, logout: Logout) -> tuple[Any, Logout]:
        return Receiver(_user(avatar) or user, avatar, guard), logout

    def adapted(adapter: Adapter) -> Adapter:
        return lambda avatar, user, logout: receiver(*_of(adapter(avatar, user, logout), user))

    return {IMailReceiver: receiver, **{interface: adapted(adapter) for interface, adapter in theirs.items()}}


def _of(made: tuple[Any, Logout], user: str) -> tuple[Any, str, Logout]:
    return made[0], user, made[1]


def submitters(guard: Guard) -> Wanted:
    """Where an ISubmitter is wanted."""

    def submitter(avatar: Any, user: str, logout: Logout) -> tuple[Any, Logout]:
        return _Submitter(avatar.user, avatar, guard), logout

    return {ISubmitter: submitter}


def lacks(interface: type[Interface], avatar: Any) -> str:
    """What keeps an avatar from being one of ours; "" for nothing. Those of `twisted.mail` are looked at when they are
    called."""
    if interface not in (IMailAccount, IMailReceiver, ISubmitter):
        return ""
    faults = plugin_faults.lacks(interface, avatar)
    if faults:
        return f"{type(avatar).__name__} is no {interface.__name__}: {faults}"
    if interface is not IMailReceiver and not _user(avatar):
        return f"{type(avatar).__name__}.user is {avatar.user!r:.100}, not the name of a user"
    return ""


def _user(avatar: Any) -> str:
    user = getattr(avatar, "user", None)
    return user if isinstance(user, str) else ""


@implementer(ISubmitter)
@attrs.frozen(eq=False)
class _Submitter:
    """See `ISubmitter`."""

    user: str
    _avatar: ISubmitter
    _guard: Guard

    async def may_send_as(self, address: Address | None) -> bool:
        """Raises MailError."""
        return bool(await self._guard.ask("may_send_as", self._avatar.may_send_as, address))
