"""`make demo`: made once, kept, mended when a start was cut short; and the Makefile's own promises."""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import socket
import ssl
import stat
import subprocess
from pathlib import Path

import pytest

from mailhub import demo
from mailhub.auth.passwords import hash_password, verify_password
from mailhub.cli.offline import environment, opened
from mailhub.components import build_hub
from mailhub.config.settings import Config, load
from mailhub.data_folder import DataFolder
from mailhub.plugins import load_catalogue
from mailhub.testing.process import free_ports
from tests.hashing import CHEAP

CHECKOUT = Path(__file__).parents[2]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("mailhub.cli.passwords.hash_password", lambda password: hash_password(password, CHEAP))
    return tmp_path / "demo"


def messages(folder: Path) -> dict[str, int]:
    """How many messages each account's INBOX has."""
    with opened(load(folder / "mailhub.toml")) as hub:
        store = hub.database.store
        inboxes = {user: hub.wait(hub.wait(store.account(user)).mailbox("INBOX")) for user in demo.ACCOUNTS}
        return {user: hub.wait(inbox.status()).messages for user, inbox in inboxes.items()}


def test_it_is_made_once_and_kept(folder: Path) -> None:
    first = demo.prepare(folder)
    key = (folder / "key.pem").read_bytes()
    assert set(first) == {"a@xx.example", "b@yy.example"}
    assert messages(folder) == {"a@xx.example": 1, "b@yy.example": 1}
    assert demo.prepare(folder) == first
    assert (folder / "key.pem").read_bytes() == key
    assert messages(folder) == {"a@xx.example": 1, "b@yy.example": 1}
    assert stat.S_IMODE((folder / "passwords.json").stat().st_mode) == 0o600


def test_passwords_that_were_lost_are_made_anew(folder: Path) -> None:
    demo.prepare(folder)
    (folder / "passwords.json").unlink()
    known = demo.prepare(folder)
    with opened(load(folder / "mailhub.toml")) as hub:
        for user, password in known.items():
            account = hub.wait(hub.accounts.find(user))
            assert account is not None
            assert verify_password(account.password_hash, password)


def test_a_welcome_that_a_crash_prevented_comes_with_the_next_start(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def crash(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(demo, "_welcome", crash)
        with pytest.raises(KeyboardInterrupt):
            demo.prepare(folder)
    demo.prepare(folder)
    assert messages(folder) == {"a@xx.example": 1, "b@yy.example": 1}


def test_its_configuration_is_one_that_serves_on_loopback_only(folder: Path) -> None:
    demo.prepare(folder)
    config = load(folder / "mailhub.toml")
    hub = build_hub(config, environment(config), load_catalogue())
    assert len(hub.factories) == 7
    endpoints = [endpoint for listed in config.listen.values() for endpoint in listed]
    assert all(endpoint.endswith(":interface=127.0.0.1") for endpoint in endpoints)
    assert config.routes["*"].agent == "refuse"


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "mail.xx.example"])
def test_its_authority_vouches_for_its_certificate_by_every_name(folder: Path, host: str) -> None:
    demo.prepare(folder)
    server, client = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    server.load_cert_chain(folder / "certificate.pem", folder / "key.pem")
    client.load_verify_locations(folder / "authority.pem")
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [
        client.wrap_bio(to_client, to_server, server_hostname=host),
        server.wrap_bio(to_server, to_client, server_side=True),
    ]
    for _ in range(4):
        for end in ends:
            with contextlib.suppress(ssl.SSLWantReadError):
                end.do_handshake()
    assert ends[0].getpeercert()


def test_a_demo_of_old_gets_a_certificate_that_its_new_authority_vouches_for(folder: Path) -> None:
    demo.prepare(folder)
    before = (folder / "certificate.pem").read_bytes()
    (folder / "authority.pem").unlink()
    demo.prepare(folder)
    assert (folder / "certificate.pem").read_bytes() != before
    assert (folder / "authority.pem").exists()


