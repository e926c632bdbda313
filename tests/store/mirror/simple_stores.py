"""Simple stores for tests, and what they need of a hub."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from random import Random
from typing import Any

import attrs
from twisted.internet.task import Clock

from mailhub.api import Message, SimpleStore
from mailhub.config.settings import Config, from_values
from mailhub.guard import Guard
from mailhub.interfaces import Environment, Part
from mailhub.store.mirror.simple_source import SimpleSource
from mailhub.testing.resolver import FakeResolver
from mailhub.testing.wires import MemoryNetwork
from mailhub.threads import InlineThreads

NOWHERE = Path("/nonexistent")


def environment(data: Path = NOWHERE, clock: Clock | None = None) -> Environment:
    """Played surroundings; with a data folder the ledger is a file in it."""
    clock = clock or Clock()
    clock.rightNow = clock.rightNow or 1_704_067_200.0
    network = MemoryNetwork(clock, Random(1)).at("10.0.0.1")
    return Environment(clock, InlineThreads(), network, FakeResolver(), Random(1), data)


PART = Part("store", "mine", __file__)
SETTINGS = from_values({"hostname": "mx.xx.example", "data": "/nonexistent"}, Path("/xx.toml"))


@attrs.define
class PlayedHub:
    """As much of a hub as a store needs."""

    environment: Environment
    part: Part = PART
    settings: Config = SETTINGS


Folder = dict[Any, tuple[bytes, frozenset[str], int]]


class DictStore(SimpleStore):
    """Reads and writes a dictionary: folders by user, messages by folder."""

    quotas: dict[str, int]

    def __init__(self, options: Any, hub: Any) -> None:
        super().__init__(options, hub)
        self.mail: dict[str, dict[str, Folder]] = {}
        self.quotas = {}
        self.keys = 0

    def users(self) -> list[str]:
        return list(self.mail)

    def folders(self, user: str) -> list[str]:
        return list(self.mail[user])

    def messages(self, user: str, folder: str) -> list[Any]:
        return [Message(key, flags, date) for key, (_, flags, date) in self.mail[user][folder].items()]

    def read(self, user: str, folder: str, key: int) -> bytes:
        return self.mail[user][folder][key][0]

    def add(self, user: str, folder: str, octets: bytes, flags: frozenset[str], date: int) -> int:
        self.keys += 1
        self.mail[user][folder][self.keys] = (octets, flags, date)
        return self.keys

    def change(self, user: str, folder: str, key: int, flags: frozenset[str]) -> None:
        octets, _, date = self.mail[user][folder][key]
        self.mail[user][folder][key] = (octets, flags, date)

    def remove(self, user: str, folder: str, key: int) -> None:
        del self.mail[user][folder][key]

    def quota(self, user: str) -> int:
        return self.quotas.get(user, 0)


class FolderSource(SimpleSource):
    """A source with folders that clients make, as a Maildir has."""

    makes_folders = True

    async def create(self, user: str, folder: str) -> None:
        self._store.mail[user][folder] = {}

    async def delete(self, user: str, folder: str) -> None:
        del self._store.mail[user][folder]

    async def rename(self, user: str, names: Mapping[str, str]) -> None:
        folders = self._store.mail[user]
        for old, new in names.items():
            folders[new] = folders.pop(old)


def dict_source(store: DictStore, kind: type[SimpleSource] = SimpleSource) -> SimpleSource:
    """What stands under a store."""
    clock = store.hub.environment.clock
    return kind(
        store, store.hub.environment, Guard("store", "dict", __file__, clock), size_limit=1 << 20, folder_limit=99
    )
