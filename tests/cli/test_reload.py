"""`mailhub reload` without a server that could answer; with one it is tests/system/test_reload.py."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from mailhub.config.settings import Config
from mailhub.data_folder import DataFolder
from mailhub.reload import Reading, write_answer
from tests.cli.conftest import Command


def test_nobody_is_asked_where_nobody_serves(mailhub: Command, config: Config) -> None:
    result = mailhub("reload")
    assert (result.status, result.out) == (1, "")
    told = f"no server serves {config.data}; it reads the configuration when it starts, and `data` only then"
    assert result.err == f"mailhub: {told}\n"
    assert not config.data.exists()


def test_a_mistake_is_told_before_the_server_is_asked(mailhub: Command, config: Config) -> None:
    config.file.write_text("hostname")
    result = mailhub("reload")
    assert result.status == 1
    assert result.err.startswith(f"mailhub: nothing has changed: {config.file}: is not TOML")


@pytest.fixture
def served(config: Config, monkeypatch: pytest.MonkeyPatch) -> DataFolder:
    """A data folder that this very process serves."""
    folder = DataFolder(config.data)
    config.data.mkdir()
    folder.lock()
    monkeypatch.setattr("time.sleep", lambda _: None)
    return folder


def test_what_the_server_answers_is_shown(
    mailhub: Command, config: Config, served: DataFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = Reading(1 << 62, 0.0, "", ("[aliases]",), ("data", "[listen] smtp"), ("certificate\x1b[2J",))
    monkeypatch.setattr("os.kill", lambda *_: write_answer(config.data, answer))
    result = mailhub("reload")
    assert result.status == 0
    assert result.out == (
        f"process {os.getpid()} has read {config.file}\nchanged: [aliases]\nneeds a restart: data, [listen] smtp\n"
    )
    assert result.err == "warning: certificate?[2J\n"
    served.unlock()


def test_an_earlier_answer_is_not_ours_and_the_end_of_the_server_is_noticed(
    mailhub: Command, config: Config, served: DataFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_answer(config.data, Reading(1, 0.0))
    monkeypatch.setattr("os.kill", lambda *_: served.unlock())
    result = mailhub("reload")
    assert (result.status, result.err) == (1, "mailhub: the server ended before it answered; see its log\n")


@pytest.mark.parametrize(
    ("error", "line"),
    [(PermissionError, "takes signals from its own user and root"), (ProcessLookupError, "has just ended")],
)
def test_a_server_that_cannot_be_asked(
    mailhub: Command, served: DataFolder, monkeypatch: pytest.MonkeyPatch, error: type[OSError], line: str
) -> None:
    def refuse(*_: object) -> None:
        raise error

    monkeypatch.setattr("os.kill", refuse)
    result = mailhub("reload")
    assert result.status == 1
    assert line in result.err
    served.unlock()


def test_patience_is_bounded(mailhub: Command, served: DataFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.kill", lambda *_: None)
    monkeypatch.setattr("mailhub.cli.reload._PATIENCE", 0.01)
    assert "did not answer within" in mailhub("reload").err
    served.unlock()


def test_the_lock_is_nobodys_when_it_is_let_go(config: Config, tmp_path: Path) -> None:
    folder = DataFolder(config.data)
    assert folder.server() is None
    config.data.mkdir()
    folder.lock()
    assert DataFolder(config.data).server() == os.getpid()
    folder.note_reading(1_000_000_000.0)
    assert (config.data / "mailhub.lock").stat().st_mtime == 1_000_000_000
    folder.unlock()
    assert folder.server() is None
