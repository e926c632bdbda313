"""Fixtures for tests against real processes and real clients."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from shutil import which
from typing import NoReturn

import pytest

from mailhub.testing.process import ServerProcess


def need(*clients: str) -> None:
    """Skip where a real client is missing; fail where the machine was to have them all."""
    absent = [name for name in clients if which(name) is None]
    if absent:
        missing(*absent)


def missing(*names: str) -> NoReturn:
    """These are not there: skip, or fail."""
    if os.environ.get("MAILHUB_REQUIRE_CLIENTS"):
        pytest.fail(f"real clients are missing: {', '.join(names)}")
    pytest.skip(f"not installed: {', '.join(names)}")


@pytest.fixture
def one_hub(tmp_path: Path) -> Iterator[ServerProcess]:
    """A running hub for xx.example with the accounts a and b."""
    accounts = {f"{name}@xx.example": secrets.token_hex(12) for name in ("a", "b")}
    with ServerProcess(tmp_path / "xx", "xx.example", accounts) as hub:
        yield hub


@pytest.fixture(scope="module")
def _xx_and_yy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[ServerProcess, ServerProcess]]:
    folder = tmp_path_factory.mktemp("hubs")
    xx = ServerProcess(folder / "xx", "xx.example", {"a@xx.example": secrets.token_hex(12)})
    yy = ServerProcess(folder / "yy", "yy.example", {"b@yy.example": secrets.token_hex(12)})
    xx.extra = f'[route."yy.example"]\nhost = "127.0.0.1:{yy.ports["smtp"]}"\n[queue]\nretry_seconds = [1]\n'
    yy.extra = f'[route."xx.example"]\nhost = "127.0.0.1:{xx.ports["smtp"]}"\n[queue]\nretry_seconds = [1]\n'
    with yy, xx:
        yield xx, yy


@pytest.fixture
def two_hubs(_xx_and_yy: tuple[ServerProcess, ServerProcess]) -> tuple[ServerProcess, ServerProcess]:
    """XX and YY, their INBOXes empty: each knows the other as a static route."""
    for hub in _xx_and_yy:
        for user in hub.accounts:
            with hub.imap(user) as client:
                client.select("INBOX")
                client.store("1:*", "+FLAGS.SILENT", "\\Deleted")
                client.expunge()
    return _xx_and_yy
