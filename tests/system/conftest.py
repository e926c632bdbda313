"""Fixtures for tests against real processes and real clients."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from shutil import which

import pytest

from mailhub.testing.process import ServerProcess


def need(*clients: str) -> None:
    """Skip where a real client is missing; fail where the machine was to have them all."""
    missing = [name for name in clients if which(name) is None]
    if missing and os.environ.get("MAILHUB_REQUIRE_CLIENTS"):
        pytest.fail(f"real clients are missing: {', '.join(missing)}")
    if missing:
        pytest.skip(f"not installed: {', '.join(missing)}")


@pytest.fixture
def one_hub(tmp_path: Path) -> Iterator[ServerProcess]:
    """A running hub for xx.example with the accounts a and b."""
    accounts = {f"{name}@xx.example": secrets.token_urlsafe(12) for name in ("a", "b")}
    with ServerProcess(tmp_path / "xx", "xx.example", accounts) as hub:
        yield hub


@pytest.fixture
def two_hubs(tmp_path: Path) -> Iterator[tuple[ServerProcess, ServerProcess]]:
    """XX and YY: each knows the other as a static route."""
    xx = ServerProcess(tmp_path / "xx", "xx.example", {"a@xx.example": secrets.token_urlsafe(12)})
    yy = ServerProcess(tmp_path / "yy", "yy.example", {"b@yy.example": secrets.token_urlsafe(12)})
    xx.extra = f'[route."yy.example"]\nhost = "127.0.0.1:{yy.ports["smtp"]}"\n[queue]\nretry_seconds = [1]\n'
    yy.extra = f'[route."xx.example"]\nhost = "127.0.0.1:{xx.ports["smtp"]}"\n[queue]\nretry_seconds = [1]\n'
    with yy, xx:
        yield xx, yy
