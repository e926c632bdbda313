"""Databases for tests and simulations, by the door that all components use."""

from __future__ import annotations

from mailhub.interfaces import IHub
from mailhub.plugins import Component, NoOptions
from mailhub.store.limits import StoreLimits
from mailhub.store.memory.database import MemoryDatabase
from mailhub.store.sqlite.database import Database

memory_database = Component("database", "memory", lambda _, hub: MemoryDatabase(hub.environment))


def _inline(_: NoOptions, hub: IHub) -> Database:
    hub.environment.data.mkdir(parents=True, exist_ok=True)
    return Database(hub.environment, hub.settings.of(StoreLimits, durable=False), gather=True, create=True)


# SQLite on the thread of the caller, without waiting for the disk: on a simulated clock it does the same every time.
inline_database = Component("database", "inline", _inline)
