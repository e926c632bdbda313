"""The code blocks of the documentation, by their names."""

from __future__ import annotations

import re
import textwrap
from pathlib import Path

ROOT = Path(__file__).parents[1]
DOCUMENT = ROOT / "docs" / "plugins.rst"
_BLOCK = re.compile(r"^\.\. code-block:: \w+\n(?:    :name: (\S+)\n)?\n((?:    .*\n|\n)+)", re.MULTILINE)


def code_blocks(document: Path = DOCUMENT) -> dict[str, str]:
    """Their text. One without a name has the first line's."""
    return {
        found[1] or found[2].strip().partition("\n")[0]: textwrap.dedent(found[2]).rstrip("\n") + "\n"
        for found in _BLOCK.finditer(document.read_text() + "\n")
    }


def code_block(name: str) -> str:
    """One of those in docs/plugins.rst."""
    return code_blocks()[name]
