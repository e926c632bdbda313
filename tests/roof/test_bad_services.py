"""Services of plugins that do what they must not: named by name, file and method, counted, and nobody else suffers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from twisted.internet.protocol import Factory, Protocol
from twisted.logger import capturedLogs, formatEvent

from mailhub.interfaces import Service
from mailhub.plugins import Component
from mailhub.testing.hubs import Internet

ERRORS = {b"r": ValueError, b"x": SystemExit, b"g": GeneratorExit, b"k": KeyboardInterrupt}


class Guest(Protocol):
    """Answers, or raises what it is told to."""

    def dataReceived(self, data: bytes) -> None:
        if data[:1] in ERRORS:
            raise ERRORS[data[:1]]("asked for")
        assert self.transport is not None
        self.transport.write(b"ok\r\n")


class Guests(Factory):
    """`fault` is raised where a protocol is asked for."""

    protocol = Guest
    noisy = False
    fault: BaseException | None = None

    def buildProtocol(self, addr: object) -> Any:
        if self.fault is not None:
            raise self.fault
        return Factory.buildProtocol(self, addr)  # type: ignore[arg-type]


class Machine:
    """Each read is an event."""

    closing = False

    def __init__(self) -> None:
        self.events: list[bytes] = []
        self.said = b""

    def receive_data(self, data: bytes) -> None:
        if data[:1] == b"m":
            raise SystemExit(7)
        self.events.append(data)

    def receive_eof(self) -> None:
        self.closing = True

    def next_event(self) -> bytes | None:
        return self.events.pop(0) if self.events else None

    def data_to_send(self) -> bytes:
        said, self.said = self.said, b""
        return said

    def tls_started(self) -> None:
        """None is offered."""


class Session:
    def __init__(self) -> None:
        self.machine = Machine()

    async def connected(self) -> None:
        """Nobody is greeted."""

    async def handle(self, event: bytes) -> None:
        if event[:1] in ERRORS:
            raise ERRORS[event[:1]]("asked for")
        self.machine.said += b"ok\r\n"

    def disconnected(self) -> None:
        """Nothing is kept."""

    def crashed(self, failure: object) -> None:
        self.machine.said += b"failed\r\n"

    def timed_out(self) -> None:
        """Nothing is said."""

    def shutting_down(self) -> None:
        """Nothing is said."""


class Sessions:
    fault: BaseException | None = None

    def session(self, link: object) -> Session:
        if self.fault is not None:
            raise self.fault
        return Session()


class Scene:
    def __init__(self, internet: Internet, made: Any) -> None:
        self.internet, self.made = internet, made
        component = Component("service", "sv", lambda options, hub: made, service=Service(port=79))
        self.host = internet.hub("xx.example", config={"listen": {"sv": ["tcp:79"]}}, plugins=[component])

    def errors(self) -> list[int]:
        return [guard.errors for guard in self.host.hub.guards.of("service")]


@pytest.fixture
def internet() -> Iterator[Internet]:
    with Internet(seed=1) as internet:
        yield internet


def lines(events: Any) -> list[str]:
    return [formatEvent(event) for event in events if event["log_level"].name in ("error", "critical")]


@pytest.mark.parametrize("octet", ERRORS)
@pytest.mark.parametrize(("make", "method"), [(Guests, "dataReceived"), (Sessions, "handle")])
def test_what_a_service_raises_is_named_and_harms_one_connection_alone(
    internet: Internet, make: Any, method: str, octet: bytes
) -> None:
    scene = Scene(internet, make())
    one, other = (internet.call(scene.host, "sv") for _ in range(2))
    with capturedLogs() as events:
        if make is Guests:
            one.transport.write(octet)  # type: ignore[union-attr]
            one.wait_for_end()
        else:
            one.ask(octet, b"failed")
    (line,) = lines(events)
    assert line.startswith("service failed: service=sv session=")
    assert f" method={method} file={__file__} reason=" in line
    assert ERRORS[octet].__name__ in line
    assert scene.errors() == [1]
    other.ask(b"hello", b"ok")


@pytest.mark.parametrize("make", [Guests, Sessions])
def test_one_that_cannot_be_made_is_named_and_the_service_never_rests(internet: Internet, make: Any) -> None:
    scene = Scene(internet, make())
    scene.made.fault = SystemExit("no")
    with capturedLogs() as events:
        for _ in range(7):
            internet.call(scene.host, "sv").wait_for_end()
    method = "buildProtocol" if make is Guests else "session"
    assert [f" method={method} file={__file__} " in line for line in lines(events)] == [True] * 7
    assert scene.errors() == [7]
    scene.made.fault = None
    internet.call(scene.host, "sv").ask(b"hello", b"ok")


def test_a_machine_that_fails_is_named(internet: Internet) -> None:
    scene = Scene(internet, Sessions())
    one, other = (internet.call(scene.host, "sv") for _ in range(2))
    with capturedLogs() as events:
        one.ask(b"m", b"failed")
    (line,) = lines(events)
    assert line.startswith("service failed: service=sv session=")
    assert "SystemExit: 7" in line
    other.ask(b"hello", b"ok")


def test_sessions_of_ours_pay_for_no_guard(internet: Internet) -> None:
    scene = Scene(internet, Sessions())
    assert [guard.name for guard in scene.host.hub.guards.of("service")] == ["sv"]
    assert len(scene.host.hub.factories) > 1
