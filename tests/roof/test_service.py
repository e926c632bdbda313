"""Starting and stopping the real thing: what goes wrong is one line on standard error and status 1."""

from __future__ import annotations

import os
import signal
import socket
import sqlite3
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest
from twisted.internet.selectreactor import SelectReactor

from mailhub.cli.offline import opened
from mailhub.config.settings import load
from mailhub.data_folder import DataFolder
from mailhub.net.certificates import self_signed
from mailhub.service import wait_steadily
from mailhub.testing.process import BIN, DEADLINE, ServerProcess, free_ports

CHECKOUT = Path(__file__).parents[2]


@attrs.frozen
class Setup:
    """A configuration that works, to be spoilt."""

    folder: Path
    port: int

    @property
    def config(self) -> Path:
        return self.folder / "mailhub.toml"

    @property
    def data(self) -> Path:
        return self.folder / "data"

    def spoil(self, old: str, new: str) -> None:
        text = self.config.read_text()
        assert old in text
        self.config.write_text(text.replace(old, new))


@pytest.fixture
def setup(tmp_path: Path) -> Setup:
    (port,) = free_ports(1)
    certificate, key = self_signed(["mx.xx.example"], days=30, now=1_790_000_000)
    (tmp_path / "certificate.pem").write_bytes(certificate)
    (tmp_path / "key.pem").write_bytes(key)
    (tmp_path / "mailhub.toml").write_text(
        'hostname = "mx.xx.example"\ndata = "data"\ndomains = ["xx.example"]\n'
        '[tls]\ncertificate = "certificate.pem"\nkey = "key.pem"\n'
        f'[listen]\nimaps = ["tcp:{port}:interface=127.0.0.1"]\n'
    )
    return Setup(tmp_path, port)


def as_plugin(setup: Setup) -> tuple[list[str], dict[str, str]]:
    return ["-n", "mailhub", "--config", str(setup.config)], {}


def as_tac(setup: Setup) -> tuple[list[str], dict[str, str]]:
    return ["-ny", str(CHECKOUT / "mailhub.tac")], {"MAILHUB_CONFIG": str(setup.config)}


Start = Callable[[Setup], tuple[list[str], dict[str, str]]]


def failed_start(setup: Setup, how: Start) -> str:
    """The one line."""
    words, more = how(setup)
    ended = subprocess.run(
        [BIN / "twistd", *words],
        cwd=setup.folder,
        env={**os.environ, **more},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode == 1, ended.stdout
    assert ended.stderr.startswith("mailhub: ")
    assert ended.stderr.count("\n") == 1, ended.stderr
    assert "Traceback" not in ended.stdout
    assert not (setup.folder / "twistd.pid").exists()
    return ended.stderr


pytestmark = pytest.mark.system
both = pytest.mark.parametrize("how", [as_plugin, as_tac])


@both
def test_a_mistake_in_the_configuration(setup: Setup, how: Start) -> None:
    setup.spoil("domains", "domain")
    assert f"{setup.config}: domain: unknown key; did you mean domains?" in failed_start(setup, how)


def test_a_port_in_use(setup: Setup) -> None:
    with opened(load(setup.config), "create"):
        pass
    with socket.create_server(("127.0.0.1", setup.port)):
        line = failed_start(setup, as_plugin)
    assert f'[listen] imaps = "tcp:{setup.port}:interface=127.0.0.1": Address already in use' in line


def test_a_database_of_a_newer_mailhub(setup: Setup) -> None:
    """It is noticed when the reactor runs already."""
    setup.data.mkdir()
    with sqlite3.connect(setup.data / "mailhub.sqlite") as database:
        database.execute("CREATE TABLE account (id INTEGER)")
        database.execute("PRAGMA user_version = 1000")
    database.close()
    assert "was written by a newer mailhub" in failed_start(setup, as_tac)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """One for all that follows. It may be killed and started again."""
    with ServerProcess(tmp_path_factory.mktemp("server") / "xx", "xx.example", {}) as running:
        yield running


def test_a_second_server_on_the_same_data(server: ServerProcess) -> None:
    second = Setup(server.folder, 0)
    line = failed_start(second, as_plugin)
    assert server.process is not None
    pid = server.process.pid
    assert line == f"mailhub: {second.config}: data folder {second.data}: another mailhub (process {pid}) serves it\n"


def test_the_lock_ends_with_the_process_however_that_ends(server: ServerProcess) -> None:
    server.stop(signal.SIGKILL)
    server.start()


def test_stopping_says_farewell_and_frees_everything(server: ServerProcess) -> None:
    with socket.create_connection(("127.0.0.1", server.ports["imap"]), DEADLINE) as client:
        reader = client.makefile("rb")
        assert reader.readline().startswith(b"* OK")
        stopping = threading.Thread(target=server.stop)
        stopping.start()
        assert reader.readline().startswith(b"* BYE")
        assert reader.readline() == b""
    stopping.join()
    folder = DataFolder(server.folder / "data")
    folder.lock()
    folder.unlock()
    assert "mailhub has stopped" in "".join(server.log)
    assert "Traceback" not in "".join(server.log)
    server.start()


def test_accounts_can_be_changed_while_the_server_runs(server: ServerProcess) -> None:
    server.command("account", "add", "new@xx.example", "--password-stdin", stdin="first\n")
    server.accounts = {"new@xx.example": "first"}
    server.imap("new@xx.example").logout()
    server.command("account", "password", "new@xx.example", "--password-stdin", stdin="second\n")
    with pytest.raises(Exception, match="AUTHENTICATIONFAILED"):
        server.imap("new@xx.example")
    server.accounts = {"new@xx.example": "second"}
    server.imap("new@xx.example").logout()
    server.command("account", "remove", "new@xx.example", "--yes")
    with pytest.raises(Exception, match="AUTHENTICATIONFAILED"):
        server.imap("new@xx.example")


def test_waits_are_measured_by_a_clock_that_nobody_sets() -> None:
    reactor: Any = SelectReactor()
    early = reactor.callLater(5, int)
    wait_steadily(reactor)
    late = reactor.callLater(5, int)
    wait_steadily(reactor)
    assert reactor.seconds is time.monotonic
    assert early.getTime() <= late.getTime() <= reactor.seconds() + 5
