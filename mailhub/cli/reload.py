"""`mailhub reload`: has the running server read its configuration again, and says what came of it."""

from __future__ import annotations

import argparse
import os
import signal
import time
from typing import Any

from mailhub.cli.outcome import show
from mailhub.config.settings import load
from mailhub.data_folder import DataFolder
from mailhub.errors import ConfigurationError
from mailhub.plugin_modules import LOAD_SECONDS
from mailhub.reload import Reading, read_answer

_PATIENCE = 60.0  # seconds
_PAUSE = 0.05


def add_parser(commands: Any) -> None:
    """The grammar of this command."""
    action = commands.add_parser(
        "reload",
        help="have the running server read its configuration again",
        description="Has the running server read its configuration, certificates and plugins' tables again, and says "
        "what has changed and what waits for a restart. Sessions go on. A file with a mistake changes nothing; the "
        "exit status is 1 then.",
    )
    action.set_defaults(run=_reload)


def _reload(arguments: argparse.Namespace) -> int:
    try:
        config = load(arguments.config)
    except ConfigurationError as error:
        raise _unchanged(str(error)) from None
    folder = DataFolder(config.data)
    process = folder.server()
    if process is None:
        raise ConfigurationError(
            f"no server serves {config.data}; it reads the configuration when it starts, and `data` only then"
        )
    folder.check_server(process)
    asked = time.monotonic_ns()
    try:
        os.kill(process, signal.SIGHUP)
    except PermissionError:
        raise ConfigurationError(f"the server (process {process}) takes signals from its own user and root") from None
    except ProcessLookupError:
        raise ConfigurationError("the server has just ended") from None
    outcome = _answer(folder, process, asked, _PATIENCE + config.value(LOAD_SECONDS))
    if outcome.fault:
        raise _unchanged(outcome.fault)
    changed = ", ".join(outcome.changed) or "nothing"
    show(f"process {process} has read {config.file}\nchanged: {changed}", outcome.lasting, outcome.warnings)
    return 0


def _unchanged(fault: str) -> ConfigurationError:
    return ConfigurationError(f"nothing has changed: {fault}")


def _answer(folder: DataFolder, process: int, asked: int, patience: float) -> Reading:
    """The outcome of a reading that began after we asked. Raises ConfigurationError when there is none."""
    end = time.monotonic() + patience
    while time.monotonic() < end:
        outcome = read_answer(folder.path)
        if outcome is not None and outcome.began >= asked:
            return outcome
        if folder.server() != process:
            raise ConfigurationError("the server ended before it answered; see its log")
        time.sleep(_PAUSE)
    raise ConfigurationError(f"the server did not answer within {patience:.0f} seconds; see its log")
