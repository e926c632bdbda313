"""Programs of the operating system: the real ones, and those that are played."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.process import reapAllProcesses
from twisted.internet.selectreactor import SelectReactor
from twisted.internet.task import Clock
from zope.interface.verify import verifyObject

from mailhub.errors import Busy, MailError, TemporaryError
from mailhub.interfaces import Ended, IProcesses, NoProcesses
from mailhub.net import processes as real
from mailhub.net.processes import STDERR_LIMIT, ReactorProcesses
from mailhub.store.octets import OctetsReader
from mailhub.testing.processes import PlayedProcesses

Turn = Callable[[], object]


class Rig:
    """A reactor that is turned by hand."""

    def __init__(self) -> None:
        self.reactor: Any = SelectReactor()
        self.processes = ReactorProcesses(self.reactor, self.reactor, 2)

    def start(self, code: str, *more: str, **options: Any) -> Deferred[Ended]:
        return Deferred.fromCoroutine(self.processes.run([sys.executable, "-c", code, *more], **options))

    def until(self, condition: Callable[[], bool]) -> None:
        end = self.reactor.seconds() + 30
        while not condition():
            assert self.reactor.seconds() < end, "it never ended"
            self.reactor.iterate(0.02)
            reapAllProcesses()

    def outcome(self, running: Deferred[Ended]) -> Any:
        results: list[Any] = []
        running.addBoth(results.append)
        self.until(lambda: bool(results))
        return getattr(results[0], "value", results[0])

    def run(self, code: str, *more: str, **options: Any) -> Any:
        return self.outcome(self.start(code, *more, **options))


@pytest.fixture
def rig() -> Iterator[Rig]:
    made = Rig()
    yield made
    made.reactor.removeAll()
    for call in made.reactor.getDelayedCalls():
        call.cancel()


ECHO = "import sys; data = sys.stdin.buffer.read(); sys.stdout.buffer.write(data); sys.stderr.write(sys.argv[1])"


def test_all_keep_the_contract(rig: Rig) -> None:
    for each in (rig.processes, PlayedProcesses(Clock()), NoProcesses()):
        assert verifyObject(IProcesses, each)


def test_a_program_gets_its_input_and_gives_its_output(rig: Rig) -> None:
    assert rig.run(ECHO, "*; $HOME", stdin=b"hello\r\n") == Ended(0, b"hello\r\n", b"*; $HOME")


def test_a_body_is_fed_as_it_is_read(rig: Rig) -> None:
    octets = bytes(range(256)) * 4096
    assert rig.run(ECHO, "", stdin=OctetsReader(octets), output_limit=len(octets)).stdout == octets
    assert rig.run(ECHO, "", stdin=OctetsReader(b"")) == Ended(0)


def test_how_it_ended_is_told(rig: Rig) -> None:
    assert rig.run(f"import sys; sys.exit({os.EX_TEMPFAIL})").status == os.EX_TEMPFAIL
    assert rig.run("import os; os.kill(os.getpid(), 15)").status == -signal.SIGTERM


def test_who_does_not_read_its_input_ends_as_it_likes(rig: Rig) -> None:
    many = b"x" * (1 << 20)
    assert rig.run("pass", stdin=many) == Ended(0)
    assert rig.run("pass", stdin=OctetsReader(many)) == Ended(0)


def test_too_long_and_too_much_is_killed(rig: Rig) -> None:
    stay = "import signal; signal.pause()"
    said = str(rig.run(stay, seconds=0.2))
    assert said.endswith("was killed after 0.2 seconds)")
    flood = "import sys\nwhile True: sys.stdout.write('x' * 65536)"
    error = rig.run(flood, output_limit=1000)
    assert isinstance(error, TemporaryError)
    assert str(error).endswith("was killed, it wrote more than 1000 octets)")
    long = rig.run("import sys; sys.stderr.write('x' * 100000)")
    assert (long.status, len(long.stderr)) == (0, STDERR_LIMIT)


def test_its_own_children_do_not_keep_the_answer_back(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(real, "LINGER_SECONDS", 0.1)
    file = tmp_path / "pid"
    code = (
        "import os, signal, subprocess, sys; child = subprocess.Popen([sys.executable, '-c', 'import signal;"
        " signal.pause()']); file = open(sys.argv[1], 'w'); file.write(str(child.pid)); file.close();"
        " print(1, flush=True); os._exit(0) if sys.argv[2] else signal.pause()"
    )
    assert rig.run(code, str(file), "ends").stdout == b"1\n"
    os.kill(int(file.read_text()), signal.SIGKILL)
    assert "was killed, it wrote" in str(rig.run(code, str(file), "", output_limit=1))
    os.kill(int(file.read_text()), signal.SIGKILL)


def test_who_gives_up_has_it_killed_and_others_have_their_turn(rig: Rig) -> None:
    first, second, third = (rig.start("import signal; signal.pause()") for _ in range(3))
    for each in (first, second):
        each.cancel()
        assert isinstance(rig.outcome(each), CancelledError)
    third.cancel()
    assert isinstance(rig.outcome(third), CancelledError)
    assert rig.run("print(1)").stdout == b"1\n"


def test_too_many_in_line_are_refused(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(real, "WAITING", 1)
    running = [rig.start("import sys; sys.stdin.read()") for _ in range(3)]
    assert isinstance(rig.outcome(rig.start("pass")), Busy)
    assert [rig.outcome(each).status for each in running] == [0, 0, 0]


@pytest.mark.parametrize(
    "arguments", [["/nonexistent/program"], ["no-such-program"], [], "ls", ["ls", "a\0b"], ["ls", 7], ["."]]
)
def test_what_cannot_be_run_is_a_temporary_error(rig: Rig, arguments: Any) -> None:
    error = rig.outcome(Deferred.fromCoroutine(rig.processes.run(arguments)))
    assert isinstance(error, TemporaryError)
    assert "cannot be run" in str(error)


def test_a_folder_that_is_not_there_is_told(rig: Rig, tmp_path: Path) -> None:
    where = "import os; print(os.getcwd())"
    assert rig.run(where, folder=tmp_path).stdout.decode().strip() == os.path.realpath(tmp_path)
    assert "NotADirectoryError" in str(rig.run(where, folder=tmp_path / "gone"))


def test_it_gets_nothing_of_our_environment_but_the_path(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET", "x")
    shown = rig.run("import os; print(sorted(os.environ))", environment={"EXTRA": "1"}).stdout.decode()
    assert "SECRET" not in shown
    assert "EXTRA" in shown
    assert "PATH" in shown


def test_a_body_that_cannot_be_read_ends_it(rig: Rig) -> None:
    class Damaged(OctetsReader):
        async def read(self, offset: int = 0, length: int = -1) -> bytes:
            raise MailError("damaged")

    assert str(rig.run(ECHO, "", stdin=Damaged(b"x"))).startswith(str(MailError("damaged")))


def test_a_played_program_answers_in_its_own_time() -> None:
    clock = Clock()
    played = PlayedProcesses(clock)
    results: list[Any] = []

    def start(name: str, **options: Any) -> None:
        results.clear()
        running = Deferred.fromCoroutine(played.run([name, "x"], b"in", **options))
        running.addBoth(lambda result: results.append(getattr(result, "value", result)))

    played.add("upper", lambda call: call.stdin.upper())
    start("upper")
    assert results == [Ended(0, b"IN")]
    assert [(call.arguments, call.stdin) for call in played.calls] == [(("upper", "x"), b"in")]
    start("upper", output_limit=1)
    assert "wrote more than 1 octets" in str(results[0])
    played.add("never", lambda call: Deferred())
    start("never", seconds=5)
    assert results == []
    clock.advance(5)
    assert "was killed after 5 seconds" in str(results[0])
    start("unknown")
    assert isinstance(results[0], TemporaryError)
