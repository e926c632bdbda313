"""`mailhub plugins` where no server runs, and what it makes of a server's answers."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest

import twisted.plugins
from mailhub import builtin
from mailhub.cli.offline import environment
from mailhub.components import build_hub
from mailhub.config.settings import ComponentTable, Config, load
from mailhub.data_folder import DataFolder
from mailhub.guard import Health
from mailhub.plugin_list import Row, listing, parts
from mailhub.plugins import Catalogue, Component, load_catalogue
from mailhub.reload import Reading
from tests.cli.conftest import Command

QUIET = """\
import attrs
from mailhub.plugins import Component
print("hello")
@attrs.frozen
class Options:
    word: str
class Policy:
    def __init__(self, options, hub): raise RuntimeError("nothing is built")
    def begin(self, origin): ...
quiet = Component("policy", "quiet", Policy, Options)
loud = Component("policy", "loud", Policy)
"""
USED = '[delivery]\npolicies = ["mine"]\n[policy.mine]\ntype = "quiet"\nword = "x"\n'


@pytest.fixture
def folder(config: Config) -> Iterator[Path]:
    """With a plugin file, and a configuration that uses it."""
    folder = config.file.parent / "plugins"
    folder.mkdir()
    (folder / "quiet_plugin.py").write_text(QUIET)
    config.file.write_text(f'plugins = ["plugins"]\n{config.file.read_text()}{USED}')
    yield folder
    for name in ("quiet_plugin", "broken_plugin"):
        sys.modules.pop(f"twisted.plugins.{name}", None)
        vars(twisted.plugins).pop(name, None)


def test_the_list_says_what_was_found_in_which_file_and_what_of_it_is_used(
    mailhub: Command, config: Config, folder: Path
) -> None:
    (folder / "broken_plugin.py").write_text("1/0\n")
    result = mailhub("plugins", "list")
    lines = [" ".join(line.split()) for line in result.out.splitlines()]
    file = folder / "quiet_plugin.py"
    assert lines[0] == "STATE KIND NAME CALLS ERRORS TIMEOUTS BLOCKED MEAN SLOWEST FILE"
    assert f"good policy mine (quiet) {file}" in lines
    assert f"unused policy loud {file}" in lines
    assert any(line.startswith("good router aliases /") for line in lines)
    assert any(line.startswith("unused service imap /") for line in lines)
    assert lines[-2:] == [
        f"broken: {folder}/broken_plugin.py: ZeroDivisionError: division by zero",
        f"no server serves {config.data}: this is what the files say",
    ]
    assert (result.status, result.err) == (0, "hello\n")


def test_what_is_used_is_there_once_and_what_is_ours_and_unused_comes_last(
    mailhub: Command, config: Config, folder: Path
) -> None:
    text = '[transport.out]\nagent = "discard"\nrecipients = ["q.example"]\n'
    config.file.write_text(config.file.read_text() + text)
    rows = [" ".join(line.split()[:4]) for line in mailhub("plugins", "list").out.splitlines()]
    assert [row.startswith("good agent list ") for row in rows if " agent list " in row] == [True]
    assert [row for row in rows if "(discard)" in row or " agent discard " in row] == ["good agent out (discard)"]
    unused = [row for row in rows if row.startswith("unused ")]
    assert unused[0].startswith("unused policy loud ")


def test_a_plugin_with_the_name_of_one_of_ours_is_named_where_its_keys_are_wrong(
    mailhub: Command, config: Config, folder: Path
) -> None:
    file = folder / "quiet_plugin.py"
    file.write_text(f'{QUIET}own = Component("agent", "pipe", Policy)\n')
    config.file.write_text(config.file.read_text() + '[agent.x]\ntype = "pipe"\ncommand = ["sh"]\n')
    result = mailhub("plugins", "check")
    said = f"[agent.x] command: unknown key; known: type ('pipe' is that of {file})"
    assert (result.status, said in result.out) == (1, True), result.out
    assert "pipe" not in "".join(line for line in result.out.splitlines() if "plugins are called" in line)


def test_the_list_for_programs(mailhub: Command, folder: Path) -> None:
    rows = json.loads(mailhub("plugins", "list", "--json").out)
    (mine,) = [row for row in rows if row["name"] == "mine"]
    expected = Row("policy", "mine", "quiet", str(folder / "quiet_plugin.py"), "good")
    assert mine == attrs.asdict(expected)


def test_what_is_missing_is_in_the_list(mailhub: Command, config: Config, folder: Path) -> None:
    config.file.write_text(config.file.read_text().replace('"quiet"', '"quite"'))
    (row,) = [row for row in json.loads(mailhub("plugins", "list", "--json").out) if row["name"] == "mine"]
    assert (row["state"], row["file"]) == ("broken", "")
    assert "there is no policy plugin called 'quite'; did you mean quiet?" in row["why"]


def test_the_list_of_a_server_has_counts_and_names_files_that_have_changed(folder: Path, config: Config) -> None:
    configured = load(config.file)
    catalogue = load_catalogue(configured.plugins)
    health = Health("policy", "mine", "elsewhere", "resting", 7, 5, 1, 2, 0, 1.5, 20.0)
    (folder / "quiet_plugin.py").write_text(QUIET + "\n")
    string = Health("checker", "file", "twisted.cred.strcred", "good", 1, 0, 0, 0, 0, 2.5, 2.5)
    rows = listing(catalogue, configured, [health, string])
    (row,) = [row for row in rows if row.name == "mine"]
    file = str(folder / "quiet_plugin.py")
    why = "has changed since it was run"
    assert row == Row("policy", "mine", "quiet", file, "resting", why, 7, 5, 1, 2, 0, 1.5, 20.0)
    assert Row("checker", "file", "file", "twisted.cred.strcred", "good", "", 1, 0, 0, 0, 0, 2.5, 2.5) in rows


def test_all_is_well(mailhub: Command, folder: Path) -> None:
    result = mailhub("plugins", "check")
    assert result.status == 0
    assert result.out.startswith("ok       ")


def test_a_file_that_makes_nothing_is_named(mailhub: Command, folder: Path) -> None:
    (folder / "forgotten.py").write_text("class Store:\n    pass\n")
    result = mailhub("plugins", "check")
    assert result.status == 0
    note = "makes no component (`Component(kind, name, make)`), so nothing can name it"
    assert result.out.splitlines()[0] == f"note     {folder}/forgotten.py: {note}"


def test_a_file_that_others_import_is_of_use(mailhub: Command, folder: Path) -> None:
    (folder / "words.py").write_text("WORD = 'x'\n")
    (folder / "user.py").write_text("from twisted.plugins.words import WORD\n" + QUIET.replace('"quiet"', '"other"'))
    assert "words.py" not in mailhub("plugins", "check").out


def test_why_a_file_was_not_loaded_again_is_told(folder: Path, config: Config) -> None:
    configured = load(config.file)
    catalogue = load_catalogue(configured.plugins)
    (folder / "quiet_plugin.py").write_text("def f(:\n")
    rows = listing(catalogue, configured, refused={"twisted.plugins.quiet_plugin": "a mistake"})
    (row,) = [row for row in rows if row.name == "mine"]
    assert row.why == "has changed since it was run, and was not loaded again: a mistake"


def test_a_line_for_each_fault(mailhub: Command, config: Config, folder: Path) -> None:
    (folder / "broken_plugin.py").write_text("import sys\nsys.exit(0)\n")
    (folder / "not-one.py").write_text("")
    text = config.file.read_text().replace('word = "x"', "words = 1").replace('["mine"]', '["mine", "loud", "soft"]')
    config.file.write_text(text)
    result = mailhub("plugins", "check")
    ours = {one.name for one in vars(builtin).values() if isinstance(one, Component) and one.kind == "policy"}
    known = f"known: {', '.join(sorted({'loud', 'mine', 'quiet'} | ours))}"
    assert result.status == 1
    assert result.out.splitlines() == [
        f"problem  {folder}/not-one.py: is not run: a plugin file's name is letters, digits and _, without spaces or -",
        f"problem  {folder}/broken_plugin.py: SystemExit: 0",
        f"problem  {config.file}: [policy.mine] words: unknown key; did you mean word? "
        "known: failure, timeout_seconds, type, word",
        f"problem  {config.file}: [delivery] policies: there is no policy plugin called 'soft'; {known}"
        f"; not loaded: {folder}/not-one.py: is not run: a plugin file's name is letters, digits and _, without spaces "
        f"or -; not loaded: {folder}/broken_plugin.py: SystemExit: 0",
    ]
    assert result.err == "hello\n4 to mend\n"


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("while True: pass\n", "has not ended within 5 seconds"),
        ("import os; os._exit(0)\n", "has ended, with status 0, the process that it was tried in"),
        ("import os; os.kill(os.getpid(), 9)\n", "has ended, by SIGKILL, the process that it was tried in"),
    ],
)
def test_a_file_that_would_keep_or_end_the_process_is_named(
    mailhub: Command, config: Config, folder: Path, text: str, fault: str
) -> None:
    (folder / "broken_plugin.py").write_text(text)
    config.file.write_text(f"{config.file.read_text()}[limits]\nplugin_load_seconds = 5\n")
    result = mailhub("plugins", "check")
    assert (result.status, result.out) == (1, f"problem  {folder}/broken_plugin.py: {fault}\n")
    assert result.err == "1 to mend\n"


def test_two_of_one_name_are_a_fault_before_one_is_configured(mailhub: Command, config: Config, folder: Path) -> None:
    file = folder / "quiet_plugin.py"
    file.write_text(f'{QUIET}again = Component("policy", "loud", Policy)\n')
    result = mailhub("plugins", "check")
    assert (result.status, result.out) == (1, f"problem  {file}: 2 policy plugins are called 'loud'\n")


def test_a_checker_of_strcred_is_no_plugin_that_is_missing(mailhub: Command, config: Config, folder: Path) -> None:
    config.file.write_text(config.file.read_text() + '[auth]\ncheckers = ["accounts", "file:/x", "unix", "nosuch"]\n')
    result = mailhub("plugins", "check")
    (line,) = result.out.splitlines()
    assert "there is no checker plugin called 'nosuch'" in line


# --- With a server --------------------------------------------------------------------------------------------------


def test_nothing_to_reload_where_nobody_serves(mailhub: Command, config: Config) -> None:
    result = mailhub("plugins", "reload", "quiet")
    assert (result.status, result.out) == (1, "")
    assert result.err == f"mailhub: no server serves {config.data}; plugin files are run when it starts\n"


@pytest.fixture
def asked(config: Config, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Any]]:
    """Questions to this process, which serves the data folder; the first entry is the answer to all."""
    folder = DataFolder(config.data)
    config.data.mkdir()
    folder.lock()
    questions: list[Any] = [{}]

    def ask(data: Path, question: Any, patience: float = 0) -> Any:
        assert data == config.data
        questions.append(question)
        return questions[0]

    monkeypatch.setattr("mailhub.cli.plugins.ask", ask)
    yield questions
    folder.unlock()


def test_what_the_server_has_run_anew(mailhub: Command, asked: list[Any]) -> None:
    reading = Reading(1, 0.0, "", ("plugin file /x/q.py (policy quiet)",), ("[store]",), ("library\x1b",))
    asked[0] = {"reading": attrs.asdict(reading)}
    result = mailhub("plugins", "reload", "quiet")
    assert asked[1:] == [{"plugins": "reload", "name": "quiet"}]
    assert (result.status, result.err) == (0, "warning: library?\n")
    assert result.out == (
        f"process {os.getpid()} has run anew: plugin file /x/q.py (policy quiet)\n"
        "new sessions have it, old ones go on\nneeds a restart: [store]\n"
    )
    asked[0] = {"reading": attrs.asdict(Reading(1, 0.0))}
    assert mailhub("plugins", "reload", "quiet").out == "nothing has changed: the file is what has run\n"


def test_a_mistake_is_one_line_and_status_1(mailhub: Command, asked: list[Any]) -> None:
    asked[0] = {"reading": attrs.asdict(Reading(1, 0.0, "/x/q.py: SyntaxError: no; what ran before goes on"))}
    result = mailhub("plugins", "reload", "quiet")
    assert (result.status, result.out) == (1, "")
    assert result.err == "mailhub: nothing has changed: /x/q.py: SyntaxError: no; what ran before goes on\n"


@pytest.mark.parametrize("words", [["list"], ["reload", "x"]])
@pytest.mark.parametrize("given", [{}, {"rows": [{"x": 1}], "reading": {"fault": 3}}, {"rows": [1], "reading": 1}])
def test_an_answer_that_says_something_else(
    mailhub: Command, asked: list[Any], words: list[str], given: dict[str, Any]
) -> None:
    asked[0] = given
    result = mailhub("plugins", *words)
    assert result.status == 1
    assert result.err == "mailhub: the server is another version than this command: restart it\n"


def test_the_counts_of_the_server_are_shown(mailhub: Command, asked: list[Any]) -> None:
    row = Row("policy", "mine", "quiet", "/x/q.py", "resting", "", 7, 5, 1, 2, 0, 1.5, 20.25)
    idle = Row("policy", "loud", "loud", "/x/q\n.py", "unused")
    asked[0] = {"rows": [attrs.asdict(row), attrs.asdict(idle)]}
    lines = mailhub("plugins", "list").out.splitlines()
    assert [" ".join(line.split()) for line in lines[1:]] == [
        "resting policy mine (quiet) 7 5 1 0 1.500 20.250 /x/q.py",
        "unused policy loud /x/q?.py",
    ]


def test_a_file_that_another_hides_is_in_the_list(mailhub: Command, config: Config, folder: Path) -> None:
    other = config.file.parent / "more"
    other.mkdir()
    (other / "quiet_plugin.py").write_text("1/0\n")
    config.file.write_text(config.file.read_text().replace('["plugins"]', '["plugins", "more"]'))
    (row,) = [row for row in json.loads(mailhub("plugins", "list", "--json").out) if row["state"] == "broken"]
    file = f"{other}/quiet_plugin.py"
    assert row["file"] == file
    assert row["why"] == f"{file}: is not run: {folder}/quiet_plugin.py has the same name"


def test_directories_are_components_as_all_others(mailhub: Command, config: Config, folder: Path) -> None:
    config.file.write_text(config.file.read_text() + '[auth]\ndirectories = ["people"]\n')
    (line,) = mailhub("plugins", "check").out.splitlines()
    assert "[auth] directories: there is no directory plugin called 'people'" in line


def test_the_list_has_all_that_a_hub_is_built_of(config: Config, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = {
        "policy": "class Part:\n    def begin(self, origin): ...\n",
        "rule": "class Part:\n    def apply(self, account, mail, message): ...\n",
        "router": "class Part:\n    def route(self, recipient, transaction): ...\n",
        "directory": "class Part:\n    def exists(self, user): ...\n",
    }
    for kind, text in made.items():
        (folder / f"{kind}_parts.py").write_text(
            f"from mailhub.plugins import Component\n{text}"
            f"x = Component({kind!r}, 'mine', lambda options, hub: Part())\n"
        )
    config.file.write_text(
        'hostname = "mx.xx.example"\ndata = "data"\nplugins = ["plugins"]\n'
        '[delivery]\npolicies = ["mine"]\nrules = ["mine"]\nrouters = ["aliases", "mine"]\n'
        '[auth]\ncheckers = ["accounts"]\ndirectories = ["mine"]\n[listen]\nlmtp = ["tcp:0"]\n'
        '[route."yy.example"]\nagent = "lmtp"\nhost = "h"\n'
    )
    configured = load(config.file)
    catalogue = load_catalogue(configured.plugins)
    built: list[tuple[str, str]] = []
    build = Catalogue.build

    def noted(self: Catalogue, part: ComponentTable, hub: object) -> Any:
        built.append((part.kind, part.name))
        return build(self, part, hub)

    monkeypatch.setattr(Catalogue, "build", noted)
    try:
        build_hub(configured, environment(configured), catalogue)
        assert sorted(built) == sorted((part.kind, part.name) for part in parts(configured, catalogue))
    finally:
        for kind in made:
            sys.modules.pop(f"twisted.plugins.{kind}_parts", None)
            vars(twisted.plugins).pop(f"{kind}_parts", None)
