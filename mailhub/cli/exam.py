"""`mailhub exam`: has a plugin sit the exam of its kind, in a process of its own."""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

from mailhub.errors import ConfigurationError

_DESCRIPTION = """\
Asks a plugin what its contract promises: a store, checker, directory, policy,
rule, router or agent. One line for each question that is answered otherwise,
with the sentence of the contract. Exit status 1 then.
"""
_NOTES = """\
The component is made as a server makes it, with played surroundings: no mail
leaves the machine, data are in a new folder. What it does itself it does: an
agent that calls a web service calls it, a store that can be written to gets
messages of the exam, which are removed again. {folder} in the value of an
option is a new, empty folder.

examples:
  mailhub exam plugins/my_store.py
  mailhub exam twisted.plugins.my_store --option path={folder}
  mailhub exam my_checker.py --user ann@xx.example --password secret
"""


def add_parser(commands: Any) -> None:
    """The grammar of this command."""
    action = commands.add_parser(
        "exam",
        help="ask a plugin what its contract promises",
        description=_DESCRIPTION,
        epilog=_NOTES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    action.add_argument("target", metavar="MODULE|FILE", help="a plugin file, or a module such as twisted.plugins.mine")
    action.add_argument("--component", metavar="NAME", action="append", default=[], help="this one of the file alone")
    action.add_argument(
        "--option", metavar="KEY=VALUE", action="append", default=[], help="a key of its table; TOML, or text as it is"
    )
    action.add_argument("--options", metavar="FILE", type=Path, help="a TOML file with the keys of its table")
    action.add_argument("--data", metavar="FOLDER", default="", help="files to be copied into the data folder")
    action.add_argument("--user", default="", help="somebody whom a store, checker or directory knows")
    action.add_argument("--password", default="", help="the right password of that user, for a checker")
    action.add_argument("--target", dest="agent_target", default="", help="the target of an agent's routes")
    action.add_argument("--recipient", default="", help="whom an agent can deliver to")
    action.add_argument(
        "--switch", metavar="NAME=VALUE", action="append", default=[], help="of StoreExam, such as has_folders=false"
    )
    action.add_argument("--question", metavar="TEXT", default="", help="only those with this in their names")
    action.add_argument("-v", "--verbose", action="store_true", help="a line for each question")
    action.set_defaults(run=_exam)


def _exam(arguments: argparse.Namespace) -> int:
    named = {
        "data_files": arguments.data,
        "user": arguments.user,
        "password": arguments.password,
        "target": arguments.agent_target,
        "recipient": arguments.recipient,
    }
    with _folder() as top:
        # Whatever is made there goes with it: the process ends at once, and may have been stopped in the middle.
        folder, scratch = top / "folder", top / "tmp"
        folder.mkdir()
        scratch.mkdir()
        task = {
            "target": arguments.target,
            "options": _filled({**_file(arguments.options), **_pairs("option", arguments.option)}, str(folder)),
            "names": arguments.component,
            "switches": {
                **_pairs("switch", arguments.switch),
                **{name: value for name, value in named.items() if value},
            },
            "only": arguments.question,
            "verbose": arguments.verbose,
        }
        command = [sys.executable, "-m", "mailhub.testing.exams", json.dumps(task)]
        status = subprocess.run(command, check=False, env={**os.environ, "TMPDIR": str(scratch)}).returncode
        return status if status in (0, 130) else 1


@contextmanager
def _folder() -> Iterator[Path]:
    """A new folder, which is removed at the end, also where that is a signal's."""

    def ended(number: int, frame: FrameType | None) -> NoReturn:
        raise SystemExit(128 + number)

    before = {number: signal.signal(number, ended) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        with tempfile.TemporaryDirectory(prefix="mailhub-exam-", ignore_cleanup_errors=True) as name:
            yield Path(name)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _file(path: Path | None) -> Mapping[str, Any]:
    if path is None:
        return {}
    try:
        return tomllib.loads(path.read_text())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path}: is not TOML: {error}") from None


def _pairs(option: str, given: list[str]) -> dict[str, Any]:
    found = {}
    for text in given:
        key, equals, value = text.partition("=")
        if not equals or not key:
            raise ConfigurationError(f"--{option} {text}: write KEY=VALUE")
        found[key] = _value(value)
    return found


def _value(text: str) -> Any:
    """As TOML reads it; what is no TOML is text, which needs no quotes so."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except (tomllib.TOMLDecodeError, KeyError):
        return text


def _filled(value: Any, folder: str) -> Any:
    """With a new folder where one is wanted."""
    if isinstance(value, str):
        return value.replace("{folder}", folder)
    if isinstance(value, list):
        return [_filled(each, folder) for each in value]
    if isinstance(value, dict):
        return {key: _filled(each, folder) for key, each in value.items()}
    return value
