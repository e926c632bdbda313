"""Password hashing with argon2id, off the reactor thread and bounded (RFC 9106)."""

from __future__ import annotations

import argon2
import attrs
from twisted.internet.defer import DeferredSemaphore
from zope.interface import implementer

from mailhub.errors import Busy
from mailhub.interfaces import IPasswords, IThreads
from mailhub.keys import limit

# RFC 9106 4, second recommended option, with one lane: a login must not take both cores.
STRONG = argon2.PasswordHasher(time_cost=3, memory_cost=65536, parallelism=1)
# What an unknown user's password is held against: a hash of the STRONG kind whose password nobody knows.
DECOY = "$argon2id$v=19$m=65536,t=3,p=1$F67micFIxiTdboRzYSJ2FA$Pic2ZwPQ4io5GBjC3EpRtceBue++qRIbmAs3o7yYaFs"


def hash_password(password: str, hasher: argon2.PasswordHasher = STRONG) -> str:
    """An encoded argon2id hash with its own salt. Blocks for tens of milliseconds: for threads and commands."""
    return hasher.hash(password.encode())


def verify_password(encoded: str, password: str) -> bool:
    """Whether the password made this hash; False for a damaged hash. Blocks as long as hashing does."""
    try:
        return STRONG.verify(encoded, password.encode())
    except (argon2.exceptions.VerificationError, argon2.exceptions.InvalidHashError):
        return False


@implementer(IPasswords)
@attrs.define(eq=False)
class Passwords:
    """Verifies in at most `running` threads at once, with at most `waiting` callers in line."""

    threads: IThreads
    decoy: str = DECOY
    running: int = limit("password_threads", 2, 1, 100)
    waiting: int = limit("logins_waiting", 200, 1, 100_000)
    _slots: DeferredSemaphore = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self._slots = DeferredSemaphore(self.running)

    async def verify(self, encoded: str, password: str) -> bool:
        """See `verify_password`. An empty hash (unknown user) costs the same and never matches. Raises Busy."""
        if len(self._slots.waiting) >= self.waiting:
            raise Busy(detail="too many logins are waiting for a password check")
        await self._slots.acquire()
        try:
            matches: bool = await self.threads.run(verify_password, encoded or self.decoy, password)
        finally:
            self._slots.release()
        return matches and bool(encoded)
