"""`mailhub plugins`: what was found where, how it does, and having an edited file run anew."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Sequence
from contextlib import redirect_stdout
from typing import Any

import attrs

from mailhub.cli.outcome import complain, plain, show
from mailhub.config.settings import Config, load
from mailhub.control import PATIENCE, ask
from mailhub.data_folder import DataFolder
from mailhub.errors import ConfigurationError
from mailhub.plugin_list import Row, listing
from mailhub.plugin_modules import LOAD_SECONDS
from mailhub.plugin_trial import look_over, watched
from mailhub.plugins import load_catalogue
from mailhub.reload import Reading, reading_of

_HEAD = ("STATE", "KIND", "NAME", "CALLS", "ERRORS", "TIMEOUTS", "BLOCKED", "MEAN", "SLOWEST", "FILE")
_NUMBERS = slice(3, 9)


def add_parser(commands: Any) -> None:
    """The grammar of this command."""
    group = commands.add_parser(
        "plugins",
        help="list and look over plugins, have an edited one run anew",
        description="Plugins are Python files in the folders of `plugins` in the configuration, and in twisted/plugins "
        "of installed packages. What one makes counts where the configuration names it.",
    )
    actions = group.add_subparsers(metavar="ACTION", required=True)

    show = actions.add_parser(
        "list",
        help="what was found, in which file, and how it does",
        description="One line a component: state, kind, name, calls, errors, time-outs, how often it blocked the "
        "server, mean and slowest latency (milliseconds), file. Those of the running server; of the files, where none "
        "runs. Then a line for each file that cannot be used.",
    )
    show.add_argument("--json", action="store_true", help="an array of objects, for programs")
    show.set_defaults(run=_list)

    check = actions.add_parser(
        "check",
        help="run all plugin files, build nothing; exit status 1 when one cannot be used",
        description="Runs all plugin files in a process of its own and compares what they make with the configuration. "
        "Nothing is built, and the server is not asked.",
    )
    check.set_defaults(run=_check)

    again = actions.add_parser(
        "reload",
        help="have the running server run an edited plugin file anew",
        description="Has the running server run one plugin file anew if it has changed, and build what it makes. "
        "Sessions go on with what they began with. A file with a mistake changes nothing; the exit status is 1 then.",
    )
    again.add_argument(
        "name", metavar="NAME", help="a plugin file, or what one makes, as `mailhub plugins list` has it"
    )
    again.set_defaults(run=_reload)


# --- list ---------------------------------------------------------------------------------------------------------


def _list(arguments: argparse.Namespace) -> None:
    config = load(arguments.config)
    process = DataFolder(config.data).server()
    rows = _here(config) if process is None else _of_server(config)
    if arguments.json:
        print(json.dumps([attrs.asdict(row) for row in rows], indent=1))
        return
    lines = [_HEAD, *(_cells(row) for row in rows if row.kind)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for cells in lines:
        print(_line(cells, widths))
    for row in rows:
        if row.why:
            print(plain(f"{row.state}: {row.why}" if row.state == "broken" else f"{row.file}: {row.why}"))
    if process is None:
        print(f"no server serves {config.data}: this is what the files say")


def _here(config: Config) -> list[Row]:
    # What a plugin prints when it is run is not part of the answer.
    with redirect_stdout(sys.stderr), watched(config.value(LOAD_SECONDS), complain):
        return listing(load_catalogue(config.plugins), config)


def _of_server(config: Config) -> list[Row]:
    answer = ask(config.data, {"plugins": "list"})
    try:
        return [Row(**row) for row in answer["rows"]]
    except (KeyError, TypeError):
        raise ConfigurationError("the server is another version than this command: restart it") from None


def _cells(row: Row) -> Sequence[str]:
    name = row.name if row.name == row.type else f"{row.name} ({row.type})"
    counts = ["" if count is None else str(count) for count in (row.calls, row.errors, row.timeouts, row.blocked)]
    times = ["" if time is None else f"{time:.3f}" for time in (row.mean_ms, row.slowest_ms)]
    return [row.state, row.kind, name, *counts, *times, row.file]


def _line(cells: Iterable[str], widths: Sequence[int]) -> str:
    numbers = range(*_NUMBERS.indices(len(widths)))
    padded = [
        cell.rjust(width) if index in numbers else cell.ljust(width)
        for index, (cell, width) in enumerate(zip(cells, widths, strict=True))
    ]
    return plain("  ".join(padded).rstrip().replace("\n", "?"))


# --- check --------------------------------------------------------------------------------------------------------


def _check(arguments: argparse.Namespace) -> int:
    config = load(arguments.config)
    found = look_over(config)
    sys.stderr.write(found.printed)
    for line in found.faults:
        print(plain(f"problem  {line}"))
    for line in found.idle:
        print(plain(f"note     {line}"))
    if found.faults:
        print(f"{len(found.faults)} to mend", file=sys.stderr)
        return 1
    print(f"ok       {found.components} components in {found.files} files")
    return 0


# --- reload -------------------------------------------------------------------------------------------------------


def _reload(arguments: argparse.Namespace) -> int:
    config = load(arguments.config)
    process = DataFolder(config.data).server()
    if process is None:
        raise ConfigurationError(f"no server serves {config.data}; plugin files are run when it starts")
    patience = PATIENCE + config.value(LOAD_SECONDS)
    answer = ask(config.data, {"plugins": "reload", "name": arguments.name}, patience)
    outcome = _outcome(answer)
    if outcome.fault:
        raise ConfigurationError(f"nothing has changed: {outcome.fault}")
    said = "nothing has changed: the file is what has run"
    if outcome.changed:
        said = f"process {process} has run anew: {', '.join(outcome.changed)}\nnew sessions have it, old ones go on"
    show(said, outcome.lasting, outcome.warnings)
    return 0


def _outcome(answer: Any) -> Reading:
    try:
        return reading_of(answer["reading"])
    except (KeyError, TypeError, ValueError):
        raise ConfigurationError("the server is another version than this command: restart it") from None
