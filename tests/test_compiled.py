"""The compiled build (docs/performance.rst): what is listed can be compiled, and what was asked for is what runs.

`make compiled` runs these tests with MAILHUB_COMPILED=1 on such a build, and the one of `mailhub --version`.
"""

from __future__ import annotations

import ast
import importlib
import os
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ASKED_FOR = os.environ.get("MAILHUB_COMPILED") == "1"


def listed() -> list[str]:
    """The modules that setup.py names."""
    (names,) = [
        statement.value
        for statement in ast.parse((ROOT / "setup.py").read_text()).body
        if isinstance(statement, ast.Assign) and ast.unparse(statement.targets[0]) == "COMPILED"
    ]
    rooms: dict[str, tuple[str, ...]] = ast.literal_eval(names)
    return [f"{folder}/{name}".replace("/", ".") for folder, names in rooms.items() for name in names]


@pytest.mark.parametrize("name", listed())
def test_what_is_listed_runs_as_it_was_built(name: str) -> None:
    assert str(importlib.import_module(name).__file__).endswith(".so" if ASKED_FOR else ".py")


@pytest.mark.parametrize("name", listed())
def test_what_is_listed_has_nothing_that_a_compiled_module_cannot_be_imported_with(name: str) -> None:
    source = (ROOT / name.replace(".", "/")).with_suffix(".py").read_text()
    assert "attrs.field(" not in source
    assert "@implementer" not in source
    for function in ast.walk(ast.parse(source)):
        if isinstance(function, ast.FunctionDef):
            caught = {
                (handler.name, ast.unparse(handler.type))
                for handler in ast.walk(function)
                if isinstance(handler, ast.ExceptHandler) and handler.name and handler.type
            }
            names = [name for name, _ in caught]
            assert len(names) == len(set(names)), f"{function.name}: a name for errors of two kinds"
