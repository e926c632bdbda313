"""What holds for all tests."""

from __future__ import annotations

from hypothesis import settings

# A slow machine is no mistake.
settings.register_profile("mailhub", deadline=None)
settings.load_profile("mailhub")
