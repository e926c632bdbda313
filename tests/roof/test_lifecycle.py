"""Order of starting and stopping, without a reactor and without ports."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import pytest
from twisted.internet.defer import Deferred, succeed
from twisted.internet.error import ReactorNotRunning
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.task import Clock
from twisted.logger import capturedLogs, formatEvent

from mailhub.cli.offline import environment, opened, wait
from mailhub.components import Hub, build_hub
from mailhub.config.settings import Config, parse
from mailhub.data_folder import DataFolder
from mailhub.errors import ConfigurationError, NoSuchUser, StoreUnavailable
from mailhub.interfaces import IHub
from mailhub.net.crowd import Room
from mailhub.plugins import Component, load_catalogue
from mailhub.reload import read_answer
from mailhub.service import MailService, complain
from mailhub.systemd import Supervisor


@attrs.define
class Reactor:
    """Runs at once unless told otherwise, and remembers that it was stopped."""

    running: bool = True
    waiting: list[Callable[[], object]] = attrs.field(factory=list)
    stopped: int = 0
    clock: Clock = attrs.field(factory=Clock)

    def callLater(self, seconds: float, function: Callable[..., object], *arguments: object) -> IDelayedCall:
        return self.clock.callLater(seconds, function, *arguments)

    def callWhenRunning(self, function: Callable[[], object]) -> None:
        if self.running:
            function()
        else:
            self.waiting.append(function)

    def stop(self) -> None:
        if self.stopped:
            raise ReactorNotRunning
        self.stopped += 1


@attrs.define
class FakeHub:
    """Starts when it is let."""

    hostname: str = "mx.xx.example"
    factories: dict[str, Any] = attrs.field(factory=dict)
    starting: Deferred[None] = attrs.field(factory=Deferred)
    stop_error: Exception | None = None
    stopped: int = 0
    room: Room = attrs.field(factory=Room)

    async def start(self) -> None:
        await self.starting

    async def stop(self) -> None:
        self.stopped += 1
        if self.stop_error is not None:
            raise self.stop_error


@pytest.fixture
def config(tmp_path: Path) -> Config:
    (tmp_path / "data").mkdir(mode=0o700)
    return parse('hostname = "mx.xx.example"\ndata = "data"\n', tmp_path / "m.toml")


@pytest.fixture
def exits(monkeypatch: pytest.MonkeyPatch) -> list[Callable[[], None]]:
    """What would run when the process ends."""
    registered: list[Callable[[], None]] = []
    monkeypatch.setattr("atexit.register", registered.append)
    return registered


def made(config: Config, hub: FakeHub, reactor: Reactor) -> MailService:
    found: Any = hub
    mail = MailService(config, found, reactor)
    mail.privilegedStartService()
    mail.startService()
    return mail


def is_locked(config: Config) -> bool:
    folder = DataFolder(config.data)
    try:
        folder.lock()
    except ConfigurationError:
        return True
    folder.unlock()
    return False


def test_it_is_ready_when_everything_has_started(config: Config, capfd: pytest.CaptureFixture[str]) -> None:
    hub, reactor = FakeHub(), Reactor()
    with capturedLogs() as events:
        mail = made(config, hub, reactor)
        assert not events
        hub.starting.callback(None)
    assert formatEvent(events[0]).startswith("mailhub is ready: ")
    assert is_locked(config)
    wait(mail.stopService())
    assert (hub.stopped, reactor.stopped) == (1, 0)
    assert not is_locked(config)
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ConfigurationError("data/mailhub.sqlite: is\nbroken"), "mailhub: data/mailhub.sqlite: is broken\n"),
        (
            StoreUnavailable(detail="disk full"),
            "mailhub: cannot start: StoreUnavailable: 4.3.0 Storage is not",
        ),
        (KeyError("oops"), "mailhub: cannot start: KeyError: 'oops'\n"),
    ],
)
def test_a_failed_start_is_one_line_and_ends_the_process_with_status_1(
    config: Config,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    exits: list[Callable[[], None]],
    error: Exception,
    line: str,
) -> None:
    monkeypatch.setattr(sys, "__stderr__", sys.stderr)
    hub, reactor = FakeHub(), Reactor()
    mail = made(config, hub, reactor)
    hub.starting.errback(error)
    said = capfd.readouterr().err
    assert said.startswith(line)
    assert said.count("\n") == 1
    assert reactor.stopped == 1
    # What has started is stopped all the same.
    wait(mail.stopService())
    assert hub.stopped == 1
    statuses: list[int] = []
    monkeypatch.setattr(os, "_exit", statuses.append)
    for function in exits:
        function()
    assert statuses == [1]


@attrs.define(eq=False)
class Noting(Supervisor):
    """Notes what systemd would be told."""

    told: list[str] = attrs.field(factory=list)

    def _tell(self, *lines: str) -> None:
        self.told += lines


def test_systemd_is_told_when_ports_are_served_and_when_they_are_closed(config: Config) -> None:
    hub, clock = FakeHub(), Clock()
    found: Any = hub
    supervisor = Noting(clock, "@nobody", watchdog=15.0)
    mail = MailService(config, found, Reactor(), supervisor)
    mail.privilegedStartService()
    mail.startService()
    assert "READY=1" not in supervisor.told
    hub.starting.callback(None)
    assert supervisor.told[-3:] == ["READY=1", "STATUS=serving", "WATCHDOG=1"]
    wait(mail.stopService())
    assert "STOPPING=1" in supervisor.told
    assert clock.getDelayedCalls() == []


def test_what_is_asked_before_the_start_is_over_is_done_after_it(config: Config, monkeypatch: Any) -> None:
    """By a hub of its own, whose start takes as long as it is let."""
    config.file.write_text('hostname = "new.xx.example"\ndata = "data"\n')
    with opened(config, "create"):
        pass
    hub = build_hub(config, environment(config), load_catalogue())
    starting: Deferred[None] = Deferred()

    async def start() -> None:
        await starting

    monkeypatch.setattr(type(hub), "start", lambda _: start())
    reactor: Any = Reactor()
    mail = MailService(config, hub, reactor)
    mail.privilegedStartService()
    mail.startService()
    lock = config.data / "mailhub.lock"
    os.utime(lock, (0, 0))
    mail.reload()
    assert hub.hostname == "mx.xx.example"
    starting.callback(None)
    assert hub.hostname == "new.xx.example"
    outcome = read_answer(config.data)
    assert outcome is not None
    assert (outcome.fault, outcome.changed) == ("", ("hostname",))
    assert abs(lock.stat().st_mtime - outcome.read_at) < 0.001
    wait(mail.stopService())
    mail.reload()
    outcome = read_answer(config.data)
    assert outcome is not None
    assert outcome.fault == "the server is stopping"


def test_a_stop_that_comes_while_it_starts_waits_for_the_start(config: Config) -> None:
    hub = FakeHub()
    mail = made(config, hub, Reactor())
    stopping = mail.stopService()
    assert hub.stopped == 0
    hub.starting.callback(None)
    wait(stopping)
    assert hub.stopped == 1


def test_a_start_that_never_ends_is_given_up_when_it_is_to_stop(config: Config) -> None:
    hub, reactor = FakeHub(), Reactor()
    stopping = made(config, hub, reactor).stopService()
    assert not stopping.called
    reactor.clock.advance(11)
    assert stopping.called
    assert (hub.stopped, reactor.stopped) == (1, 0)
    assert not is_locked(config)


def test_a_start_that_fails_while_it_is_stopped_still_stops_in_good_order(
    config: Config, exits: list[Callable[[], None]]
) -> None:
    hub, reactor = FakeHub(), Reactor()
    mail = made(config, hub, reactor)
    reactor.stop()
    stopping = mail.stopService()
    hub.starting.errback(ConfigurationError("no disk"))
    wait(stopping)
    assert hub.stopped == 1
    assert not is_locked(config)
    assert len(exits) == 1


def test_a_stop_before_the_reactor_runs_starts_nothing(config: Config) -> None:
    hub, reactor = FakeHub(), Reactor(running=False)
    mail = made(config, hub, reactor)
    wait(mail.stopService())
    (begin,) = reactor.waiting
    with capturedLogs() as events:
        begin()
        hub.starting.callback(None)
    assert not events


def test_a_part_that_does_not_stop_in_good_order_is_logged_and_keeps_no_lock(config: Config) -> None:
    hub = FakeHub(stop_error=RuntimeError("stuck"))
    mail = made(config, hub, Reactor())
    hub.starting.callback(None)
    with capturedLogs() as events:
        wait(mail.stopService())
    assert "did not stop in good order" in formatEvent(events[0])
    assert not is_locked(config)


def test_a_daemon_tells_its_log(monkeypatch: pytest.MonkeyPatch) -> None:
    with Path(os.devnull).open("w") as null, capturedLogs() as events:
        monkeypatch.setattr(sys, "__stderr__", null)
        complain("no disk")
    assert [formatEvent(event) for event in events] == ["mailhub: no disk"]


@attrs.define
class RecordingStore:
    """A foreign store that notes when it is opened and closed, and whether the database is open then."""

    hub: IHub
    notes: list[str]
    broken: bool = False

    async def _note(self, what: str) -> None:
        await self.hub.accounts.all()
        self.notes.append(what)

    async def start(self) -> None:
        if self.broken:
            raise ConfigurationError("no such server")
        await self._note("store started")

    async def stop(self) -> None:
        await self._note("store stopped")

    async def exists(self, user: str) -> bool:
        return False

    async def account(self, user: str, create: bool = False) -> None:
        raise NoSuchUser

    async def check_quota(self, user: str, size: int) -> None:
        raise NoSuchUser


def recording_hub(config: Config, notes: list[str], **more: bool) -> Hub:
    def make(_: object, hub: IHub) -> RecordingStore:
        return RecordingStore(hub, notes, **more)

    catalogue = load_catalogue()
    factories = (*catalogue.factories, Component("store", "recording", make))
    changed = attrs.evolve(config, store=attrs.evolve(config.store, type="recording"))
    with opened(config, "create"):
        pass
    return build_hub(changed, environment(config), attrs.evolve(catalogue, factories=factories))


def test_a_foreign_store_lives_within_the_life_of_the_database(config: Config) -> None:
    notes: list[str] = []
    hub = recording_hub(config, notes)
    wait(hub.start())
    assert notes == ["store started"]
    wait(hub.stop())
    assert notes == ["store started", "store stopped"]
    with pytest.raises(StoreUnavailable):
        wait(hub.accounts.all())


def test_a_foreign_store_need_not_wait(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    notes: list[str] = []

    def stop(_: object) -> Deferred[None]:
        notes.append("stopped")
        return succeed(None)

    monkeypatch.setattr(RecordingStore, "start", lambda _: notes.append("started"))
    monkeypatch.setattr(RecordingStore, "stop", stop)
    hub = recording_hub(config, notes)
    wait(hub.start())
    wait(hub.stop())
    assert notes == ["started", "stopped"]


def test_what_has_started_is_stopped_when_a_later_part_cannot_start(config: Config) -> None:
    hub = recording_hub(config, [], broken=True)
    with pytest.raises(ConfigurationError, match="no such server"):
        wait(hub.start())
    # The store's own stop() needs the database, which is there for it still.
    wait(hub.stop())
    with pytest.raises(StoreUnavailable):
        wait(hub.accounts.all())
