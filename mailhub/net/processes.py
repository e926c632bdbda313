"""Programs of the operating system, run beside the reactor: `IProcesses` by a reactor that can spawn them."""

from __future__ import annotations

import os
import pwd
import shutil
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred, DeferredSemaphore
from twisted.internet.error import ProcessExitedAlready
from twisted.internet.interfaces import IDelayedCall, IPullProducer, IReactorTime
from twisted.internet.protocol import ProcessProtocol
from twisted.python.failure import Failure
from zope.interface import implementer

from mailhub.errors import Busy, TemporaryError
from mailhub.interfaces import Ended, IBlobReader, IProcesses
from mailhub.keys import Key

PROCESSES = Key("limits", "processes", 10, 1, 1000)  # at the same time
WAITING = 1000  # calls in line for their turn
UNPRIVILEGED = "nobody"  # who runs what root is not to run
STDERR_LIMIT = 64 << 10  # octets; what comes beyond is read and thrown away
CHUNK = 64 << 10  # octets of a body that are read at a time
LINGER_SECONDS = 1.0  # for what a program's own children still write when it has ended


@implementer(IProcesses)
class ReactorProcesses:
    """Programs spawned by a reactor (IReactorProcess), a bounded number at once; the others wait in line."""

    def __init__(self, reactor: Any, clock: IReactorTime, running: int = PROCESSES.default) -> None:
        self._reactor = reactor
        self._clock = clock
        self._slots = DeferredSemaphore(running)

    async def run(
        self,
        arguments: Sequence[str],
        stdin: bytes | IBlobReader = b"",
        *,
        seconds: float = 30.0,
        output_limit: int = 1 << 20,
        environment: Mapping[str, str] | None = None,
        folder: Path | None = None,
        user: str | None = None,
    ) -> Ended:
        """See `IProcesses`."""
        program, variables = find(arguments, environment)
        if folder is not None and not folder.is_dir():
            raise cannot(arguments, NotADirectoryError(str(folder)))
        uid, gid = (None, None) if user is None else numbers_of(arguments, user)
        if len(self._slots.waiting) >= WAITING:
            raise Busy(detail="too many programs are waiting for their turn")
        await self._slots.acquire()
        try:
            run = _Run(Path(program).name, stdin, output_limit, self._clock)
            try:
                self._reactor.spawnProcess(
                    run, program, list(arguments), variables, None if folder is None else str(folder), uid, gid
                )
            except Exception as error:
                raise cannot(arguments, error) from error
            timer = self._clock.callLater(seconds, run.give_up, too_slow(Path(program).name, seconds))
            try:
                return await run.ended
            finally:
                if timer.active():
                    timer.cancel()
        finally:
            self._slots.release()


def find(arguments: Sequence[str], environment: Mapping[str, str] | None) -> tuple[str, dict[str, str]]:
    """A program's file, and its environment: only PATH is ours. Raises TemporaryError."""
    if isinstance(arguments, str) or not arguments or not all(isinstance(each, str) for each in arguments):
        raise cannot(arguments, ValueError("arguments must be a list of strings, the program's name first"))
    if any("\0" in each for each in arguments):
        raise cannot(arguments, ValueError("an argument has NUL in it"))
    variables = {"PATH": os.environ.get("PATH", os.defpath), "LANG": "C.UTF-8", **(environment or {})}
    program = shutil.which(arguments[0], path=variables["PATH"])
    if program is None:
        raise cannot(arguments, FileNotFoundError("there is no such program"))
    return program, variables


def numbers_of(arguments: Sequence[str], user: str) -> tuple[int | None, int | None]:
    """The user and group to become; none where that is our own. Raises TemporaryError."""
    ours = os.geteuid()
    if not user and ours != 0:
        return None, None
    try:
        found = pwd.getpwnam(user or UNPRIVILEGED)
    except KeyError:
        raise cannot(arguments, LookupError(f"there is no user {user or UNPRIVILEGED}")) from None
    if ours == 0:
        return found.pw_uid, found.pw_gid
    if ours != found.pw_uid:
        raise cannot(arguments, PermissionError(f"only root can run it as {user}"))
    return None, None


