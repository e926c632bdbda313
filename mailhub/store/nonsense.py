"""Answers of somebody else's store that cannot be used."""

from __future__ import annotations

from itertools import islice
from typing import Any

from mailhub.answers import Nonsense, shown

__all__ = ["Nonsense", "listed", "shown"]


def listed(given: Any, limit: int) -> list[Any]:
    """The elements. Raises Nonsense."""
    if given is None or isinstance(given, str | bytes | bytearray | int) or not hasattr(given, "__iter__"):
        raise Nonsense(f"gave {shown(given)}, not a list")
    found = list(islice(given, limit + 1))
    if len(found) > limit:
        raise Nonsense(f"gave more than {limit}")
    return found
