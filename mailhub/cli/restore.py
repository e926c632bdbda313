"""`mailhub restore DIR`: brings a backup back, whole or in parts."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from mailhub.cli.backup import counted
from mailhub.cli.confirm import confirmed, yes_option
from mailhub.cli.progress import Bar
from mailhub.config.settings import Config, load
from mailhub.data_folder import DataFolder
from mailhub.errors import ConfigurationError
from mailhub.store.sqlite.restore import occupied, restore

_DESCRIPTION = """\
Brings back what `mailhub backup` wrote to DIR. Without options all of it takes the
place of the data folder's content, which is moved aside and never deleted; the
server has to be stopped for that. With --account, and --mailbox, the messages
that are missing now are added again, also while the server runs.
"""


def add_parser(commands: Any) -> None:
    """The grammar of this command."""
    action = commands.add_parser(
        "restore",
        help="bring a backup back, whole or in parts",
        description=_DESCRIPTION,
    )
    action.add_argument("folder", metavar="DIR", type=Path, help="what `mailhub backup` wrote")
    yes_option(action)
    action.set_defaults(run=_restore)


def _restore(arguments: argparse.Namespace) -> int:
    config = load(arguments.config)
    return _whole(arguments, config, arguments.folder.absolute())


def _whole(arguments: argparse.Namespace, config: Config, folder: Path) -> int:
    config.data.mkdir(mode=0o700, parents=True, exist_ok=True)
    server = DataFolder(config.data)
    if (process := server.server()) is not None:
        raise ConfigurationError(
            f"the server (process {process or 'unknown'}) is running: stop it first, or name an --account"
        )
    server.lock()
    bar = Bar()
    try:
        question = f"Put the backup in the place of {config.data}? What is there now is moved aside."
        if occupied(config.data) and not confirmed(arguments, question):
            return 1
        restored = restore(folder, config.data, bar)
    finally:
        bar.end()
        server.unlock()
    print(
        f"restored {counted(restored.accounts, 'account')} with {counted(restored.messages, 'message')} from {folder}"
    )
    if restored.aside is not None:
        print(f"what was there before is in {restored.aside}")
    if restored.queued:
        waited = counted(restored.queued, "message")
        print(
            f"{waited} waited to be sent when the backup was made, and will be sent now, perhaps a second time: "
            "look at `mailhub queue list` before the start"
        )
    for name in restored.missing:
        print(f"mailhub: body {name} is not in the backup; `mailhub check` tells whose it is", file=sys.stderr)
    return 1 if restored.missing else 0
