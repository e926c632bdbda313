"""Password hashing with argon2id, off the reactor thread and bounded (RFC 9106)."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import argon2
import attrs
from twisted.internet.defer import DeferredSemaphore

from mailhub.errors import Busy
from mailhub.interfaces import IThreads

R = TypeVar("R")

# RFC 9106 4, second recommended option, with one lane: a login must not take both cores.
STRONG = argon2.PasswordHasher(time_cost=3, memory_cost=65536, parallelism=1)
# For tests and simulations, where nobody is kept out.
CHEAP = argon2.PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)


def hash_password(password: str, hasher: argon2.PasswordHasher = STRONG) -> str:
    """An encoded argon2id hash with its own salt. Blocks for tens of milliseconds: for threads and commands."""
    return hasher.hash(password.encode())


def verify_password(encoded: str, password: str) -> bool:
    """Whether the password made this hash; False for a damaged hash. Blocks as long as hashing does."""
    try:
        return STRONG.verify(encoded, password.encode())
    except (argon2.exceptions.VerificationError, argon2.exceptions.InvalidHashError):
        return False


@attrs.define(eq=False)
class Passwords:
    """Works on passwords in at most `running` threads at once, with at most `waiting` callers in line."""

    threads: IThreads
    hasher: argon2.PasswordHasher = STRONG
    running: int = 2
    waiting: int = 200
    _slots: DeferredSemaphore = attrs.field(init=False)
    _decoy: str = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self._slots = DeferredSemaphore(self.running)
        self._decoy = hash_password("no account has this hash", self.hasher)

    async def hash(self, password: str) -> str:
        """See `hash_password`. Raises Busy."""
        return await self._in_turn(hash_password, password, self.hasher)

    async def verify(self, encoded: str, password: str) -> bool:
        """See `verify_password`. An empty hash (unknown user) costs the same and never matches. Raises Busy."""
        matches = await self._in_turn(verify_password, encoded or self._decoy, password)
        return matches and bool(encoded)

    async def _in_turn(self, work: Callable[..., R], *args: object) -> R:
        if len(self._slots.waiting) >= self.waiting:
            raise Busy(detail="too many logins are waiting for a password check")
        await self._slots.acquire()
        try:
            return await self.threads.run(work, *args)
        finally:
            self._slots.release()
