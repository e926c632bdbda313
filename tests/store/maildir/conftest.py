from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from twisted.logger import capturedLogs, formatEvent


@pytest.fixture
def logged() -> Iterator[Callable[[], str]]:
    """What the log has said up to now."""
    with capturedLogs() as events:
        yield lambda: "\n".join(map(formatEvent, events))