def start(folder: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What `make demo` would go on as; none where it does not. Raises SystemExit."""
    started: list[str] = []
    monkeypatch.setattr("sys.argv", ["demo", str(folder), "twistd", "-n"])
    monkeypatch.setattr("os.execvp", lambda _, words: started.extend(words))
    monkeypatch.setenv("MAILHUB_CONFIG", "")
    demo.main()
    return started


def on_free_ports(folder: Path) -> Config:
    demo.prepare(folder)
    file = folder / "mailhub.toml"
    ports = iter(free_ports(7))
    file.write_text(re.sub(r"tcp:1\d+", lambda _: f"tcp:{next(ports)}", file.read_text()))
    return load(file)


def test_a_demo_that_runs_already_says_so_and_how_to_reach_it(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    config = on_free_ports(folder)
    assert start(folder, monkeypatch) == ["twistd", "-n"]
    assert os.environ["MAILHUB_CONFIG"] == str(folder / "mailhub.toml")
    capsys.readouterr()
    running = DataFolder(config.data)
    running.lock()
    assert start(folder, monkeypatch) == []
    running.unlock()
    told = capsys.readouterr().out
    assert told.endswith(f"The demo runs already (pid {os.getpid()}).\n")
    assert "a@xx.example" in told


def test_a_port_in_use_is_told_instead_of_the_welcome(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    endpoint = on_free_ports(folder).listen["imaps"][0]
    with socket.create_server(("127.0.0.1", int(endpoint.split(":")[1]))), pytest.raises(SystemExit) as ended:
        start(folder, monkeypatch)
    assert str(ended.value) == (
        f"mailhub: demo: imaps cannot be served at {endpoint} (Address already in use): stop what uses it, or change "
        f"{folder / 'mailhub.toml'}"
    )
    assert capsys.readouterr().out == ""


def test_the_guide_names_every_port_and_password(folder: Path) -> None:
    known = demo.prepare(folder)
    text = demo.guide(folder, known)
    for word in (*known, *known.values(), "1025", "1587", "1465", "1110", "1995", "1143", "1993"):
        assert word in text
    swaks = re.search(r"swaks (?:.*\\\n)*.*", text)
    assert swaks
    # What has just been sent is read: the newest, and in a new folder the second.
    assert "1993/INBOX;MAILINDEX=*'" in text
    assert "1995/2'" in text
    # The lines can be pasted as they are.
    assert shlex.split(swaks[0])[-1] == "Subject: hello"


@pytest.mark.parametrize("target", ["demo", "test", "lint", "bench", "clean"])
def test_the_makefile_has_the_targets_and_says_so(target: str) -> None:
    shown = subprocess.run(["make", "-C", CHECKOUT, "help"], capture_output=True, text=True, check=True).stdout
    assert f"make {target} " in shown
    dry = subprocess.run(["make", "-C", CHECKOUT, "-n", target], capture_output=True, text=True, check=False)
    assert dry.returncode == 0, dry.stderr


@pytest.mark.parametrize(
    ("python", "line"),
    [
        ("/no/such/python", "mailhub needs Python 3.11, 3.12 or 3.13, and /no/such/python is not one of them"),
        (None, "mailhub needs Python 3.11, 3.12 or 3.13 (none found); name it with PYTHON=/path/to/python3.12"),
    ],
)
def test_a_machine_without_a_suitable_python_is_told_what_to_do(tmp_path: Path, python: str | None, line: str) -> None:
    environ = {"PATH": str(tmp_path)} | ({"PYTHON": python} if python else {})
    (tmp_path / "sh").symlink_to("/bin/sh")
    done = subprocess.run(
        [CHECKOUT / ".ci" / "venv", tmp_path / "venv"], env=environ, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (1, line + "\n")


def test_missing_clients_are_named_or_fail_the_build(tmp_path: Path) -> None:
    (tmp_path / "curl").symlink_to("/bin/true")
    (tmp_path / "id").write_text("#!/bin/sh\necho 1000\n")
    (tmp_path / "id").chmod(0o755)
    script = CHECKOUT / ".ci" / "clients"
    environ = {"PATH": str(tmp_path), "MAILHUB_CLIENTS_CACHE": str(tmp_path / "cache")}
    (tmp_path / "cache" / "nodemailer" / "node_modules").mkdir(parents=True)
    named = "swaks libnet-ssleay-perl isync fetchmail getmail6 msmtp mutt fail2ban postfix nodejs npm "
    named += "unbound opendkim rspamd iproute2"
    done = subprocess.run([script], env=environ, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.endswith(f"sudo apt-get install {named}\n")
    environ["MAILHUB_REQUIRE_CLIENTS"] = "1"
    done = subprocess.run([script], env=environ, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (1, f"missing mail clients and servers: {named}\n")
    for name in (
        "swaks",
        "mbsync",
        "fetchmail",
        "getmail",
        "msmtp",
        "mutt",
        "fail2ban-regex",
        "postfix",
        "node",
        "npm",
        "unbound",
        "opendkim",
        "rspamd",
        "ip",
        "cmp",
    ):
        os.symlink("/bin/true", tmp_path / name)
    assert subprocess.run([script], env=environ, check=False).returncode == 0
