"""Answers of somebody else's store that cannot be used."""

from __future__ import annotations


class Nonsense(ValueError):
    """An answer of which nothing can be used, with what is wrong with it."""


def shown(thing: object) -> str:
    """For a line of the log."""
    try:
        text = repr(thing)
    except Exception as error:
        text = f"<{type(error).__name__} in repr()>"
    return text if len(text) <= 80 else f"{text[:77]}..."
