"""How the exams ask their questions, and the messages they use."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine
from functools import wraps
from typing import Any, TypeVar

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from mailhub.errors import MailError
from mailhub.interfaces import IBody, IBodyWriter, IMailbox
from mailhub.message.flags import SEEN, Flags

T = TypeVar("T")
S = TypeVar("S", bound="Exam")

USER = "b@yy.example"
OTHER = "c@yy.example"
DATE = 1_700_000_000  # seconds since the epoch
TURNS = 10_000
SEEN_ONLY: Flags = frozenset({SEEN})


class Exam:
    """How questions are asked."""

    def pump(self) -> None:
        """Let time go on: called while an answer is awaited."""

    def wait_for(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """The result, or what was raised."""
        results: list[Any] = []
        Deferred.fromCoroutine(coroutine).addBoth(results.append)
        for _ in range(TURNS):
            if results:
                break
            self.pump()
        assert results, "the call never returned"
        if isinstance(results[0], Failure):
            results[0].raiseException()
        result: T = results[0]
        return result

    async def refuses(self, error: type[MailError], call: Awaitable[object]) -> None:
        """The call must raise this error."""
        try:
            result = await call
        except error:
            return
        raise AssertionError(f"{error.__name__} was not raised; the result was {result!r}")


def question(ask: Callable[[S], Coroutine[Any, Any, None]]) -> Callable[[S], None]:
    """A test method written as a coroutine."""

    @wraps(ask)
    def asked(self: S) -> None:
        self.wait_for(ask(self))

    return asked


def message(number: int = 1, size: int = 0) -> bytes:
    """A message of at least `size` octets that is like no other."""
    head = b"From: a@xx.example\r\nTo: b@yy.example\r\nSubject: number %d\r\nMessage-ID: <%d@xx.example>\r\n\r\n"
    text = b"Hello, this is number %d.\r\n" % number
    return head % (number, number) + text * max(1, size // len(text))


async def make_body(new_body: Callable[[int], IBodyWriter], octets: bytes, chunk: int = 0) -> IBody:
    """Write octets in chunks of some size, 0 for one chunk."""
    writer = new_body(len(octets))
    for start in range(0, len(octets), chunk or len(octets) or 1):
        await writer.write(octets[start : start + chunk] if chunk else octets)
    return await writer.finish()


async def read_message(mailbox: IMailbox, uid: int) -> bytes:
    """All octets of a message."""
    reader = await mailbox.open(uid)
    try:
        octets = await reader.read()
        assert len(octets) == reader.size
        return octets
    finally:
        reader.close()


async def uids(mailbox: IMailbox) -> list[int]:
    """The UIDs there are."""
    return [entry.uid for entry in await mailbox.entries()]
