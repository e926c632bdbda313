"""Answers of somebody else's store that cannot be used."""

from __future__ import annotations

from itertools import islice
from typing import Any


class Nonsense(ValueError):
    """An answer of which nothing can be used, with what is wrong with it."""


def shown(thing: object) -> str:
    """For a line of the log."""
    try:
        text = repr(thing)
    except Exception as error:
        text = f"<{type(error).__name__} in repr()>"
    return text if len(text) <= 80 else f"{text[:77]}..."


def listed(given: Any, limit: int) -> list[Any]:
    """The elements. Raises Nonsense."""
    if given is None or isinstance(given, str | bytes | bytearray | int) or not hasattr(given, "__iter__"):
        raise Nonsense(f"gave {shown(given)}, not a list")
    found = list(islice(given, limit + 1))
    if len(found) > limit:
        raise Nonsense(f"gave more than {limit}")
    return found
