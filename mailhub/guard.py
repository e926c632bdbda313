"""What stands around every component that the door brings, ours and plugins' alike: a time for each answer, counts, and
a breaker. Whoever calls a component calls it by its guard, and gets an answer or `Unanswered`.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Coroutine, Generator, Iterable, Mapping, Sequence
from types import CoroutineType, MappingProxyType, coroutine
from typing import Any, Literal, TypeVar

import attrs
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import LogLevel
from twisted.python.failure import Failure

from mailhub.answers import Nonsense, cut
from mailhub.errors import MailError, TemporaryError
from mailhub.keys import DAY, limit
from mailhub.log import Logger

_log = Logger(namespace="mailhub.plugins")

T = TypeVar("T")

# What happens without an answer: the client is asked to come again, or all goes on as if the component were not there.
FailMode = Literal["tempfail", "skip"]

# Asked about names that anybody may send: one for which they fail must not put off all others.
# What answers nobody in time rests.
_OF_NAMES = ("checker", "directory")

# What a call is about, for the log: the session, the account, the message.
About = Mapping[str, object]
_NOTHING: About = MappingProxyType({})

_KINDS = ("database", "store", "checker", "directory", "realm", "router", "policy", "rule", "agent", "service")
_FAILED = {kind: f"{kind} failed" for kind in _KINDS}
_TIMED_OUT = {kind: f"{kind} timed out" for kind in _KINDS}


class Unanswered(TemporaryError):
    """A component has given no answer that counts: it raised, gave nonsense, was too slow, or rests. The log has it."""


@attrs.frozen
class GuardLimits:
    """The breaker: after so many failures in a row a component is left alone for so long, and then tried with one
    call."""

    failures: int = limit("plugin_failures", 5, 1, 10_000)
    rest_seconds: float = limit("plugin_rest_seconds", 10, 1, DAY)


@attrs.frozen
class Health:
    """How one component does. `errors`: it raised, or gave nonsense. `rested`: calls that were not made because it
    rests. `blocked`: how often it has kept the whole server waiting (`mailhub.watchdog`). Latencies in milliseconds."""

    kind: str
    name: str
    file: str
    state: Literal["good", "resting"]
    calls: int
    errors: int
    timeouts: int
    rested: int
    blocked: int
    mean_ms: float
    slowest_ms: float


@attrs.define(eq=False)
class Guard:
    """One component. `file` is where it is written; it has `timeout_seconds` for an answer; `failure` is for its
    callers, who carry it out.

    A MailError is an answer. All else that is raised, and no answer in time, is a failure.
    """

    kind: str
    name: str
    file: str
    clock: IReactorTime
    timeout_seconds: float = 30.0
    failure: FailMode = "tempfail"
    limits: GuardLimits = attrs.field(factory=GuardLimits)
    # Whether it rests for being late, too. Of an agent that may be the fault of those to whom it carries mail.
    late_counts: bool = True
    calls: int = attrs.field(init=False, default=0)
    errors: int = attrs.field(init=False, default=0)
    timeouts: int = attrs.field(init=False, default=0)
    rested: int = attrs.field(init=False, default=0)
    blocked: int = attrs.field(init=False, default=0)
    seconds: float = attrs.field(init=False, default=0.0)
    slowest: float = attrs.field(init=False, default=0.0)
    _now: Callable[[], float] = attrs.field(init=False)
    # Failures in a row. Negative: an answer has come after them, which may turn out to be nonsense.
    _row: int = attrs.field(init=False, default=0)
    _rests_until: float | None = attrs.field(init=False, default=None)
    _resting: bool = attrs.field(init=False, default=False)  # the log says so

    def __attrs_post_init__(self) -> None:
        self._now = self.clock.seconds

    def ask(self, method: str, function: Callable[..., Any], *arguments: object) -> Coroutine[Any, Any, Any]:
        """What the component's method gives: a coroutine's or a Deferred's result, or the result itself. Raises
        MailError, of which Unanswered is one.

        What takes too long is cancelled, and whatever it makes of that, an answer that comes later is nobody's.
        """
        return self.ask_about(_NOTHING, method, function, *arguments)

    async def ask_about(
        self,
        about: About,
        method: str,
        function: Callable[..., Any],
        *arguments: object,
        seconds: float | None = None,
        in_any_case: bool = False,
    ) -> Any:
        """As `ask`, with what is told in the log beside it when it fails, perhaps with another time. `in_any_case`: the
        call is made also while it rests, for it is the last one."""
        if self._rests_until is not None and not in_any_case:
            self._refuse_while_resting()
        self.calls += 1
        began = self._now()
        try:
            given = function(*arguments)
            if given is not None and hasattr(type(given), "__await__"):
                asked = given if type(given) is CoroutineType else _awaited(given)
                try:
                    waits_for = asked.send(None)
                except StopIteration as done:
                    given = done.value  # most need no time
                else:
                    allowed = self.timeout_seconds if seconds is None else seconds
                    given = await self._in_time(asked, waits_for, allowed)
        except MailError:
            self._took(began)
            self._answered()
            raise
        except _CalledOff as error:
            raise CancelledError from error
        except _Closed as error:
            raise GeneratorExit from error
        except BaseException as error:
            # sys.exit() would pass by all who keep one connection's mishap from the others.
            self._took(began)
            raise self._failed(about, method, error, max(0, self._row)) from error
        if self._took(began) > self.timeout_seconds and seconds is None:
            # It has kept everybody waiting, and here is the answer.
            self._failed(
                about, method, _TooSlow(f"it answered after {self.timeout_seconds:g} seconds"), max(0, self._row)
            )
        elif self._row:
            self._answered()
        return given

    def within(self, method: str, function: Callable[..., T], *arguments: Any) -> T:
        """Call what does not wait, and raise what it raises; `fault_of_one` is for whoever catches it."""
        self.calls += 1
        began = self._now()
        try:
            return function(*arguments)
        finally:
            self._took(began)

    def fault_of_one(self, method: str, error: BaseException, about: About) -> Unanswered:
        """It has failed one connection. That never makes it rest: what a peer sends shall not end it for others."""
        return self._told(about, method, error)

    def fault(self, method: str, why: str | BaseException, about: About = _NOTHING) -> Unanswered:
        """Its last answer cannot be used, for this reason; to be raised or dropped."""
        return self._failed(about, method, why, abs(self._row))

    def look(self, method: str, take: Callable[[Any], T], given: Any, about: About = _NOTHING) -> T:
        """What `take` makes of its last answer, of which it raises Nonsense where that is none. Raises MailError,
        Unanswered for all that is raised by objects of somebody else's when they are looked at."""
        try:
            return take(given)
        except MailError:
            raise
        except BaseException as error:
            raise self.fault(method, error, about) from error

    def take_over(self, other: Guard) -> None:
        """Go on counting where that one is. Whether it rests does not count: this one may be mended."""
        for name in ("calls", "errors", "timeouts", "rested", "blocked", "seconds", "slowest"):
            setattr(self, name, getattr(other, name))

    @property
    def rests(self) -> bool:
        """Whether the next call is not made."""
        return self._rests_until is not None and self._now() < self._rests_until

    def health(self) -> Health:
        """Its counts, to be shown."""
        return Health(
            self.kind,
            self.name,
            self.file,
            "resting" if self._resting else "good",
            self.calls,
            self.errors,
            self.timeouts,
            self.rested,
            self.blocked,
            self.seconds / self.calls * 1000 if self.calls else 0.0,
            self.slowest * 1000,
        )

    # --- Time -------------------------------------------------------------------------------------------------------

    async def _in_time(self, asked: Coroutine[Any, Any, Any], waits_for: Any, seconds: float) -> Any:
        """What comes of a coroutine that has been begun and waits for something."""
        called_off: list[bool] = []
        # Not the answer itself: a coroutine may go on when it is cancelled.
        waiting: Deferred[Any] = Deferred(lambda _: called_off.append(True))
        answer: Deferred[Any] = Deferred.fromCoroutine(_going_on(asked, waits_for))
        answer.addBoth(lambda result: None if waiting.called else waiting.callback(result))
        timer = self.clock.callLater(seconds, _expire, waiting, seconds)
        try:
            return await waiting
        except CancelledError as error:
            if called_off:
                raise _CalledOff from error
            raise
        except GeneratorExit as error:
            # The component may raise it as well.
            if waiting.called:
                raise
            waiting.addErrback(lambda _: None)  # nobody's
            raise _Closed from error
        finally:
            if timer.active():
                timer.cancel()
            answer.cancel()

    def _took(self, began: float) -> float:
        spent = self._now() - began
        self.seconds += spent
        if spent > self.slowest:
            self.slowest = spent
        return spent

    # --- The breaker ------------------------------------------------------------------------------------------------

    def _refuse_while_resting(self) -> None:
        """Raises Unanswered, but for one call when the rest is over."""
        if self.rests:
            self.rested += 1
            raise Unanswered(detail=f"{self.kind} {self.name} rests after failures")
        self._rests_until = self._now() + self.limits.rest_seconds

    def _answered(self) -> None:
        self._rests_until = None
        self._row = min(0, -self._row)
        if self._resting and not self._row:
            self._resting = False
            _log.event("plugin answers again", self._called())

    def _failed(self, about: About, method: str, why: str | BaseException, before: int) -> Unanswered:
        """`before`: failures in a row up to now."""
        unanswered = self._told(about, method, why)
        late = isinstance(why, _TooSlow)
        if not self.late_counts if late else self.kind in _OF_NAMES:
            return unanswered
        self._row = before + 1
        if self._row >= self.limits.failures:
            self._rest()
        return unanswered

    def _told(self, about: About, method: str, why: str | BaseException) -> Unanswered:
        """Count it, and name it in the log."""
        late = isinstance(why, _TooSlow)
        if late:
            self.timeouts += 1
            reason = str(why)
        else:
            self.errors += 1
            reason = cut(str(why)) if isinstance(why, str | Nonsense) else told(why, self.file)
        fields = {self.kind: self.name, **about, "method": method, "file": self.file, "reason": reason}
        # Where it was raised is for whoever writes it; what is no accident has said enough.
        failure = None if isinstance(why, str | Nonsense | MailError | _TooSlow) else Failure(why)  # type: ignore[no-untyped-call]
        _log.event((_TIMED_OUT if late else _FAILED)[self.kind], fields, LogLevel.error, failure)
        return Unanswered(detail=f"{self.kind} {self.name}: {method}(): {reason}")

    def _rest(self) -> None:
        self._rests_until = self._now() + self.limits.rest_seconds
        if not self._resting:
            self._resting = True
            counts = {"failures": self._row, "seconds": f"{self.limits.rest_seconds:g}"}
            _log.event("plugin rests", {**self._called(), **counts}, LogLevel.error)

    def _called(self) -> dict[str, object]:
        return {"kind": self.kind, "name": self.name, "file": self.file}


