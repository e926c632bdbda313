"""Ends sessions whose login is no longer good: the password was changed, the account disabled or removed."""

from __future__ import annotations

from collections.abc import Callable

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime

from mailhub.errors import MailError
from mailhub.interfaces import Account, IAccounts
from mailhub.log import Logger

_log = Logger(namespace="mailhub.auth")


@attrs.frozen
class _Session:
    user: str
    password_hash: str
    end: Callable[[], None]


@attrs.define(eq=False)
class OpenSessions:
    """The sessions of users for whom mailhub's own account table has vouched, with the stored hash it did so by.

    Changes may be made by other processes (the `mailhub` command), so the table is asked for them every `look_seconds`
    while there are sessions. Of users of other checkers nothing is known; they are not kept here.
    """

    accounts: IAccounts
    clock: IReactorTime
    look_seconds: float = 1.0
    seen: int = 0
    _sessions: dict[str, _Session] = attrs.field(init=False, factory=dict)
    _waiting: bool = attrs.field(init=False, default=False)

    def enter(self, session_id: str, user: str, password_hash: str, end: Callable[[], None], seen: int) -> None:
        """`end` is called once, when the login is no longer good. `seen` is what it was before the password was
        verified: a change that was found since is looked at again."""
        self._sessions[session_id] = _Session(user, password_hash, end)
        if seen != self.seen:
            Deferred.fromCoroutine(self._check(frozenset({user})))
        self._look_later()

    def leave(self, session_id: str) -> None:
        """The session is over; doing it twice does nothing."""
        self._sessions.pop(session_id, None)

    def _look_later(self) -> None:
        if self._sessions and not self._waiting:
            self._waiting = True
            self.clock.callLater(self.look_seconds, self._look)

    def _look(self) -> None:
        # Nobody there, nothing to find out: the next login looks again.
        if self._sessions:
            Deferred.fromCoroutine(self._look_now()).addErrback(
                lambda failure: _log.failure("changed accounts were not looked for", failure=failure)
            ).addBoth(self._looked)
        else:
            self._waiting = False

    def _looked(self, _: object) -> None:
        self._waiting = False
        self._look_later()

    async def _look_now(self) -> None:
        try:
            last, users = await self.accounts.changed(self.seen)
        except MailError:
            return  # the store says so elsewhere; the next look finds the same
        if users:
            await self._check(frozenset(users))
        self.seen = last

    async def _check(self, users: frozenset[str]) -> None:
        open_users = users & {session.user for session in self._sessions.values()}
        for user in sorted(open_users):
            account = await self.accounts.find(user)
            for session_id, session in tuple(self._sessions.items()):
                reason = session.user == user and _why_not(session, account)
                if reason:
                    self._end(session_id, session, reason)

    def _end(self, session_id: str, session: _Session, reason: str) -> None:
        if self._sessions.pop(session_id, None) is None:
            return
        _log.info(
            "session revoked: session={session} user={user} reason={reason!r}",
            session=session_id,
            user=session.user,
            reason=reason,
        )
        try:
            session.end()
        except Exception:
            _log.failure("session was not ended: session={session}", session=session_id)


def _why_not(session: _Session, account: Account | None) -> str:
    if account is None:
        return "the account was removed"
    if not account.enabled:
        return "the account was disabled"
    return "" if account.password_hash == session.password_hash else "the password was changed"
