"""`make demo`: made once, kept, mended when a start was cut short; and the Makefile's own promises."""

from __future__ import annotations

import os
import re
import shlex
import stat
import subprocess
from pathlib import Path

import pytest

from mailhub import demo
from mailhub.auth.passwords import CHEAP, hash_password, verify_password
from mailhub.cli.offline import environment, opened
from mailhub.components import build_hub
from mailhub.config.settings import load
from mailhub.plugins import load_catalogue

CHECKOUT = Path(__file__).parents[2]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("mailhub.cli.passwords.hash_password", lambda password: hash_password(password, CHEAP))
    return tmp_path / "demo"


def messages(folder: Path) -> dict[str, int]:
    """How many messages each account's INBOX has."""
    with opened(load(folder / "mailhub.toml")) as hub:
        store = hub.queue.store
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
    endpoints = [endpoint for listed in config.listen.services().values() for endpoint in listed]
    assert all(endpoint.endswith(":interface=127.0.0.1") for endpoint in endpoints)
    assert config.routes["*"].agent == "refuse"


def test_the_guide_names_every_port_and_password(folder: Path) -> None:
    known = demo.prepare(folder)
    text = demo.guide(folder, known)
    for word in (*known, *known.values(), "1025", "1587", "1465", "1110", "1995", "1143", "1993"):
        assert word in text
    swaks = re.search(r"swaks (?:.*\\\n)*.*", text)
    assert swaks
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
    environ = {"PATH": str(tmp_path)}
    named = "swaks libnet-ssleay-perl isync fetchmail getmail6 msmtp"
    done = subprocess.run([script], env=environ, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.endswith(f"sudo apt-get install {named}\n")
    environ["MAILHUB_REQUIRE_CLIENTS"] = "1"
    done = subprocess.run([script], env=environ, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (1, f"missing mail clients: {named}\n")
    for name in ("swaks", "mbsync", "fetchmail", "getmail", "msmtp"):
        os.symlink("/bin/true", tmp_path / name)
    assert subprocess.run([script], env=environ, check=False).returncode == 0
