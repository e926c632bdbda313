"""Text in columns of databases."""

from __future__ import annotations


def text(value: str) -> str:
    """What a text column can hold: a lone surrogate cannot be written as UTF-8, and not every engine takes NUL."""
    if value.isascii() and "\0" not in value:
        return value
    return value.replace("\0", "\ufffd").encode("utf-8", "replace").decode()
