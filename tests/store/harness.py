"""What the tests of the store are built with."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any, cast

from twisted.internet.task import Clock

from mailhub.interfaces import Environment, IThreads
from mailhub.store.settings import StoreSettings
from mailhub.threads import InlineThreads

NOW = 1_700_000_000
FAST = StoreSettings(durable=False)


def environment(
    data: Path, *, clock: Clock | None = None, threads: IThreads | None = None, seed: int = 1
) -> Environment:
    """An environment without network; its clock stands at NOW."""
    if clock is None:
        clock = Clock()
        clock.advance(NOW)
    nothing = cast(Any, None)
    return Environment(clock, threads or InlineThreads(), nothing, nothing, random.Random(seed), data)
