"""`mailhub backup DIR`: a consistent copy of database and bodies. Works while the server runs."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mailhub.cli.ours import require_ours
from mailhub.cli.progress import Bar
from mailhub.config.settings import load
from mailhub.store.sqlite.backup import backup

_DESCRIPTION = """\
Copies accounts, mail and queue to a folder, as they are at one moment, while the
server goes on; of stores of their own (Maildirs, plugins) the ledgers, in which
their UIDs stand, and not their mail. A folder that has a backup already is brought up to date: large
messages that are there are not copied again. Until all is written and looked
over, the earlier backup stays. `mailhub check --store-only DIR` verifies it,
`mailhub restore DIR` brings it back. Configuration, certificate and key are not
in it: keep copies of these too.
"""


def add_parser(commands: Any) -> None:
    """The grammar of this command."""
    action = commands.add_parser(
        "backup",
        help="copy accounts, mail and queue to a folder",
        description=_DESCRIPTION,
    )
    action.add_argument("folder", metavar="DIR", type=Path, help="a new folder, or one with an earlier backup")
    action.set_defaults(run=_backup)


def octets(number: int) -> str:
    """A size for people: `3.1 MB`."""
    if number < 1000:
        return f"{number} octets"
    size = float(number)
    for unit in ("kB", "MB", "GB", "TB"):
        size /= 1000
        if size < 1000 or unit == "TB":
            break
    return f"{size:.1f} {unit}"


def counted(number: int, what: str) -> str:
    """`1 message`, `2 messages`."""
    plural = f"{what[:-1]}ies" if what.endswith("y") else f"{what}s"
    return f"{number} {what if number == 1 else plural}"


def _backup(arguments: argparse.Namespace) -> int:
    config = load(arguments.config)
    require_ours(config)
    target = arguments.folder.absolute()
    bar = Bar()
    try:
        report = backup(config.data, target, bar)
    finally:
        bar.end()
    print(
        f"backup in {target}: {counted(report.messages, 'message')}, {octets(report.octets)}; of "
        f"{counted(report.bodies, 'large body')} {report.new_bodies} new, {report.removed_bodies} removed"
    )
    for line in report.ledgers:
        print(f"mailhub: {line}", file=sys.stderr)
    return tell_faults(report.missing, report.damaged, config.data) or int(bool(report.ledgers))


def tell_faults(missing: Sequence[str], damaged: Sequence[str], folder: Path) -> int:
    """Say which bodies are not as they were, a line each. Returns the exit status."""
    for names, what in ((missing, "missing"), (damaged, "damaged")):
        for name in names:
            print(
                f"mailhub: body {name} is {what} in {folder}; `mailhub check --deep --store-only {folder}` tells whose",
                file=sys.stderr,
            )
    return 1 if missing or damaged else 0
