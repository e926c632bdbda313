"""Plugin files that are edited while the server runs: new sessions have the new code, and a mistake changes nothing."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest
from twisted.internet.defer import Deferred
from twisted.logger import LogLevel, capturedLogs, formatEvent

import twisted.plugins
from mailhub.cli.offline import environment, wait
from mailhub.components import Hub, build_hub
from mailhub.config.settings import load
from mailhub.errors import ConfigurationError, PermanentError
from mailhub.interfaces import Origin
from mailhub.plugins import load_catalogue
from mailhub.reload import Reading, Reloader

TOP = 'hostname = "mx.xx.example"\ndata = "data"\nplugins = ["plugins"]\n[listen]\nlmtp = ["tcp:0"]\n'
POLICY = """\
from mailhub.interfaces import Verdict
from mailhub.plugins import Component
class Policy:
    def __init__(self, options, hub): ...
    def begin(self, origin): return self
    def hello(self, origin): return Verdict("reject", "5.7.1", {word!r})
{name} = Component("policy", {name!r}, Policy)
"""
BUILDING = POLICY.format(word="x", name="quiet").replace("options, hub): ...", "options, hub): {}")
USED = '[delivery]\npolicies = ["quiet"]\n'


@attrs.define(eq=False)
class Stage:
    """A hub, its file, and a folder of plugin files."""

    folder: Path
    hub: Hub
    outcomes: list[Reading]
    reloader: Reloader

    def write(self, word: str, name: str = "quiet") -> Path:
        file = self.folder / "plugins" / f"{name}_plugin.py"
        file.write_text(POLICY.format(word=word, name=name) if word.isalpha() else word)
        return file

    def reload(self, text: str = TOP + USED) -> Reading:
        (self.folder / "m.toml").write_text(text)
        self.reloader.ask()
        return self.outcomes[-1]

    def reload_plugin(self, name: str) -> Reading:
        answers: list[Reading] = []
        self.reloader.ask_plugin(name).addCallback(answers.append)
        (answer,) = answers
        return answer

    def said(self, pipeline: Any = None) -> str:
        """What a new session is told."""
        with pytest.raises(PermanentError) as told:
            wait(wait((pipeline or self.hub.pipeline).connected(Origin("smtp"))).hello(Origin("smtp")))
        return told.value.text


def staged(folder: Path, text: str, **files: str) -> Stage:
    (folder / "plugins").mkdir()
    for name, word in files.items():
        Stage(folder, None, [], None).write(word, name)  # type: ignore[arg-type]
    (folder / "m.toml").write_text(text)
    config = load(folder / "m.toml")
    hub = build_hub(config, environment(config), load_catalogue(config.plugins))
    outcomes: list[Reading] = []
    reloader = Reloader(hub, load_catalogue, lambda: None, outcomes.append)
    reloader.ready()
    return Stage(folder, hub, outcomes, reloader)


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    yield staged(tmp_path, TOP + USED, quiet="one", other="one")
    forget()


def forget() -> None:
    """The next test has other files of these names."""
    for name in ("quiet_plugin", "other_plugin", "helper_plugin"):
        sys.modules.pop(f"twisted.plugins.{name}", None)
        vars(twisted.plugins).pop(name, None)


def test_a_file_that_was_edited_counts_for_new_sessions(stage: Stage) -> None:
    before = stage.hub.pipeline
    assert stage.said() == "one"
    file = stage.write("two")
    outcome = stage.reload()
    assert (outcome.fault, outcome.changed) == ("", (f"plugin file {file} (policy quiet)",))
    assert (stage.said(), stage.said(before)) == ("two", "one")
    assert stage.reload().changed == ()


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("def f(:\n", "SyntaxError: invalid syntax"),
        ("import sys; sys.exit(0)\n", "SystemExit: 0"),
        (POLICY.format(word="x", name="quiet").replace("'quiet', Policy", "'', Policy"), "name must be a string"),
        (POLICY.format(word="x", name="quite"), "there is no policy plugin called 'quiet'; did you mean quite"),
        (
            POLICY.format(word="x", name="quiet").replace("options, hub): ...", "options, hub): 1/0"),
            "ZeroDivisionError",
        ),
        (POLICY.format(word="x", name="quiet").replace("options, hub): ...", "options, hub): exit()"), "SystemExit"),
        (POLICY.format(word="x", name="quiet").replace("def begin", "def start"), "begin() is missing"),
        (BUILDING.format("raise KeyboardInterrupt"), "KeyboardInterrupt"),
        (BUILDING.format("raise GeneratorExit"), "GeneratorExit"),
        (BUILDING.format("raise type('Odd', (BaseException,), {})('odd')"), "Odd: odd"),
        (BUILDING.format("type(self).begin = property(lambda self: exit('odd'))"), "begin raises SystemExit"),
        (BUILDING.format("type(self).__dir__ = lambda self: exit('odd')"), "SystemExit: odd"),
    ],
    ids=[
        *("syntax", "exit", "factory", "name", "building", "leaving", "methods"),
        *("interrupt", "generator", "base", "property", "dir"),
    ],
)
def test_a_mistake_changes_nothing_and_is_named(stage: Stage, text: str, fault: str) -> None:
    held = [stage.hub.pipeline, stage.hub.catalogue, stage.hub.settings]
    file = stage.write(text)
    stage.write("two", "other")
    with capturedLogs() as events:
        for outcome in (stage.reload(), stage.reload_plugin("quiet"), stage.reload_plugin("quiet_plugin.py")):
            assert fault in outcome.fault
            assert str(file) in outcome.fault or "no policy plugin" in fault
            assert "\n" not in outcome.fault
    assert [stage.hub.pipeline, stage.hub.catalogue, stage.hub.settings] == held
    assert stage.said() == "one"
    errors = [formatEvent(event) for event in events if event["log_level"] is LogLevel.error]
    assert [fault.split("'")[0] in error for error in errors] == [True, True, True]
    # Mended, it is taken.
    stage.write("three")
    assert not stage.reload().fault
    assert stage.said() == "three"


@pytest.mark.parametrize("raised", [KeyError("odd"), KeyboardInterrupt("odd"), GeneratorExit("odd")])
def test_whoever_asks_has_an_answer_whatever_is_raised(
    stage: Stage, raised: BaseException, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise raised

    monkeypatch.setattr(Hub, "adopt", fail)
    stage.write("two")
    fault = f"{type(raised).__name__}: {raised}"
    assert fault in stage.reload().fault
    stage.write("three")
    assert fault in stage.reload_plugin("quiet").fault
    monkeypatch.undo()
    stage.write("four")
    assert not stage.reload().fault
    assert stage.said() == "four"


def test_one_file_alone_is_run_anew_by_its_name_or_what_it_makes(stage: Stage) -> None:
    file = stage.folder / "plugins" / "quiet_plugin.py"
    stage.write("two", "other")
    (stage.folder / "m.toml").write_text("nonsense")
    names = ("quiet", "quiet_plugin", "quiet_plugin.py", str(file), "twisted.plugins.quiet_plugin")
    for number, name in zip(("two", "three", "four", "five", "six"), names, strict=True):
        stage.write(number)
        assert stage.reload_plugin(name).changed == (f"plugin file {file} (policy quiet)",)
        assert stage.said() == number
        assert stage.reload_plugin(name).changed == ()
    assert stage.reload(TOP + USED).changed == (f"plugin file {stage.folder}/plugins/other_plugin.py (policy other)",)


def test_a_file_is_not_run_anew_without_what_it_imports(stage: Stage) -> None:
    helper = stage.write("WORD = 'one'\n", "helper")
    text = POLICY.replace("{word!r}", "helper_plugin.WORD").format(name="quiet")
    file = stage.write(f"from . import helper_plugin\n{text}")
    assert not stage.reload().fault
    helper.write_text("WORD = 'two'\n")
    assert stage.reload_plugin("quiet").changed == (f"plugin file {helper}", f"plugin file {file} (policy quiet)")
    assert stage.said() == "two"
    helper.write_text("def f(:\n")
    assert f"{helper}: SyntaxError" in stage.reload_plugin("quiet").fault
    helper.unlink()
    assert f"{file}: ImportError: cannot import name 'helper_plugin'" in stage.reload_plugin("quiet").fault
    assert stage.said() == "two"


def test_a_component_is_known_by_the_name_of_its_table_too(stage: Stage) -> None:
    text = TOP + '[delivery]\npolicies = ["mine"]\n[policy.mine]\ntype = "quiet"\n'
    assert not stage.reload(text).fault
    stage.write("two")
    assert stage.reload_plugin("mine").changed
    assert stage.said() == "two"


def test_a_name_that_nothing_has_is_told_with_those_there_are(stage: Stage) -> None:
    said = stage.reload_plugin("quiet_plugn").fault
    assert said.startswith(
        "there is no plugin file or component called 'quiet_plugn'; did you mean quiet_plugin? known: mailhub_"
    )
    assert stage.reload_plugin("\0../..").fault.startswith("there is no plugin file or component called '\\x00../..'")


def test_a_name_that_two_files_make_is_not_chosen_between(stage: Stage) -> None:
    stage.write(POLICY.format(word="one", name="quiet"), "other")
    assert "2 policy plugins are called 'quiet'" in stage.reload().fault
    assert stage.said() == "one"
    stage.reload(TOP)
    folder = stage.folder / "plugins"
    assert stage.reload_plugin("quiet").fault == (
        f"'quiet' is made by {folder}/other_plugin.py and {folder}/quiet_plugin.py: name one of the files"
    )


def test_a_file_that_is_gone_is_missed_where_it_is_needed(stage: Stage) -> None:
    file = stage.write("two")
    file.unlink()
    assert "there is no policy plugin called 'quiet'" in stage.reload().fault
    assert "there is no policy plugin called 'quiet'" in stage.reload_plugin("quiet").fault
    assert stage.said() == "one"
    outcome = stage.reload(TOP)
    assert outcome.changed == ("[delivery] policies", f"plugin file {file} (gone)")


def test_a_new_file_that_is_broken_harms_nobody(stage: Stage) -> None:
    file = stage.write("1/0", "new")
    outcome = stage.reload()
    assert outcome.fault == ""
    assert outcome.warnings == (f"plugin not loaded: {file}: ZeroDivisionError: division by zero",)
    assert stage.reload_plugin("new_plugin").fault == f"{file}: ZeroDivisionError: division by zero"


def test_what_was_broken_at_the_start_keeps_nobody_from_reloading(tmp_path: Path) -> None:
    stage = staged(tmp_path, TOP, quiet="1/0")
    try:
        assert stage.reload(TOP + "[queue]\nexpire_hours = 9\n").changed == ("[queue] expire_hours",)
        stage.write("two")
        assert not stage.reload().fault
        assert stage.said() == "two"
    finally:
        forget()


def test_a_folder_that_is_named_later_is_looked_into(tmp_path: Path) -> None:
    stage = staged(tmp_path, TOP.replace('plugins = ["plugins"]\n', ""), quiet="one")
    try:
        assert "there is no policy plugin" in stage.reload(TOP.replace('plugins = ["plugins"]\n', "") + USED).fault
        outcome = stage.reload()
        assert outcome.changed[:2] == ("plugins", "[delivery] policies")
        assert stage.said() == "one"
    finally:
        forget()


def test_nobody_waits_for_a_server_that_stops(stage: Stage) -> None:
    reloader = Reloader(stage.hub, load_catalogue, lambda: None, stage.outcomes.append)
    answers: list[Reading] = []
    waiting: Deferred[Reading] = reloader.ask_plugin("quiet")
    waiting.addCallback(answers.append)
    assert answers == []
    reloader.stop()
    reloader.ask_plugin("quiet").addCallback(answers.append)
    assert [answer.fault for answer in answers] == ["the server is stopping"] * 2


@pytest.mark.parametrize(
    ("value", "fault"),
    [
        ('["nothing"]', "{folder}/nothing: there is no such folder"),
        ('["m.toml"]', "{folder}/m.toml: is no folder"),
        ('["a\\u0000b"]', "must be a path"),
        ('"plugins"', 'must be a list, not "plugins"'),
    ],
)
def test_a_folder_that_is_none_is_a_mistake_of_the_configuration(tmp_path: Path, value: str, fault: str) -> None:
    file = tmp_path / "m.toml"
    file.write_text(TOP.replace('["plugins"]', value))
    with pytest.raises(ConfigurationError) as told:
        load(file)
    assert str(told.value) == f"{file}: plugins: {fault.format(folder=tmp_path)}"
