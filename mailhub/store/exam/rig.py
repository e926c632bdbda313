"""How the exams ask their questions, and the messages they use."""

from __future__ import annotations

import linecache
import unittest
from collections.abc import Awaitable, Callable, Coroutine
from functools import wraps
from typing import Any, TypeVar, overload

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from mailhub.errors import MailError
from mailhub.interfaces import IBody, IBodyWriter, IMailbox
from mailhub.message.flags import SEEN, Flags

T = TypeVar("T")
S = TypeVar("S", bound="Exam")
Ask = Callable[[S], Coroutine[Any, Any, None]]

USER = "b@yy.example"
OTHER = "c@yy.example"
DATE = 1_700_000_000  # seconds since the epoch
TURNS = 10_000
SEEN_ONLY: Flags = frozenset({SEEN})
_SHOWN = 1000  # characters of a value that a fault tells


class Exam:
    """How questions are asked. Each `test_*` method is one; it raises AssertionError where the answer is not what the
    contract says, and `unittest.SkipTest` (which every test framework takes for "not asked") where the exam says that
    the one examined does not have what the question is about."""

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
        named = getattr(call, "__qualname__", "the call")
        try:
            result = await call
        except error:
            return
        except Exception as other:
            raise AssertionError(f"{named} must raise {error.__name__}; it raised {_told(other)}") from other
        raise AssertionError(f"{error.__name__} was not raised by {named}; the result was {_shown(result)}")

    def lacks(self, rights: str, needs: tuple[str, ...]) -> str:
        """Why a question with these needs is not asked; "" when it is."""
        return next((f"{name} is off" for name in needs if not getattr(self, name)), "")


@overload
def question(ask: Ask[S]) -> Callable[[S], None]: ...


@overload
def question(*, rights: str = "", needs: tuple[str, ...] = ()) -> Callable[[Ask[S]], Callable[[S], None]]: ...


def question(ask: Ask[Any] | None = None, *, rights: str = "", needs: tuple[str, ...] = ()) -> Any:
    """A test method written as a coroutine. `needs` are switches of the exam without which it is not asked, `rights`
    (see `message.record.Rights`) those that it takes in the mailboxes of the one examined."""

    def made(ask: Ask[S]) -> Callable[[S], None]:
        @wraps(ask)
        def asked(self: S) -> None:
            if lacking := self.lacks(rights, needs):
                raise unittest.SkipTest(lacking)
            try:
                self.wait_for(ask(self))
            except AssertionError as error:
                _explain(error)
                raise

        return asked

    return made if ask is None else made(ask)


def same(came: object, expected: object) -> None:
    """Both must be equal. Raises AssertionError that shows them."""
    if came != expected:
        raise AssertionError(f"{_shown(expected)} was expected; {_shown(came)} came")


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}... ({len(text)} characters)"


def _told(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


def _explain(error: AssertionError) -> None:
    """A bare `assert` says nothing outside of pytest: give it its line, and what the names in it stand for."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    if trace is None or str(error):
        return
    line = linecache.getline(trace.tb_frame.f_code.co_filename, trace.tb_lineno).strip()
    known = {name: value for name, value in trace.tb_frame.f_locals.items() if name in line and name != "self"}
    error.args = (f"{line}; " + ", ".join(f"{name} is {_shown(value)}" for name, value in known.items()),)


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
