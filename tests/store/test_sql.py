"""The SQL of `mailhub/store/sql` is what SQLite and PostgreSQL both understand; the rest is the dialect's."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import mailhub.store.sql

FILES = sorted(Path(mailhub.store.sql.__file__).parent.glob("*.py"))
FOREIGN = {
    "json_each": r"\bjson_each\b",
    "INSERT OR": r"\bINSERT OR\b",
    "REPLACE INTO": r"\bREPLACE INTO\b",
    "PRAGMA": r"\bPRAGMA\b",
    "instr": r"\binstr\(",
    "max of several": r"\bmax\([^()]*,",
    "rowid": r"\browid\b",
    "a number for a truth": r"\bWHERE 1\b|\b(?:AND|OR|WHEN) [a-z_.]+ (?:THEN|AND|OR)\b",
    "a column called user": r"\b(?:[a-z]\.)?user\b(?= *[,=)]| FROM)",
}
SQL = re.compile(r"\b(?:SELECT|INSERT INTO|UPDATE|DELETE FROM|WHERE|ON CONFLICT|RETURNING|ORDER BY)\b")


def statements(path: Path) -> Iterator[str]:
    """All texts that are SQL; what an f-string has in braces becomes `{}`."""
    tree = ast.parse(path.read_text())
    inside = {id(value) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for value in node.values}
    for node in ast.walk(tree):
        text = ""
        if isinstance(node, ast.JoinedStr):
            text = "".join(
                value.value if isinstance(value, ast.Constant) and isinstance(value.value, str) else "{}"
                for value in node.values
            )
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in inside:
            text = node.value
        if SQL.search(text):
            yield text


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_statements_are_portable(path: Path) -> None:
    found = [
        (name, statement)
        for statement in statements(path)
        for name, what in FOREIGN.items()
        if re.search(what, statement)
    ]
    assert found == []


def test_there_are_statements_to_look_at() -> None:
    assert sum(len(list(statements(path))) for path in FILES) > 80


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_units_know_no_engine(path: Path) -> None:
    text = path.read_text()
    assert "lastrowid" not in text
    assert not re.search(r"^\s*(?:import sqlite3|from mailhub\.store\.(?:sqlite|memory))", text, re.MULTILINE)
