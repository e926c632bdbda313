"""The command run in this process, as the console script runs it."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import attrs
import pytest

from mailhub.auth.passwords import hash_password
from mailhub.cli.main import main
from mailhub.config.settings import Config, load
from tests.hashing import CHEAP

pytest.register_assert_rewrite("mailhub.store.exam")


@attrs.frozen
class Result:
    """What a command left."""

    status: int
    out: str
    err: str


Command = Callable[..., Result]


@pytest.fixture
def mailhub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """`mailhub WORDS...` in a folder of its own, where mailhub.toml is the default configuration."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MAILHUB_CONFIG", raising=False)
    # A tenth of a second each would be most of what these tests take; the cost has a test of its own.
    monkeypatch.setattr("mailhub.cli.passwords.hash_password", lambda password: hash_password(password, CHEAP))

    def run(*words: str, stdin: str = "", terminal: bool = False) -> Result:
        typed = io.TextIOWrapper(io.BytesIO(stdin.encode()))
        monkeypatch.setattr(typed, "isatty", lambda: terminal)
        monkeypatch.setattr("sys.stdin", typed)
        with pytest.raises(SystemExit) as ended:
            main(words)
        printed = capsys.readouterr()
        code = ended.value.code
        return Result(code if isinstance(code, int) else 0, printed.out, printed.err)

    return run


@pytest.fixture
def config(tmp_path: Path) -> Config:
    """A small configuration in the command's folder."""
    file = tmp_path / "mailhub.toml"
    file.write_text('hostname = "mx.xx.example"\ndata = "data"\ndomains = ["xx.example"]\n')
    return load(file)
