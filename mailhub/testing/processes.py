"""Programs that are played: what a plugin runs, without running anything."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs
from twisted.internet.defer import TimeoutError as DeferredTimeout
from twisted.internet.interfaces import IReactorTime
from zope.interface import implementer

from mailhub.answers import in_time
from mailhub.interfaces import Ended, IBlobReader, IProcesses
from mailhub.net.processes import STDERR_LIMIT, cannot, too_much, too_slow


@attrs.frozen
class Call:
    """What a program was run with."""

    arguments: tuple[str, ...]
    stdin: bytes
    environment: Mapping[str, str]
    folder: Path | None
    user: str | None = None


@implementer(IProcesses)
class PlayedProcesses:
    """`IProcesses` for tests: a program is a function of its `Call` that gives an `Ended`, or its output, or a Deferred
    or coroutine of either. `calls` has all that was run.

        internet.processes.add("spamc", lambda call: Ended(0, b"X-Spam: no\\r\\n" + call.stdin))

    `otherwise` runs those that were not added; without it there are no others.
    """

    otherwise: Callable[[Call], Any] | None = None

    def __init__(self, clock: IReactorTime) -> None:
        self.calls: list[Call] = []
        self._clock = clock
        self._programs: dict[str, Callable[[Call], Any]] = {}

    def add(self, name: str, program: Callable[[Call], Any]) -> None:
        """Have this program run where a plugin runs `name`, which is the first argument as the plugin gives it."""
        self._programs[name] = program

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
        name = arguments[0]
        program = self._programs.get(name, self.otherwise)
        if program is None:
            raise cannot(arguments, FileNotFoundError("there is no such program"))
        octets = stdin if isinstance(stdin, bytes) else await stdin.read()
        call = Call(tuple(arguments), octets, dict(environment or {}), folder, user)
        self.calls.append(call)
        try:
            given = await in_time(self._clock, seconds, program, call)
        except DeferredTimeout as error:
            raise too_slow(Path(name).name, seconds) from error
        ended = given if isinstance(given, Ended) else Ended(0, given)
        if len(ended.stdout) > output_limit:
            raise too_much(Path(name).name, output_limit)
        return attrs.evolve(ended, stderr=ended.stderr[:STDERR_LIMIT])


def spawned(call: Call) -> Ended:
    """The machine's own program, waited for: for an examination, in which nobody else is served."""
    try:
        ended = subprocess.run(
            call.arguments, input=call.stdin, capture_output=True, cwd=call.folder, env=dict(call.environment) or None
        )
    except OSError as error:
        raise cannot(call.arguments, error) from error
    return Ended(ended.returncode, ended.stdout, ended.stderr)
