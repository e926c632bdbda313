"""The twin of the database: the model that the SQLite store is compared with, and a store for tests.

Nothing is shared with the SQLite code but values, names and the way to watch; what it does should be plain to see.
Every call takes effect at once and is gone with the process.
"""

from __future__ import annotations

from mailhub.interfaces import Environment
from mailhub.store.memory_queue import MemoryQueue
from mailhub.store.memory_store import MemoryAccounts, MemoryHouse, MemoryStore
from mailhub.store.settings import StoreSettings


class MemoryDatabase:
    """Has the facets of `Database`: `store`, `queue` and `accounts`."""

    def __init__(self, environment: Environment, settings: StoreSettings | None = None) -> None:
        house = MemoryHouse(environment, settings or StoreSettings())
        self.store = MemoryStore(house)
        self.accounts = MemoryAccounts(house)
        self.queue = MemoryQueue(house, self.store)

    async def start(self) -> None:
        """Always open."""

    async def stop(self) -> None:
        """Nothing to close."""
