"""What happens before anything is served: data folder, ports, and how a refusal to start is told."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest
from twisted.internet.defer import Deferred
from twisted.internet.error import CannotListenError

from mailhub import __version__, service
from mailhub.cli.offline import wait
from mailhub.config.settings import Config, parse
from mailhub.data_folder import DataFolder
from mailhub.errors import ConfigurationError
from mailhub.net.link import DriverLimits
from mailhub.service import MailService, make_service
from mailhub.tap import Options, makeService
from tests.roof.test_lifecycle import FakeHub, Reactor, is_locked

LISTEN = '[listen]\nsmtp = ["tcp:25", "tcp:2525"]\nlmtp = ["tcp:24:interface=127.0.0.1"]\n'


@attrs.define(eq=False)
class Port:
    """A port as the service handles it."""

    number: int
    reading: bool = True
    listening: bool = True

    def stopReading(self) -> None:
        self.reading = False

    def startReading(self) -> None:
        self.reading = True

    def stopListening(self) -> None:
        self.listening = False


@attrs.define
class ListeningReactor(Reactor):
    """Opens ports in memory; those in `refused` cannot be."""

    refused: dict[int, int] = attrs.field(factory=dict)
    ports: list[Port] = attrs.field(factory=list)

    def listenTCP(self, port: int, factory: object, backlog: int, interface: str) -> Port:
        if port in self.refused:
            number = self.refused[port]
            refusal: Any = CannotListenError
            raise refusal(interface, port, OSError(number, os.strerror(number)))
        self.ports.append(Port(port))
        return self.ports[-1]


@attrs.define
class Factory:
    tls: object = None
    implicit_tls: bool = False
    limits: DriverLimits = attrs.field(factory=lambda: DriverLimits(connections=10))


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Config:
    monkeypatch.setattr("mailhub.net.listen.has_ipv6", lambda: False)
    (tmp_path / "data").mkdir(mode=0o700)
    return parse(f'hostname = "mx.xx.example"\ndata = "data"\n{LISTEN}', tmp_path / "m.toml")


@pytest.fixture
def _excepthook() -> Iterator[None]:
    before = sys.excepthook
    yield
    sys.excepthook = before


def made(config: Config, reactor: Reactor) -> tuple[MailService, FakeHub]:
    hub = FakeHub(factories={"smtp": Factory(), "lmtp": Factory()})
    found: Any = hub
    return MailService(config, found, reactor), hub


def refusal(config: Config, reactor: Reactor) -> str:
    mail, _ = made(config, reactor)
    with pytest.raises(ConfigurationError) as caught:
        mail.privilegedStartService()
    return str(caught.value).removeprefix(f"{config.file}: ")


def test_ports_are_open_while_root_has_them_and_served_when_all_has_started(config: Config) -> None:
    reactor = ListeningReactor()
    mail, hub = made(config, reactor)
    mail.privilegedStartService()
    mail.startService()
    assert [port.number for port in reactor.ports] == [25, 2525, 24]
    assert not any(port.reading for port in reactor.ports)
    hub.starting.callback(None)
    assert all(port.reading for port in reactor.ports)
    wait(mail.stopService())
    assert not any(port.listening for port in reactor.ports)


@pytest.mark.parametrize(
    ("number", "said"),
    [
        (errno.EADDRINUSE, "Address already in use"),
        (errno.EACCES, "Permission denied (ports below 1024 need root or CAP_NET_BIND_SERVICE)"),
    ],
)
def test_a_port_that_cannot_be_opened_leaves_nothing_behind(config: Config, number: int, said: str) -> None:
    reactor = ListeningReactor(refused={24: number})
    assert refusal(config, reactor) == f'[listen] lmtp = "tcp:24:interface=127.0.0.1": {said}'
    assert [port.listening for port in reactor.ports] == [False, False]
    assert not is_locked(config)


def test_an_endpoint_that_takes_its_time_is_refused(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    """Root is left behind once privilegedStartService() has returned: a port that opens later would be too late."""

    async def later(*_: object) -> None:
        await Deferred()

    monkeypatch.setattr(service, "listen", later)
    assert refusal(config, ListeningReactor()).startswith('[listen] smtp = "tcp:25" does not listen at once')
    assert not is_locked(config)


def test_the_lock_is_exclusive_and_private(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir(mode=0o700)
    first, second = DataFolder(tmp_path / "data"), DataFolder(tmp_path / "data")
    first.prepare()
    first.lock()
    with pytest.raises(ConfigurationError, match=f"another mailhub \\(process {os.getpid()}\\) serves it"):
        second.lock()
    assert (tmp_path / "data" / "mailhub.lock").stat().st_mode & 0o077 == 0
    assert second.server() == os.getpid()
    first.unlock()
    assert second.server() is None  # the file is still there, as after a kill
    second.lock()
    second.unlock()


def test_nobody_serves_a_folder_that_was_never_served(tmp_path: Path) -> None:
    assert DataFolder(tmp_path / "data").server() is None


def test_a_data_folder_that_cannot_be_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigurationError, match="file: is not a folder: mount its volume"):
        DataFolder(tmp_path / "file").prepare()
    with pytest.raises(ConfigurationError, match="gone: is not there: mount its volume"):
        DataFolder(tmp_path / "gone").prepare()
    assert not (tmp_path / "gone").exists()
    (tmp_path / "mailhub.lock").mkdir()
    with pytest.raises(ConfigurationError, match="cannot be locked: Is a directory"):
        DataFolder(tmp_path).lock()
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(ConfigurationError, match="is not writable"):
        DataFolder(tmp_path).prepare()


@pytest.mark.usefixtures("_excepthook")
@pytest.mark.parametrize(
    ("text", "line"),
    [
        (None, ": there is no such file; `mailhub init ADDRESS` writes one\n"),
        ("hostname", ": is not TOML: "),
        (
            'hostname = "h"\ndata = "d"\n[tls]\ncertificate = "c.pem"\nkey = "k.pem"\n[listen]\nimaps = ["tcp:0"]\n',
            '/c.pem": No such file or directory\n',
        ),
        ('hostname = "h"\ndata = "d"\n[delivery]\npolicies = ["spam"]\n', ": [delivery] policies: there is no policy"),
    ],
)
def test_a_mistake_ends_the_start_with_one_line_and_status_1(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    text: str | None,
    line: str,
) -> None:
    monkeypatch.setattr(sys, "__stderr__", sys.stderr)
    file = tmp_path / "m.toml"
    if text is not None:
        file.write_text(text)
    with pytest.raises(SystemExit) as ended:
        make_service(file)
    said = capfd.readouterr().err
    assert ended.value.code == 1
    assert said.startswith(f"mailhub: {file}: ")
    assert line in said
    assert said.count("\n") == 1


@pytest.mark.usefixtures("_excepthook")
def test_a_mistake_that_passes_through_twistd_is_one_line_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "__stderr__", sys.stderr)
    bugs: list[type[BaseException]] = []
    monkeypatch.setattr(sys, "__excepthook__", lambda kind, error, trace: bugs.append(kind))
    (tmp_path / "m.toml").write_text('hostname = "h"\ndata = "d"\n')
    make_service(tmp_path / "m.toml")
    sys.excepthook(ConfigurationError, ConfigurationError("port 25: in\nuse"), None)
    assert capfd.readouterr().err == "mailhub: port 25: in use\n"
    assert bugs == []
    # Anything else is a bug, and shows where it is.
    sys.excepthook(ZeroDivisionError, ZeroDivisionError(), None)
    assert bugs == [ZeroDivisionError]


def parsed(*words: str) -> Options:
    options: Any = Options
    found: Options = options()
    found.parseOptions(words)  # type: ignore[no-untyped-call]
    return found


class TestOptions:
    def test_the_help_says_how_to_begin(self) -> None:
        shown = parsed().getUsage(80)
        for words in ("--config", "MAILHUB_CONFIG", "mailhub init you@example.org", "--user U", "SIGTERM"):
            assert words in shown
        assert all(len(line) <= 80 for line in shown.splitlines())

    def test_the_version(self, capsys: pytest.CaptureFixture[str]) -> None:
        with pytest.raises(SystemExit) as ended:
            parsed("--version")
        assert (ended.value.code, capsys.readouterr().out) == (0, f"mailhub {__version__}\n")

    @pytest.mark.parametrize("words", [["--config", "given.toml"], []])
    def test_the_configuration_is_named_by_option_or_environment(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, words: list[str]
    ) -> None:
        found: list[Path] = []
        monkeypatch.setattr("mailhub.tap.make_service", lambda file, *_, **__: found.append(file))
        monkeypatch.setenv("MAILHUB_CONFIG", str(tmp_path / "named.toml"))
        makeService(parsed(*words))
        assert found == [Path("given.toml") if words else tmp_path / "named.toml"]
