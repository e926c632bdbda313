"""A whole mail server as a real process: its own folder, its own ports on loopback, real `twistd`.

For system tests and benchmarks, ours and those of people who write plugins. Blocking code, meant for a test's thread.
"""

from __future__ import annotations

import contextlib
import imaplib
import os
import secrets
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Self, TypeVar

import attrs

from mailhub import services
from mailhub.cli.offline import opened
from mailhub.cli.passwords import hashed
from mailhub.config.settings import load
from mailhub.message.address import Address
from mailhub.net.certificates import self_signed

BIN = Path(sys.executable).parent
# Those with a usual port: a local socket is not tried here.
SERVICES = tuple(name for name, service in services.SERVICES.items() if service.port)
_PORTS = range(10_000, 32_000)
DEADLINE = 30.0  # seconds; a bound on waiting, never a measure

T = TypeVar("T")


def eventually(probe: Callable[[], T], what: str, deadline: float = DEADLINE) -> T:
    """Ask again until the answer is true; for what has no event to wait for. Raises AssertionError."""
    end = time.monotonic() + deadline
    pause = threading.Event()
    while True:
        answer = probe()
        if answer:
            return answer
        assert time.monotonic() < end, f"never happened: {what}"
        pause.wait(0.02)


def free_ports(count: int) -> list[int]:
    """Ports on loopback that nobody listens on at the moment.

    They lie below those that outgoing connections get, so that no client takes one before the server opens it.
    """
    ports: set[int] = set()
    while len(ports) < count:
        port = secrets.choice(_PORTS)
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
            ports.add(port)
    return list(ports)


def insecure_tls() -> ssl.SSLContext:
    """A client context that takes the self-signed certificate of a test server."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def run(
    *command: str | Path, stdin: str = "", check: bool = True, env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end, bounded, and show what it said when it fails."""
    result = subprocess.run(
        [str(part) for part in command],
        input=stdin,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=60,
        check=False,
        env={**os.environ, **(env or {})},
    )
    assert not check or result.returncode == 0, f"{command[0]} said:\n{result.stdout}\n{result.stderr}"
    return result


@attrs.define
class ServerProcess:
    """One server for one domain with the given accounts (address -> password).

    `extra` is added to its configuration. Set what you like, then `prepare()` and `start()`, which returns when the
    server is ready; or use it as a context manager, which does both and stops it.
    """

    folder: Path
    domain: str
    accounts: Mapping[str, str]
    extra: str = ""
    ports: dict[str, int] = attrs.field(factory=lambda: dict(zip(SERVICES, free_ports(len(SERVICES)), strict=True)))
    process: subprocess.Popen[str] | None = None
    log: list[str] = attrs.field(factory=list)

    @property
    def config(self) -> Path:
        """The configuration file."""
        return self.folder / "mailhub.toml"

    def prepare(self) -> None:
        """Make certificate, configuration and accounts."""
        self.folder.mkdir(parents=True, exist_ok=True)
        certificate, key = self_signed([f"mx.{self.domain}", "localhost"], days=30, now=time.time())
        (self.folder / "fullchain.pem").write_bytes(certificate)
        (self.folder / "privkey.pem").touch(0o600)
        (self.folder / "privkey.pem").write_bytes(key)
        listen = "\n".join(f'{name} = ["tcp:{port}:interface=127.0.0.1"]' for name, port in self.ports.items())
        self.config.write_text(
            f'hostname = "mx.{self.domain}"\ndata = "data"\ndomains = ["{self.domain}"]\n'
            f'[tls]\ncertificate = "fullchain.pem"\nkey = "privkey.pem"\n[listen]\n{listen}\n{self.extra}\n'
        )
        # Not by the command: a process for each account would take longer than the server's start.
        with opened(load(self.config), "create") as hub:
            for address, password in self.accounts.items():
                hub.wait(hub.accounts.add(Address.parse(address).key, hashed(address, password)))

    def command(self, *words: str, stdin: str = "", check: bool = True) -> subprocess.CompletedProcess[str]:
        """`mailhub --config F ...`."""
        return run(BIN / "mailhub", "--config", self.config, *words, stdin=stdin, check=check)

    def start(self) -> None:
        """Launch twistd and wait until the server says that it is ready. Raises AssertionError with its log."""
        process = subprocess.Popen(
            [str(BIN / "twistd"), "-n", "--pidfile=", "mailhub", "--config", str(self.config)],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            cwd=self.folder,
        )
        ready = threading.Event()

        def read() -> None:
            assert process.stdout is not None
            for line in process.stdout:
                self.log.append(line)
                if "mailhub is ready" in line:
                    ready.set()
            ready.set()

        threading.Thread(target=read, daemon=True).start()
        self.process = process
        assert ready.wait(DEADLINE), "".join(self.log)
        assert process.poll() is None, "".join(self.log)

    def stop(self, how: signal.Signals = signal.SIGTERM) -> int:
        """End the process and wait for it; returns its exit status."""
        assert self.process is not None
        self.process.send_signal(how)
        try:
            return self.process.wait(DEADLINE)
        finally:
            self.process.kill()
            self.process = None

    def __enter__(self) -> Self:
        self.prepare()
        self.start()
        return self

    def __exit__(self, *unused: object) -> None:
        if self.process is not None:
            self.stop()

    def cpu_seconds(self) -> float:
        """User and system time that the process has used so far."""
        assert self.process is not None
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def resident_octets(self) -> int:
        """Memory in use (VmRSS)."""
        assert self.process is not None
        pages = int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")

    def imap(self, user: str) -> imaplib.IMAP4_SSL:
        """A logged-in IMAP connection."""
        client = imaplib.IMAP4_SSL("127.0.0.1", self.ports["imaps"], ssl_context=insecure_tls(), timeout=DEADLINE)
        # imaplib's own LOGIN is ASCII only.
        client.authenticate("PLAIN", lambda _: f"\0{user}\0{self.accounts[user]}".encode())
        return client

    def messages(self, user: str, mailbox: str = "INBOX") -> list[bytes]:
        """The octets of every message of a mailbox, through IMAP, nothing marked as read."""
        with self.imap(user) as client:
            client.select(mailbox, readonly=True)
            kind, data = client.fetch("1:*", "(BODY.PEEK[])")
            return [part[1] for part in data if isinstance(part, tuple)] if kind == "OK" else []

    def wait_for_messages(self, user: str, count: int, mailbox: str = "INBOX") -> list[bytes]:
        """All messages of a mailbox, once there are `count` of them."""

        def enough() -> list[bytes]:
            found = self.messages(user, mailbox)
            return found if len(found) >= count else []

        return eventually(enough, f"{count} messages for {user}")
