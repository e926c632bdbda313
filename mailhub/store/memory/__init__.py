"""A store in memory, as tests and plug-ins import it."""

from mailhub.store.memory.database import MemoryDatabase

__all__ = ["MemoryDatabase"]
