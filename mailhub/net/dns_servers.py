"""Which name servers to ask, and what this machine knows without them: resolv.conf(5) and hosts(5)."""

from __future__ import annotations

import os
from collections.abc import Sequence
from ipaddress import ip_address
from pathlib import Path

import attrs
from twisted.internet.interfaces import IReactorTime

from mailhub.log import Logger

_log = Logger(namespace="mailhub.net.dns")

RESOLV_CONF = Path("/etc/resolv.conf")
_SERVERS = 3  # that resolv.conf(5) counts
_MOST = {"timeout": 30, "attempts": 5}  # as the C library has it
_FILE = 1 << 20  # octets that are read of either file
_LOOK_SECONDS = 1.0


@attrs.frozen
class NameServers:
    """Address and port of each, in the order in which they are asked. `timeout_seconds` and `rounds` where they came
    with numbers of their own."""

    servers: tuple[tuple[str, int], ...] = (("127.0.0.1", 53),)
    timeout_seconds: float | None = None
    rounds: int | None = None

    @classmethod
    def of(cls, texts: Sequence[str]) -> NameServers:
        """`address` or `address#port`; our own machine where there is none."""
        return cls(tuple(_server(text) for text in texts)) if texts else cls()


def _server(text: str) -> tuple[str, int]:
    host, _, port = text.partition("#")
    return host, int(port or 53)


def parse_resolv_conf(text: str) -> NameServers:
    """The first three name servers, and the options `timeout` and `attempts` (resolv.conf(5)). Without a server it is
    our own machine's."""
    servers: list[tuple[str, int]] = []
    options: dict[str, int] = {}
    for line in text.splitlines():
        word, *rest = line.split() or [""]
        if word == "nameserver" and rest and is_address(rest[0]) and len(servers) < _SERVERS:
            servers.append((rest[0], 53))
        elif word == "options":
            for option in rest:
                name, _, value = option.partition(":")
                if name in _MOST and value.isascii() and value.isdigit():
                    options[name] = min(max(1, int(value[:9])), _MOST[name])
    found = NameServers(tuple(servers)) if servers else NameServers()
    return attrs.evolve(found, timeout_seconds=options.get("timeout"), rounds=options.get("attempts"))


def parse_hosts(text: str) -> dict[str, tuple[str, ...]]:
    """Names and their addresses (hosts(5))."""
    hosts: dict[str, tuple[str, ...]] = {}
    for line in text.splitlines():
        address, *names = line.partition("#")[0].split() or [""]
        if is_address(address):
            for name in names:
                known = hosts.get(name.lower(), ())
                hosts[name.lower()] = known if address in known else (*known, address)
    return hosts


def is_address(text: str) -> bool:
    """Whether this is an IP address, with or without a zone."""
    try:
        ip_address(text)
    except ValueError:
        return False
    return True


def is_loopback(text: str) -> bool:
    """Whether this is an address of our own machine alone."""
    return is_address(text) and ip_address(text).is_loopback


class MachineServers:
    """The name servers that this machine is told to use, now: the file is written anew when it comes into another
    network. It is looked at once a second at most, and read when it has changed; while it cannot be read, what it said
    before counts."""

    def __init__(self, clock: IReactorTime, path: Path = RESOLV_CONF) -> None:
        self._clock = clock
        self._path = path
        self._looked = float("-inf")
        self._stamp: tuple[int, int, int] | None = None
        self._found = NameServers()

    def __call__(self) -> NameServers:
        """Whom to ask."""
        now = self._clock.seconds()
        if now - self._looked >= _LOOK_SECONDS:
            self._looked = now
            stamp = self._stamped()
            if stamp != self._stamp:
                self._stamp = stamp
                if stamp is not None:
                    self._found = parse_resolv_conf(_text(self._path))
        return self._found

    def _stamped(self) -> tuple[int, int, int] | None:
        try:
            found = os.stat(self._path)
        except OSError:
            return None
        return found.st_mtime_ns, found.st_ino, found.st_size


def machine_hosts(path: Path = Path("/etc/hosts")) -> dict[str, tuple[str, ...]]:
    """The names this machine knows without asking."""
    return parse_hosts(_text(path))


def _text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return file.read(_FILE).decode(errors="replace")
    except OSError as error:
        _log.warn("cannot read {path:text}: {error:text}", path=str(path), error=error.strerror)
        return ""