class _TooSlow(Exception):
    """No answer in time."""


class _CalledOff(Exception):
    """Whoever waits for the answer wants it no more."""


class _Closed(Exception):
    """The coroutine that waits for the answer is closed."""


def _expire(waiting: Deferred[Any], seconds: float) -> None:
    if not waiting.called:
        waiting.errback(_TooSlow(f"no answer within {seconds:g} seconds"))


async def _awaited(given: Any) -> Any:
    return await given


@coroutine
def _going_on(asked: Coroutine[Any, Any, Any], waits_for: Any) -> Generator[Any, Any, Any]:
    """The rest of a coroutine that waits already."""
    while True:
        try:
            given = yield waits_for
        except GeneratorExit:
            asked.close()
            raise
        except BaseException as error:
            raised: BaseException | None = error
        else:
            raised = None
        try:
            waits_for = asked.send(given) if raised is None else asked.throw(raised)
        except StopIteration as done:
            return done.value


def told(error: BaseException, file: str) -> str:
    """What a component raised and, ` (FILE line N)`, where in its own file it came to the call that raised."""
    lines = [entry.lineno for entry in traceback.extract_tb(error.__traceback__) if entry.filename == file]
    where = f" ({file} line {lines[-1]})" if lines else f" ({file})"
    try:
        text = str.__str__(str(error))
    except BaseException as other:
        text = f"<{type(other).__name__} in str()>"
    return " ".join(f"{type(error).__name__}: {cut(text)}".split()) + where


