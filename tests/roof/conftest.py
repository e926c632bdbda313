"""A foreign folder of plugins."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import twisted.plugins


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str, str], Path]]:
    """Puts a file into a `twisted/plugins/` folder that is on the path until the test is over."""
    folder = tmp_path / "elsewhere" / "twisted" / "plugins"
    folder.mkdir(parents=True)
    path = [*twisted.plugins.__path__, str(folder)]
    monkeypatch.setattr(twisted.plugins, "__path__", path)
    monkeypatch.syspath_prepend(str(folder.parent.parent))

    names: list[str] = []

    def put(name: str, text: str) -> Path:
        file = folder / name
        file.write_text(text)
        names.append(file.stem)
        return file

    yield put
    # The next test has another file of that name.
    for name in names:
        sys.modules.pop(f"twisted.plugins.{name}", None)
        vars(twisted.plugins).pop(name, None)
