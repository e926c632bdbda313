"""Plugin files are tried in a child process before a server runs them in itself: one that never ends, or that ends the
process it runs in, does so there, and is named.

The child is this module as a program. It notes in a file which plugin file it is in, so that whoever waits knows it
also when nothing more comes of the child.
"""

from __future__ import annotations

import json
import math
import os
import resource
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import attrs

from mailhub.config.settings import Config, load
from mailhub.errors import ConfigurationError, TemporaryError
from mailhub.interfaces import IProcesses
from mailhub.plugin_files import find
from mailhub.plugin_list import faults, idle
from mailhub.plugin_modules import LOAD_SECONDS, MODULES
from mailhub.plugins import load_catalogue

SLOW_SECONDS = 5.0  # until a file is named at start that still runs
_PYTHON_SECONDS = 20.0  # for the child to begin, on a busy machine
_PRINTED_LIMIT = 64 << 10  # octets of what files print
_LATE = (-signal.SIGALRM, -signal.SIGXCPU)


@attrs.frozen
class Looked:
    """What a look at all plugin files has found: a line for each fault, and for each file that is no use; how many
    components and files there are, and what the files have printed."""

    faults: tuple[str, ...]
    idle: tuple[str, ...] = ()
    components: int = 0
    files: int = 0
    printed: str = ""


async def try_out(processes: IProcesses, folders: Sequence[Path], again: str | None, seconds: float) -> None:
    """Run in a child what `load_catalogue` of these would run now. Raises ConfigurationError for a file that does not
    end within `seconds`, all of them together, or that ends its process. What else they raise is no concern here."""
    names = MODULES.waiting(find(folders).files, None if again is None else {again})
    if not names:
        return
    task = {"folders": list(map(str, folders)), "names": sorted(names), "seconds": seconds}
    with TemporaryDirectory(prefix="mailhub-plugins-") as folder:
        report = Path(folder, "report")
        status, said = None, ""
        try:
            ended = await processes.run(
                _command(task, report), seconds=seconds + _PYTHON_SECONDS, environment=_environment()
            )
            status, said = ended.status, ended.stderr.decode(errors="replace")
        except TemporaryError as error:
            said = error.detail or error.text
        _outcome(report, status, seconds, said)


def look_over(config: Config) -> Looked:
    """Run all plugin files in a child, and compare what they make with the configuration. Blocks."""
    seconds = float(config.value(LOAD_SECONDS))
    task = {"config": str(config.file), "seconds": seconds}
    with TemporaryDirectory(prefix="mailhub-plugins-") as folder:
        report, printed = Path(folder, "report"), Path(folder, "printed")
        status = None
        with printed.open("wb") as output, suppress(subprocess.TimeoutExpired):
            status = subprocess.run(
                _command(task, report),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=_environment(),
                timeout=seconds + _PYTHON_SECONDS,
                check=False,
            ).returncode
        with printed.open("rb") as file:
            said = file.read(_PRINTED_LIMIT).decode(errors="replace")
        try:
            given = _outcome(report, status, seconds, said)
        except ConfigurationError as error:
            return Looked((str(error),), printed=said)
    return Looked(tuple(given["faults"]), tuple(given["idle"]), given["components"], given["files"], said)


def _command(task: Mapping[str, Any], report: Path) -> list[str]:
    return [sys.executable, "-P", "-m", "mailhub.plugin_trial", str(report), json.dumps(task)]


def _environment() -> dict[str, str]:
    """Ours: files may look for what they need in it. Modules are found where we find them."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join(os.path.abspath(each) for each in sys.path)}


def _outcome(report: Path, status: int | None, seconds: float, said: str) -> Mapping[str, Any]:
    """What the child has reported. Raises ConfigurationError that says how it has ended before. `status` is None where
    it was killed."""
    file: str | None = None
    with suppress(OSError, ValueError):
        for line in report.read_text().splitlines():
            given = json.loads(line)
            if given.get("done"):
                return dict(given)
            file = given["file"]
    if file is None:
        last = said.strip().rpartition("\n")[2] or f"status {status}"
        raise ConfigurationError(f"plugin files cannot be tried in a process of their own: {last}")
    where = file or "plugin files"
    if status is None or status in _LATE:
        raise ConfigurationError(f"{where}: has not ended within {seconds:g} seconds")
    how = f"by {signal.Signals(-status).name}" if status < 0 else f"with status {status}"
    raise ConfigurationError(f"{where}: has ended, {how}, the process that it was tried in")


# --- Where files run in this process -------------------------------------------------------------------------------


@contextmanager
def watched(
    seconds: float,
    tell: Callable[[str], object],
    leave: Callable[[int], object] = os._exit,
    slow: float = SLOW_SECONDS,
) -> Iterator[None]:
    """While files run inside, before there is a reactor: `tell` a line that names the file that takes long, and after
    `seconds` one more, and `leave` with status 1. Both are called in another thread."""
    over = threading.Event()

    def watch() -> None:
        if over.wait(min(slow, seconds)):
            return
        tell(f"{_running()}: runs longer than {min(slow, seconds):g} seconds")
        if not over.wait(max(0.0, seconds - slow)):
            tell(f"{_running()}: has not ended within {seconds:g} seconds ([limits] {LOAD_SECONDS.name})")
            leave(1)

    thread = threading.Thread(target=watch, name="plugin files", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _running() -> str:
    running = MODULES.running
    return str(running[-1]) if running else "plugin files"


# --- The child -----------------------------------------------------------------------------------------------------


def main(report: str, text: str) -> None:
    """Do a task, and end the process."""
    task = json.loads(text)
    # What files print is no part of an answer.
    os.dup2(2, 1)
    with open(report, "a", buffering=1) as file:

        def note(**given: Any) -> None:
            file.write(json.dumps(given) + "\n")

        MODULES.noted = lambda path: note(file=str(path or ""))
        _limit(task["seconds"])
        note(file="")
        status = 0
        try:
            note(done=True, **_done(task))
        except BaseException:
            traceback.print_exc()
            status = 1
        for stream in (sys.stdout, sys.stderr):
            with suppress(Exception):
                stream.flush()
    # Threads that a file has started wait for nobody.
    os._exit(status)


def _limit(seconds: float) -> None:
    """Whatever it does, and though nobody waits for it any more, it ends."""
    for kind, limit in (
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_CPU, math.ceil(time.process_time() + seconds)),
    ):
        _, most = resource.getrlimit(kind)
        resource.setrlimit(kind, (limit if most == resource.RLIM_INFINITY else min(limit, most), most))
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_REAL, seconds)


def _done(task: Mapping[str, Any]) -> dict[str, Any]:
    if "config" in task:
        config = load(Path(task["config"]))
        catalogue = load_catalogue(config.plugins)
        found = faults(catalogue, config)
        counts = {"components": len(catalogue.factories), "files": len(catalogue.files)}
        return {"faults": found, "idle": idle(catalogue), **counts}
    load_catalogue(map(Path, task["folders"]), only=task["names"])
    return {}


if __name__ == "__main__":
    main(*sys.argv[1:])
