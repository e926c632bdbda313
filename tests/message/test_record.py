"""STORE: what comes of the flags that a message has."""

from __future__ import annotations

import pytest

from mailhub.message.flags import FLAGGED, SEEN, Flags
from mailhub.message.record import FlagChange, FlagMode


@pytest.mark.parametrize(
    ("mode", "flags", "after"),
    [
        ("add", {FLAGGED, "WORK"}, {SEEN, FLAGGED, "Work"}),
        ("remove", {"work", FLAGGED}, {SEEN}),
        ("replace", {FLAGGED}, {FLAGGED}),
        ("replace", set(), set()),
    ],
)
def test_a_change_of_flags(mode: FlagMode, flags: Flags, after: Flags) -> None:
    assert FlagChange(mode, frozenset(flags)).apply(frozenset({SEEN, "Work"})) == after
