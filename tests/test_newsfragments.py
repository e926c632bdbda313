"""Every file in newsfragments/ is news that `towncrier build` will find, and each has something to say."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "newsfragments"
SETTINGS = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["towncrier"]
TYPES = {kind["directory"] for kind in SETTINGS["type"]}
NAME = re.compile(r"\d+(?:\.[a-z0-9][a-z0-9-]*)?\.(?P<type>[a-z]+)\.rst")
FRAGMENTS = sorted(p.name for p in FOLDER.iterdir() if p.name not in SETTINGS["ignore"])


def faults(name: str, text: str) -> list[str]:
    found = []
    match = NAME.fullmatch(name)
    if match is None:
        found.append("is not called ISSUE.TOPIC.TYPE.rst")
    elif match["type"] not in TYPES:
        found.append(f"is of none of the types {', '.join(sorted(TYPES))}")
    if not text.strip():
        found.append("says nothing")
    if re.search(r"^([=~^\"-])\1{2,}$", text, re.MULTILINE):
        found.append("has a title of its own, which would cut the changelog in two")
    return found


@pytest.mark.parametrize("name", FRAGMENTS)
def test_a_fragment_becomes_news(name: str) -> None:
    assert faults(name, (FOLDER / name).read_text()) == []


@pytest.mark.parametrize(
    ("name", "text", "fault"),
    [
        ("6.store.feature.rst", "The store is faster.\n", None),
        ("6.feature.rst", "The store is faster.\n", None),
        ("6.store.feature.md", "x", "ISSUE.TOPIC.TYPE.rst"),
        ("store.feature.rst", "x", "ISSUE.TOPIC.TYPE.rst"),
        ("6.store.improvement.rst", "x", "none of the types"),
        ("6.store.bugfix.rst", "\n", "says nothing"),
        ("6.store.bugfix.rst", "Store\n-----\n\nx\n", "title"),
    ],
)
def test_faults_are_found(name: str, text: str, fault: str | None) -> None:
    found = faults(name, text)
    assert [fault in f for f in found if fault] == [True] if fault else found == []


def test_the_changelog_has_the_line_below_which_news_goes() -> None:
    text = (ROOT / SETTINGS["filename"]).read_text()
    assert text.count(".. towncrier release notes start\n") == 1
