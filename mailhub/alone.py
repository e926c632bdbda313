"""What stands for a hub's surroundings and configuration where there is no hub."""

from __future__ import annotations

import socket
import tempfile
import time
from collections.abc import Collection, Mapping
from pathlib import Path
from random import SystemRandom
from typing import Any

from mailhub.config import rules
from mailhub.config.settings import Config, from_values
from mailhub.interfaces import Environment
from mailhub.net.network import ReactorNetwork
from mailhub.threads import ReactorThreads


def real_environment() -> Environment:
    """The reactor, which stays as it is. Nothing is kept in a folder, and no DNS is asked."""
    from twisted.internet import reactor

    any_reactor: Any = reactor
    nobody: Any = None
    return Environment(
        clock=any_reactor,
        threads=ReactorThreads(any_reactor),
        network=ReactorNetwork(any_reactor),
        resolver=nobody,
        random=SystemRandom(),
        data=Path(tempfile.gettempdir()),
        wall=time.time,
    )


def settings(maker: str, *, hostname: str = "", domains: Collection[str] = (), **tables: Mapping[str, Any]) -> Config:
    """What is said as a configuration file would have it, with its checks; `maker` stands in messages where the file's
    name would. Raises ConfigurationError."""
    top = {"hostname": hostname or _machine(), "data": tempfile.gettempdir(), "domains": list(domains)}
    return from_values({**top, **{name: dict(table) for name, table in tables.items()}}, Path(maker))


def _machine() -> str:
    """What the machine calls itself; no DNS is asked for more."""
    name = socket.gethostname()
    try:
        return rules.domain(name)
    except ValueError:
        return "localhost"
