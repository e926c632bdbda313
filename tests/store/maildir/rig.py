"""Maildirs in a folder of a test's own, and other programs that change them."""

from __future__ import annotations

import os
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, TypeVar, cast

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from mailhub.errors import ConfigurationError
from mailhub.interfaces import Account, Environment, IHub, Part
from mailhub.keys import MESSAGE_SIZE, Key
from mailhub.store.limits import StoreLimits
from mailhub.store.maildir.store import MaildirOptions, maildir_store
from mailhub.store.mirror.store import MirrorStore
from tests.store.harness import NOW, environment

T = TypeVar("T")

ANN = "ann@xx.example"
HELLO = b"From: ben@yy.example\nSubject: hello\n\nHello\n"
HELLO_SENT = HELLO.replace(b"\n", b"\r\n")


class Settings:
    def __init__(self, limits: StoreLimits) -> None:
        self.limits = limits

    def of(self, part: type) -> StoreLimits:
        assert part is StoreLimits
        return self.limits

    def value(self, key: Key[int]) -> int:
        assert key is MESSAGE_SIZE
        return 1 << 20


class Accounts:
    """The account table."""

    def __init__(self) -> None:
        self.rows: dict[str, Account] = {}

    async def find(self, user: str) -> Account | None:
        return self.rows.get(user)


@attrs.define
class PlayedHub:
    """As much of a hub as Maildirs need."""

    environment: Environment
    hostname: str = "mx.xx.example"
    domains: frozenset[str] = frozenset({"xx.example"})
    part: Part = attrs.field(factory=lambda: Part("store", "maildir", __file__))
    accounts: Accounts = attrs.field(factory=Accounts)
    settings: Settings = attrs.field(factory=lambda: Settings(StoreLimits(durable=False)))


class Site:
    """A data folder with Maildirs below it, and a store on them."""

    def __init__(self, folder: Path, **options: Any) -> None:
        self.folder = folder
        self.clock = Clock()
        self.clock.advance(NOW)
        self.options = MaildirOptions(**options)
        self.hub = PlayedHub(environment(folder, clock=self.clock))
        self.root = folder / "maildirs" / "xx.example" / "ann"
        self.store = self.build()

    def build(self) -> MirrorStore:
        return maildir_store(self.options, cast(IHub, self.hub))

    def started(self) -> MirrorStore:
        wait(self.store.start())
        return self.store

    def restarted(self) -> MirrorStore:
        """A new server on the same data."""
        wait(self.store.stop())
        self.store = self.build()
        return self.started()

    def account(self, user: str = ANN, quota: int = 0) -> None:
        self.hub.accounts.rows[user] = Account(user, "", quota)

    def put(self, name: str, octets: bytes = HELLO, folder: str = "", directory: str = "new") -> Path:
        """Another program delivers."""
        path = self.root / folder / directory / name
        draft = self.root / folder / "tmp" / name
        draft.write_bytes(octets)
        os.rename(draft, path)
        return path

    def files(self, folder: str = "") -> list[str]:
        """All messages' files, by their paths."""
        return sorted(
            f"{directory}/{path.name}"
            for directory in ("new", "cur")
            for path in (self.root / folder / directory).iterdir()
        )


def wait(coroutine: Coroutine[Any, Any, T]) -> T:
    """The result of what waits for nothing."""
    results: list[Any] = []
    Deferred.fromCoroutine(coroutine).addBoth(results.append)
    assert results, "it waits"
    if isinstance(results[0], Failure):
        results[0].raiseException()
    result: T = results[0]
    return result


__all__ = ["ANN", "HELLO", "HELLO_SENT", "ConfigurationError", "Site", "wait"]