def cannot(arguments: Sequence[str], error: Exception) -> TemporaryError:
    """It was not started."""
    return TemporaryError(detail=f"{arguments[:1]!r:.100} cannot be run: {type(error).__name__}: {error}")


def too_slow(name: str, seconds: float) -> TemporaryError:
    """It was killed."""
    return TemporaryError(detail=f"{name} was killed after {seconds:g} seconds")


def too_much(name: str, limit: int) -> TemporaryError:
    """It was killed."""
    return TemporaryError(detail=f"{name} was killed, it wrote more than {limit} octets")


class _Run(ProcessProtocol):
    """One program. `ended` has its outcome; cancelled, or given up, the program is killed."""

    def __init__(self, name: str, stdin: bytes | IBlobReader, output_limit: int, clock: IReactorTime) -> None:
        self.ended: Deferred[Ended] = Deferred(lambda _: self._kill())
        self._name = name
        self._stdin = stdin
        self._limit = output_limit
        self._clock = clock
        self._stdout = bytearray()
        self._stderr = bytearray()
        self._status: int | None = None
        self._over = False
        self._lingering: IDelayedCall | None = None

    def connectionMade(self) -> None:
        if isinstance(self._stdin, bytes):
            self._transport.write(self._stdin)
            self._transport.closeStdin()
        else:
            feed = _Feed(self._transport, self._stdin, self.give_up)
            self._transport.registerProducer(feed, False)

    @property
    def _transport(self) -> Any:
        return self.transport

    def outReceived(self, data: bytes) -> None:
        if len(self._stdout) + len(data) > self._limit:
            self.give_up(too_much(self._name, self._limit))
        else:
            self._stdout += data

    def errReceived(self, data: bytes) -> None:
        self._stderr += data[: STDERR_LIMIT - len(self._stderr)]

    def processExited(self, reason: Failure) -> None:
        ended: Any = reason.value
        self._status = -ended.signal if ended.signal else ended.exitCode or 0
        # What it has started may keep the pipes open for good.
        self._lingering = self._clock.callLater(LINGER_SECONDS, self._transport.loseConnection)

    def processEnded(self, reason: Failure) -> None:
        self._over = True
        if self._lingering is not None and self._lingering.active():
            self._lingering.cancel()
        if not self.ended.called:
            assert self._status is not None
            self.ended.callback(Ended(self._status, bytes(self._stdout), bytes(self._stderr)))

    def give_up(self, error: BaseException) -> None:
        """It is killed, and this is why."""
        self._kill()
        if not self.ended.called:
            self.ended.errback(error)

    def _kill(self) -> None:
        if not self._over:
            with suppress(ProcessExitedAlready):
                self._transport.signalProcess("KILL")
            # Its own children may hold the other ends.
            self._transport.loseConnection()


@implementer(IPullProducer)
class _Feed:
    """A body on its way into a program, a piece at a time as the program reads."""

    def __init__(self, transport: Any, body: IBlobReader, failed: Callable[[BaseException], None]) -> None:
        self._transport = transport
        self._body = body
        self._failed = failed
        self._at = 0
        self._reading = False
        self._stopped = False

    def resumeProducing(self) -> None:
        """The program has read what was written."""
        if not (self._reading or self._stopped):
            self._reading = True
            reading = Deferred.fromCoroutine(self._next())
            reading.addErrback(self._fail)

    def _fail(self, failure: Failure) -> None:
        assert failure.value is not None
        self._failed(failure.value)

    def stopProducing(self) -> None:
        """It reads no more: whether that is a failure, its status says."""
        self._stopped = True

    async def _next(self) -> None:
        octets = await self._body.read(self._at, CHUNK)
        self._reading = False
        if self._stopped:
            return
        self._at += len(octets)
        self._transport.write(octets)
        if self._at >= self._body.size or not octets:
            self._stopped = True
            self._transport.unregisterProducer()
            self._transport.closeStdin()
