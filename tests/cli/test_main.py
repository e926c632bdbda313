"""The command's grammar and how it ends."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from mailhub import __version__
from mailhub.cli import account
from mailhub.cli.main import main
from mailhub.config.settings import Config
from mailhub.errors import StoreUnavailable
from tests.cli.conftest import Command


def test_without_a_command_the_help_teaches(mailhub: Command) -> None:
    result = mailhub()
    assert result.status == 2
    assert "mailhub init you@example.org" in result.out
    assert all(word in result.out for word in ("account", "check", "queue", "--config"))


def test_version(mailhub: Command) -> None:
    build = " (compiled)" if os.environ.get("MAILHUB_COMPILED") == "1" else ""
    assert mailhub("--version").out == f"mailhub {__version__}{build}\n"


@pytest.mark.parametrize("words", [("nonsense",), ("account",), ("queue", "show"), ("account", "add")])
def test_wrong_usage_is_status_2(mailhub: Command, words: tuple[str, ...]) -> None:
    result = mailhub(*words)
    assert result.status == 2
    assert result.err.startswith("usage: mailhub")


@pytest.mark.parametrize(
    "words", [("account", "list"), ("queue", "list"), ("check",), ("account", "add", "a@b.example")]
)
def test_a_missing_configuration_is_one_line(mailhub: Command, tmp_path: Path, words: tuple[str, ...]) -> None:
    result = mailhub(*words)
    assert result.status == 1
    said = "there is no such file; `mailhub init ADDRESS` writes one"
    assert result.err == f"mailhub: {tmp_path}/mailhub.toml: {said}\n"


def test_the_configuration_is_named_by_option_or_environment(
    mailhub: Command, config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mailhub("account", "add", "a@xx.example")
    (tmp_path / "other").mkdir()
    monkeypatch.setenv("MAILHUB_CONFIG", "/nowhere")
    monkeypatch.chdir(tmp_path / "other")
    assert mailhub("--config", str(config.file), "queue", "list").out == "the queue is empty\n"
    assert "/nowhere: there is no such file" in mailhub("queue", "list").err
    monkeypatch.setenv("MAILHUB_CONFIG", str(config.file))
    assert mailhub("queue", "list").out == "the queue is empty\n"


@pytest.mark.parametrize("place", [0, 1, 2])
def test_the_configuration_is_named_at_any_place(mailhub: Command, config: Config, place: int) -> None:
    mailhub("account", "add", "a@xx.example")
    config.file.rename(config.file.with_name("other.toml"))
    words = ["queue", "list"]
    words[place:place] = ["--config", "other.toml"]
    assert mailhub(*words).out == "the queue is empty\n"
    words[place:place] = ["--config", "nowhere.toml"]
    assert mailhub(*words, "--config", "other.toml").out == "the queue is empty\n"  # the last one counts


def test_every_command_explains_itself_within_a_terminals_width(mailhub: Command) -> None:
    commands: list[list[str]] = [[]]
    for words in commands:
        text = mailhub(*words, "--help").out
        assert "--config FILE" in text
        assert max(map(len, text.splitlines())) <= 80
        commands += [[*words, name] for name in re.findall(r"^    (\w+) ", text, re.MULTILINE) if len(words) < 2]
    assert ["alias", "add"] in commands
    assert ["check"] in commands


def test_a_reader_that_has_seen_enough_is_no_error(
    config: Config, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """`mailhub queue list | head -1`: what is written later goes nowhere."""

    def broken(*_: object) -> None:
        raise BrokenPipeError

    monkeypatch.setattr(account, "load", broken)
    before = os.dup(1)
    try:
        with pytest.raises(SystemExit) as ended:
            main(["--config", str(config.file), "account", "list"])
        print("late", flush=True)
    finally:
        os.dup2(before, 1)
        os.close(before)
    assert ended.value.code == 0
    assert capfd.readouterr() == ("", "")


def test_a_bug_shows_where_it_is_to_who_wants_to_know(mailhub: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise KeyError("oops")

    monkeypatch.setattr(account, "load", fail)
    monkeypatch.setenv("MAILHUB_DEBUG", "1")
    said = mailhub("account", "list").err
    assert said.startswith("Traceback")
    assert 'raise KeyError("oops")' in said


@pytest.mark.parametrize(
    ("error", "status", "line"),
    [
        (
            StoreUnavailable(detail="disk full"),
            1,
            "mailhub: Storage is not available, please try again later (disk full)",
        ),
        (PermissionError(13, "Permission denied", "/x"), 1, "mailhub: /x: Permission denied"),
        (KeyError("oops"), 1, "mailhub: this is a bug in mailhub: KeyError: 'oops' (set MAILHUB_DEBUG=1 to see where)"),
        (KeyboardInterrupt(), 130, ""),
    ],
)
def test_no_error_is_a_traceback(
    mailhub: Command, monkeypatch: pytest.MonkeyPatch, error: BaseException, status: int, line: str
) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(account, "load", fail)
    result = mailhub("account", "list")
    assert (result.status, result.err.strip()) == (status, line)
