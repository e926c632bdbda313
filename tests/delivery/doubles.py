"""Small stand-ins for what delivery works with."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Any

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from zope.interface import implementer

from mailhub.errors import NoSuchUser, OverQuota, StorageFull
from mailhub.interfaces import (
    Environment,
    IBlobReader,
    IHeadedBodyWriter,
    IRouter,
    ITransactionView,
    Receipt,
    Route,
    Submission,
)
from mailhub.message.address import Address
from mailhub.message.envelope import Outcome


class KnownAccounts:
    """As much of an IMailStore as routing asks for."""

    def __init__(self, *users: str, full: Sequence[str] = ()) -> None:
        self.users = set(users)
        self.full = set(full)

    async def exists(self, user: str) -> bool:
        return user in self.users

    def has_room(self, user: str, size: int) -> bool:
        return user in self.users and user not in self.full

    async def check_quota(self, user: str, size: int) -> None:
        if user not in self.users:
            raise NoSuchUser()
        if user in self.full:
            raise OverQuota()


@implementer(IRouter)
class Table:
    """A router of a plugin: fixed answers, None for the rest."""

    final = False

    def __init__(self, answers: dict[str, Any]) -> None:
        self.answers = answers

    async def route(self, recipient: Address, transaction: ITransactionView) -> Sequence[Route] | None:
        answer = self.answers.get(recipient.key)
        if isinstance(answer, Exception):
            raise answer
        return answer


def environment(clock: Clock | None = None, seed: int = 1) -> Environment:
    """A world without network."""
    nothing: Any = None
    return Environment(clock or Clock(), nothing, nothing, nothing, Random(seed), Path("/nonexistent"))


@implementer(IBlobReader)
class Octets:
    """A body in memory, as body, reader and proof of having been closed."""

    def __init__(self, octets: bytes) -> None:
        self.octets = octets
        self.size = len(octets)
        self.discarded = False
        self.closed = False

    async def read(self, offset: int = 0, length: int = -1) -> bytes:
        return self.octets[offset:] if length < 0 else self.octets[offset : offset + length]

    def open(self) -> Octets:
        return self

    def discard(self) -> None:
        self.discarded = True

    def close(self) -> None:
        self.closed = True


@implementer(IHeadedBodyWriter)
class OctetsWriter:
    """Keeps the pieces as they were written."""

    def __init__(self) -> None:
        self.pieces: list[bytes] = []
        self.aborted = False
        self.body: Octets | None = None

    async def write(self, octets: bytes) -> None:
        self.pieces.append(octets)

    async def written(self) -> Octets:
        return Octets(b"".join(self.pieces))

    async def finish(self, head: bytes = b"") -> Any:
        self.body = Octets(head + b"".join(self.pieces))
        return self.body

    def abort(self) -> None:
        self.aborted = True


class Commits:
    """As much of an IQueue as the pipeline uses: notes what is submitted and refuses what it is told to."""

    def __init__(self, store: Any = None, refused: dict[str, Outcome] | None = None) -> None:
        self.store = store
        self.refused = refused or {}
        self.free = 10**9
        self.submissions: list[tuple[Submission, str]] = []
        self.octets: list[bytes] = []
        self.writers: list[OctetsWriter] = []
        self.waiting: Deferred[None] | None = None
        self.errors: list[Exception] = []

    def deposits_into(self, store: object) -> bool:
        return store is self.store

    def new_body(self, size: int = 0, head_limit: int = 0) -> OctetsWriter:
        if self.errors:
            raise self.errors.pop()
        self.writers.append(OctetsWriter())
        return self.writers[-1]

    def check_space(self, size: int = 0) -> None:
        if size > self.free:
            raise StorageFull

    async def submit(
        self, submission: Submission, refusals: str = "bounce", also: Sequence[Submission] = ()
    ) -> Receipt:
        if self.waiting is not None:
            await self.waiting
        receipt = self._noted(submission, refusals)
        return attrs.evolve(receipt, also=tuple([self._noted(each, refusals) for each in also]))

    def _noted(self, submission: Submission, refusals: str) -> Receipt:
        self.submissions.append((submission, refusals))
        body: Any = submission.body
        self.octets.append(body.octets)
        deposits = submission.plan.deposits
        refused = {n: self.refused[d.user] for n, d in enumerate(deposits) if d.user in self.refused}
        return Receipt(f"id{len(self.submissions)}", refused)
