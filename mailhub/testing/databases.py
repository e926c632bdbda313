"""A database for tests and simulations, by the door that all components use; see `mailhub.testing.disks` for one that
keeps its data."""

from __future__ import annotations

from mailhub.plugins import Component
from mailhub.store.memory.database import MemoryDatabase

memory_database = Component("database", "memory", lambda _, hub: MemoryDatabase(hub.environment))
