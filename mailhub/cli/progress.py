"""How far a long command is: a bar at a terminal, nothing in a script's output."""

from __future__ import annotations

import sys
import time

_WIDTH = 30
_PAUSE_SECONDS = 0.1


class Bar:
    """Called with what is being done, how much of it is done and how much there is; `end` takes it off the screen."""

    def __init__(self) -> None:
        self._shown = sys.stderr.isatty()
        self._drawn_at = float("-inf")
        self._what = ""

    def __call__(self, what: str, done: int, whole: int) -> None:
        now = time.monotonic()
        if not self._shown or (what == self._what and done < whole and now - self._drawn_at < _PAUSE_SECONDS):
            return
        self._drawn_at, self._what = now, what
        part = min(done / whole, 1.0) if whole else 1.0
        bar = "#" * round(_WIDTH * part)
        print(f"\r{what:8} [{bar:.<{_WIDTH}}] {part:4.0%} ", end="", file=sys.stderr, flush=True)

    def end(self) -> None:
        """The line is free again."""
        if self._what:
            print(f"\r{'':{_WIDTH + 18}}\r", end="", file=sys.stderr, flush=True)
            self._what = ""