@attrs.define(eq=False)
class Guards:
    """All guards of a hub."""

    clock: IReactorTime
    limits: GuardLimits = attrs.field(factory=GuardLimits)
    _guards: dict[tuple[str, str], Guard] = attrs.field(init=False, factory=dict)

    def make(
        self,
        kind: str,
        name: str,
        file: str,
        timeout_seconds: float = 30.0,
        failure: FailMode = "tempfail",
        *,
        late_counts: bool = True,
    ) -> Guard:
        """The guard of one component. One of the same kind and name that there was is forgotten."""
        guard = Guard(kind, name, file, self.clock, timeout_seconds, failure, self.limits, late_counts)
        self._guards[kind, name] = guard
        return guard

    def keep(self, guards: Iterable[Guard]) -> None:
        """Those of components that last."""
        for guard in guards:
            guard.limits = self.limits
            self._guards[guard.kind, guard.name] = guard

    def take_over(self, before: Guards) -> None:
        """Go on counting where the guards before these are."""
        for key, guard in self._guards.items():
            other = before._guards.get(key)
            if other is not None and other is not guard and other.file == guard.file:
                guard.take_over(other)

    @property
    def guards(self) -> Sequence[Guard]:
        """As they were made."""
        return tuple(self._guards.values())

    def of(self, kind: str) -> Sequence[Guard]:
        """Those of one kind, as they were made."""
        return [guard for guard in self._guards.values() if guard.kind == kind]

    def all(self) -> Sequence[Health]:
        """How they all do."""
        return [guard.health() for guard in self._guards.values()]
