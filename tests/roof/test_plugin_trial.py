"""Files that would keep or end the process that runs them: found in a child, before the server runs them."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from zope.interface import implementer

from mailhub.cli.offline import wait
from mailhub.errors import ConfigurationError, TemporaryError
from mailhub.interfaces import Ended, IBlobReader, IProcesses
from mailhub.plugin_modules import MODULES
from mailhub.plugin_trial import try_out, watched
from mailhub.plugins import load_catalogue
from mailhub.reload import Reading, Reloader
from tests.roof.test_reload_plugins import Stage, forget, staged

TOP = 'hostname = "mx.xx.example"\ndata = "data"\nplugins = ["plugins"]\n[listen]\nlmtp = ["tcp:0"]\n'
USED = '[delivery]\npolicies = ["quiet"]\n'
LATE = "has not ended within 0.2 seconds"


@implementer(IProcesses)
class Waiting:
    """Real programs, waited for; `runs` counts them. `seconds` is how long files are tried."""

    def __init__(self) -> None:
        self.runs = 0
        self.seconds = 50.0

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
        self.runs += 1
        ended = subprocess.run(arguments, capture_output=True, env=dict(environment or {}), timeout=60, check=False)
        return Ended(ended.returncode, ended.stdout, ended.stderr)


@pytest.fixture
def processes() -> Waiting:
    return Waiting()


@pytest.fixture
def stage(tmp_path: Path, processes: Waiting) -> Iterator[Stage]:
    made = staged(tmp_path, TOP + USED, quiet="one")

    async def trial(folders: tuple[Path, ...], again: str | None, seconds: float) -> None:
        await try_out(processes, folders, again, processes.seconds)

    made.reloader = Reloader(made.hub, load_catalogue, lambda: None, made.outcomes.append, trial=trial)
    made.reloader.ready()
    yield made
    forget()


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("while True: pass\n", LATE),
        ("import signal\nwhile True: signal.pause()\n", LATE),
        ("import re\nre.match('(a|a)*b', 'a' * 100)\n", LATE),
        ("try:\n    while True: pass\nexcept BaseException:\n    pass\n", LATE),
        ("import os\nos._exit(0)\n", "has ended, with status 0, the process that it was tried in"),
        ("import os\nos._exit(5)\n", "has ended, with status 5, the process that it was tried in"),
        ("import os, signal\nos.kill(os.getpid(), signal.SIGSEGV)\n", "by SIGSEGV, the process"),
        ("class Odd:\n    @property\n    def __class__(self):\n        while True: pass\nodd = Odd()\n", LATE),
    ],
    ids=["loop", "wait", "regex", "caught", "exit-0", "exit-5", "signal", "looked-at"],
)
def test_the_server_does_not_run_what_did_not_end_well_in_a_child(
    stage: Stage, processes: Waiting, text: str, fault: str
) -> None:
    if fault == LATE:
        processes.seconds = 0.2
    file = stage.write(text)
    outcome = stage.reload_plugin("quiet")
    assert outcome.fault.startswith(f"{file}: ")
    assert fault in outcome.fault
    assert stage.said() == "one"


def test_it_is_so_for_a_whole_reload_and_for_a_file_that_nothing_names(stage: Stage) -> None:
    stage.write("two")
    file = stage.write("import os\nos._exit(3)\n", "other")
    fault = f"{file}: has ended, with status 3, the process that it was tried in"
    assert stage.reload().fault == fault
    assert stage.said() == "one"
    # Another file alone is not kept from it, though this one would be run with it for being new.
    file.unlink()
    assert not stage.reload().fault
    assert stage.said() == "two"


def test_what_is_imported_beside_it_is_named(stage: Stage) -> None:
    package = stage.folder / "plugins" / "inner"
    package.mkdir()
    (package / "__init__.py").write_text("from . import deep\n")
    (package / "deep.py").write_text("import os\nos._exit(1)\n")
    assert stage.reload().fault.startswith(f"{package}/deep.py: has ended, with status 1")


def test_nothing_is_tried_where_nothing_would_run(stage: Stage, processes: Waiting) -> None:
    assert not stage.reload().fault
    before = processes.runs
    assert not stage.reload().fault
    assert processes.runs == before
    stage.write("two")
    assert not stage.reload().fault
    assert (stage.said(), processes.runs) == ("two", before + 1)


def test_what_a_file_raises_or_prints_is_for_the_server_to_tell(stage: Stage) -> None:
    file = stage.write("print('x' * 70000)\n1/0\n")
    assert f"{file}: ZeroDivisionError" in stage.reload_plugin("quiet").fault
    stage.write("import threading\nthreading.Thread(target=threading.Event().wait).start()\nraise KeyboardInterrupt\n")
    names = sorted(MODULES.waiting({"twisted.plugins.quiet_plugin": file}))
    assert names == ["twisted.plugins.quiet_plugin"]
    tried = Waiting()
    wait(try_out(tried, [file.parent], names[0], 50))
    assert tried.runs == 1


def test_a_child_that_cannot_be_had_changes_nothing(stage: Stage) -> None:
    class None_(Waiting):
        async def run(self, *_: Any, **__: Any) -> Ended:
            raise TemporaryError(detail="python cannot be run: no room")

    stage.write("two")
    with pytest.raises(ConfigurationError, match="cannot be tried in a process of their own: python cannot be run"):
        wait(try_out(None_(), [stage.folder / "plugins"], None, 50))


def test_the_limit_is_that_of_the_configuration(stage: Stage) -> None:
    tried: list[object] = []

    async def trial(*given: object) -> None:
        tried.append(given)

    reloader = Reloader(stage.hub, load_catalogue, lambda: None, stage.outcomes.append, trial=trial)
    reloader.ready()
    (stage.folder / "m.toml").write_text(TOP + USED + "[limits]\nplugin_load_seconds = 7\n")
    reloader.ask()
    reloader.ask_plugin("quiet")
    folders = (stage.folder / "plugins",)
    assert tried == [(folders, None, 7), (folders, "twisted.plugins.quiet_plugin", 7)]


def test_a_server_that_stops_does_not_wait_for_a_trial(stage: Stage) -> None:
    cancelled: list[object] = []
    under_way: Deferred[None] = Deferred(cancelled.append)

    async def trial(*_: object) -> None:
        await under_way

    reloader = Reloader(stage.hub, load_catalogue, lambda: None, stage.outcomes.append, trial=trial)
    reloader.ready()
    answers: list[Reading] = []
    reloader.ask_plugin("quiet").addCallback(answers.append)
    assert answers == []
    reloader.stop()
    assert cancelled == [under_way]
    assert [answer.fault for answer in answers] == ["the server is stopping"]


def test_a_file_that_takes_long_at_start_is_named_and_so_is_one_that_never_ends(tmp_path: Path) -> None:
    lines: list[str] = []
    left: list[int] = []
    gone = threading.Event()

    def leave(status: int) -> None:
        left.append(status)
        gone.set()

    with MODULES.at(tmp_path / "slow.py"), watched(0.002, lines.append, leave, slow=0.001):
        assert gone.wait(10)
    assert left == [1]
    assert lines == [
        f"{tmp_path}/slow.py: runs longer than 0.001 seconds",
        f"{tmp_path}/slow.py: has not ended within 0.002 seconds ([limits] plugin_load_seconds)",
    ]
    with watched(1000, lines.append, leave):
        pass
    assert (len(lines), left) == (2, [1])


def test_a_start_that_would_never_end_ends_with_a_line(tmp_path: Path) -> None:
    (tmp_path / "endless.py").write_text("while True: pass\n")
    program = (
        "from pathlib import Path\n"
        "from mailhub.cli.outcome import complain\n"
        "from mailhub.plugin_trial import watched\n"
        "from mailhub.plugins import load_catalogue\n"
        "load_catalogue()\n"
        f"with watched(0.1, complain, slow=0.05): load_catalogue([Path({str(tmp_path)!r})])"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 1
    assert ended.stderr.splitlines()[-2:] == [
        f"mailhub: {tmp_path}/endless.py: runs longer than 0.05 seconds",
        f"mailhub: {tmp_path}/endless.py: has not ended within 0.1 seconds ([limits] plugin_load_seconds)",
    ]
