"""No regular expression has a possessive or atomic group.

Up to Python 3.11.4 (Debian 12 has 3.11.2) the engine does not go back when such a group has matched in part, and may
raise SystemError where it captures. Possessive repeats of a single character or class are sound.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parent.parent / "mailhub"
_UNSOUND = re.compile(r"(?<!\\)(?:\\\\)*(?:\)(?:[*+?]|\{\d*,?\d*\})\+|\(\?>)")
FILES = [path for path in sorted(PACKAGE.rglob("*.py")) if re.search(r"^import re$", path.read_text(), re.MULTILINE)]


def texts(tree: ast.AST) -> list[str]:
    """All string and bytes literals, the fixed parts of f-strings too."""
    values = [node.value for node in ast.walk(tree) if isinstance(node, ast.Constant)]
    return [v.decode("latin-1") if isinstance(v, bytes) else v for v in values if isinstance(v, str | bytes)]


def test_what_is_looked_for_is_found() -> None:
    unsound = [r"(?:ab)*+", r"(ab)?+", r"(?:ab)++", r"(?:ab){1,3}+", r"(?>ab)", r"\\(?:ab)*+"]
    assert [text for text in unsound if not _UNSOUND.search(text)] == []
    sound = [r"[ab]*+", r"a++", r"\)*+", r"(?:ab)*", r"(ab)+"]
    assert [text for text in sound if _UNSOUND.search(text)] == []
    assert FILES


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_no_group_is_possessive(path: Path) -> None:
    assert [text for text in texts(ast.parse(path.read_text())) if _UNSOUND.search(text)] == []
