"""How commands show what came of something that the server was asked to do."""

from __future__ import annotations

import sys
from collections.abc import Iterable


def show(text: str, lasting: Iterable[str], warnings: Iterable[str]) -> None:
    """What has changed, what waits for a restart, and what there is to know."""
    print(plain(text))
    if names := ", ".join(lasting):
        print(plain(f"needs a restart: {names}"))
    for warning in warnings:
        print(plain(f"warning: {warning}"), file=sys.stderr)


def complain(text: str) -> None:
    """One line that says why it cannot go on."""
    print(f"mailhub: {plain(' '.join(text.split()))}", file=sys.__stderr__, flush=True)


def plain(text: str) -> str:
    """No control characters for the terminal."""
    return "".join(char if char.isprintable() or char == "\n" else "?" for char in text)
