"""What systemd is told, on a real datagram socket."""

from __future__ import annotations

import os
import secrets
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from twisted.internet.task import Clock

from mailhub.systemd import Supervisor


@pytest.fixture(params=["path", "abstract"])
def heard(request: pytest.FixtureRequest) -> Iterator[tuple[str, socket.socket]]:
    """$NOTIFY_SOCKET and its other end."""
    name = f"mailhub-{secrets.token_hex(8)}"
    path = Path("/tmp") / name
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
        channel.setblocking(False)
        channel.bind(f"\0{name}" if request.param == "abstract" else str(path))
        yield (f"@{name}" if request.param == "abstract" else str(path)), channel
    path.unlink(missing_ok=True)


def said(channel: socket.socket) -> list[str]:
    found = []
    try:
        while True:
            found.append(channel.recv(4096).decode())
    except BlockingIOError:
        return found


def test_the_life_of_a_server(heard: tuple[str, socket.socket]) -> None:
    address, channel = heard
    clock = Clock()
    supervisor = Supervisor.of({"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "30000000"}, clock)
    assert said(channel) == []
    supervisor.starting()
    clock.advance(20)
    assert said(channel) == ["EXTEND_TIMEOUT_USEC=60000000"] * 2
    supervisor.ready("serving")
    assert said(channel) == ["READY=1\nSTATUS=serving", "WATCHDOG=1"]
    # A sign of life at half the time, and no more patience is asked for.
    clock.advance(14)
    assert said(channel) == []
    clock.pump([1, 15])
    assert said(channel) == ["WATCHDOG=1"] * 2
    supervisor.reloading()
    (line,) = said(channel)
    assert line.startswith("RELOADING=1\nMONOTONIC_USEC=")
    assert int(line.rpartition("=")[2]) > 0
    supervisor.ready("serving")
    assert said(channel)[0].startswith("READY=1")
    supervisor.stopping()
    assert said(channel) == ["STOPPING=1", "EXTEND_TIMEOUT_USEC=60000000\nWATCHDOG=1"]
    supervisor.stopped()
    assert clock.getDelayedCalls() == []


def test_without_systemd_nothing_is_told(heard: tuple[str, socket.socket]) -> None:
    _, channel = heard
    clock = Clock()
    supervisor = Supervisor.of({"WATCHDOG_USEC": "30000000"}, clock)
    supervisor.starting()
    supervisor.ready("serving")
    supervisor.stopping()
    assert said(channel) == []
    assert clock.getDelayedCalls() == []


@pytest.mark.parametrize("watchdog", [{}, {"WATCHDOG_USEC": "soon"}, {"WATCHDOG_USEC": "9", "WATCHDOG_PID": "1"}])
def test_a_watchdog_that_is_not_ours_is_not_fed(heard: tuple[str, socket.socket], watchdog: dict[str, str]) -> None:
    address, channel = heard
    clock = Clock()
    Supervisor.of({"NOTIFY_SOCKET": address, **watchdog}, clock).ready("serving")
    assert said(channel) == ["READY=1\nSTATUS=serving"]
    assert clock.getDelayedCalls() == []
    ours = {"WATCHDOG_USEC": "9000000", "WATCHDOG_PID": str(os.getpid())}
    assert Supervisor.of(ours, clock).watchdog == 4.5


def test_a_socket_that_is_gone_holds_nobody_up(tmp_path: Path) -> None:
    Supervisor(Clock(), str(tmp_path / "gone")).ready("serving")
