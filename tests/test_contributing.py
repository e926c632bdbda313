"""The recipes lead to files that are there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PAGE = (ROOT / "CONTRIBUTING.rst").read_text()
# What a recipe has somebody write does not stand yet.
TO_BE_WRITTEN = {"mailhub/sieve/", "mailhub/web/"}
NAMED = sorted(set(re.findall(r"``((?:mailhub|tests|docs|twisted)/[\w/.]*)``", PAGE)))


@pytest.mark.parametrize("path", NAMED)
def test_a_path_is_there(path: str) -> None:
    there = (ROOT / path).is_dir() if path.endswith("/") else (ROOT / path).is_file()
    assert there != (path in TO_BE_WRITTEN)


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("mailhub/wire/imap/server_settings.py", "EXTENSIONS"),
        ("mailhub/protocols/imap/fetch.py", "HANDLERS"),
        ("mailhub/wire/smtp/extensions.py", "EXTENSIONS"),
        ("mailhub/wire/smtp/extensions.py", "COMPLETE"),
        ("mailhub/wire/smtp/verbs.py", "VERBS"),
        ("mailhub/store/sqlite/schema.py", "MIGRATIONS"),
        ("mailhub/store/sql/messages.py", "def check_room"),
    ],
)
def test_a_table_that_a_recipe_names_is_there(file: str, name: str) -> None:
    assert name.removeprefix("def ") in PAGE
    assert re.search(rf"^{name}\b", (ROOT / file).read_text(), re.MULTILINE)
