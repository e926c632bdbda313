"""What an extension imports: all of it from one module, all of it documented."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest

from mailhub import api

ROOT = Path(__file__).parents[2]
DOCUMENT = (ROOT / "docs" / "api.rst").read_text()
# What plugins are shown to write in a method, a value or a base class of these modules is theirs to import.
TOLD = [
    *sorted((ROOT / "mailhub" / "interfaces").glob("*.py")),
    *(ROOT / "mailhub" / name for name in ("net/link.py", "message/record.py", "message/envelope.py")),
]


def documented() -> dict[str, str]:
    """What is said of each name."""
    found = re.findall(r"^``(\w+)``\n((?:    .*\n)+)", DOCUMENT, re.MULTILINE)
    assert len(found) == len({name for name, _ in found}), "a name is documented twice"
    return {name: " ".join(text.split()) for name, text in found}


def test_every_name_is_documented_and_nothing_else() -> None:
    """Who adds a name to mailhub.api says in docs/api.rst what it is."""
    assert sorted(documented()) == sorted(api.__all__)


def test_the_names_stand_in_order() -> None:
    assert list(api.__all__) == sorted(
        set(api.__all__), key=lambda name: (not name.isupper(), not name[0].isupper(), name)
    )
    assert all(hasattr(api, name) for name in api.__all__)


def test_the_fields_of_values_are_documented() -> None:
    for name, text in documented().items():
        value: Any = getattr(api, name)
        fields: list[str] = []
        if isinstance(value, type) and attrs.has(value):
            fields = [each.name for each in attrs.fields(value) if each.init and not each.name.startswith("_")]
        _, _, told = text.partition("Fields: ")
        assert re.findall(r"``(\w+)``", told) == fields, name


def test_all_that_a_hub_has_is_documented() -> None:
    hub: Any = api.IHub
    assert re.findall(r"^``hub\.(\w+)", DOCUMENT, re.MULTILINE) == list(hub.names())


def annotated(tree: ast.Module) -> Iterator[ast.expr]:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield from (each.annotation for each in (*node.args.args, *node.args.kwonlyargs) if each.annotation)
            yield from [node.returns] if node.returns else []
        elif isinstance(node, ast.AnnAssign):
            yield node.annotation


@pytest.mark.parametrize("file", TOLD, ids=lambda file: file.stem)
def test_what_contracts_speak_of_can_be_imported(file: Path) -> None:
    tree = ast.parse(file.read_text())
    ours = {
        alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("mailhub.")
        for alias in node.names
    }
    ours |= {node.name for node in tree.body if isinstance(node, ast.ClassDef)}
    spoken = {each.id for one in annotated(tree) for each in ast.walk(one) if isinstance(each, ast.Name)}
    assert spoken & ours <= set(api.__all__)


SHOWN = [
    ROOT / "README.rst",
    *(ROOT / "docs").glob("*.rst"),
    *(ROOT / "examples").rglob("*.py"),
    *(ROOT / "examples").rglob("*.tac"),
]


@pytest.mark.parametrize("file", SHOWN, ids=lambda file: file.name)
def test_what_is_shown_imports_what_stays(file: Path) -> None:
    modules = re.findall(r"^\s*(?:from|import) (mailhub[\w.]*)", file.read_text(), re.MULTILINE)
    assert [name for name in modules if not re.fullmatch(r"mailhub\.api|mailhub\.testing(\.\w+)*", name)] == []
