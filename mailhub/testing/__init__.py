"""Test doubles that are part of the product, and a server for the tests of applications; see docs/testing.rst."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mailhub.testing.serving import TestServer


def server(**options: Any) -> AbstractContextManager[TestServer]:
    """See `mailhub.testing.serving.server`. Imported late: who uses another part of this package need not wait."""
    from mailhub.testing.serving import server as made

    return made(**options)
