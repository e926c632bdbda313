"""Where a plugin keeps what is mailhub's own, commands leave SQLite's files alone and say so in one line."""

from __future__ import annotations

import attrs
import pytest

from mailhub.config.settings import Config, load
from mailhub.plugins import Component, load_catalogue
from mailhub.store.memory import MemoryDatabase
from tests.cli.conftest import Command
from tests.cli.test_check import good as good

SAYS = "[database] type: commands open databases of SQLite alone, not of elsewhere: use its own tools"


@pytest.fixture
def elsewhere(mailhub: Command, good: Config, monkeypatch: pytest.MonkeyPatch) -> Config:
    """A configuration of a plugin's database, beside a folder that SQLite's has been in."""
    assert mailhub("backup", "before").status == 0
    known = load_catalogue()
    made = Component("database", "elsewhere", lambda _, hub: MemoryDatabase(hub.environment))
    known = attrs.evolve(known, factories=(*known.factories, made))
    monkeypatch.setattr("mailhub.cli.check.load_catalogue", lambda _: known)
    good.file.write_text(good.file.read_text() + '\n[database]\ntype = "elsewhere"\n')
    return load(good.file)


@pytest.mark.parametrize(
    "words",
    [
        ("account", "list"),
        ("queue", "list"),
        ("backup", "copy"),
        ("restore", "--yes", "before"),
        ("restore", "--yes", "--account", "ann@xx.example", "before"),
        ("check", "--store-only"),
        ("check", "--repair"),
    ],
)
def test_no_command_takes_sqlites_files_for_it(mailhub: Command, elsewhere: Config, words: tuple[str, ...]) -> None:
    before = sorted(elsewhere.data.parent.rglob("*"))
    result = mailhub(*words)
    assert result.status == 1
    assert (result.out + result.err).count(SAYS) == 1
    assert sorted(elsewhere.data.parent.rglob("*")) == before


def test_check_looks_over_all_else(mailhub: Command, elsewhere: Config) -> None:
    result = mailhub("check")
    assert (result.status, result.err) == (0, "")
    assert f"warning  {elsewhere.file}: {SAYS}" in result.out
    assert "components: database elsewhere" in result.out
    assert result.out.count("can be opened") == 7
    assert "store /" not in result.out
