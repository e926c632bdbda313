"""The files for other programs: systemd's unit and certbot's hook."""

from __future__ import annotations

import grp
import os
import subprocess
import time
from pathlib import Path
from shutil import which

import pytest

from mailhub.net.certificates import write_self_signed
from mailhub.net.tls import server_context

CHECKOUT = Path(__file__).parents[2]
UNIT = CHECKOUT / "contrib" / "systemd" / "mailhub.service"
HOOK = CHECKOUT / "contrib" / "certbot" / "mailhub"


@pytest.mark.skipif(which("systemd-analyze") is None, reason="systemd-analyze is not installed")
def test_the_unit_is_exposed_by_2_0_at_most() -> None:
    done = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", "--threshold=20", "--no-pager", str(UNIT)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    if "nknown option" in done.stderr or "unrecognized" in done.stderr:
        pytest.skip("systemd-analyze is too old to look at files")
    assert done.returncode == 0, done.stdout[-400:] + done.stderr


def test_the_unit_starts_again_whatever_ended_it_and_hears_signs_of_life() -> None:
    lines = UNIT.read_text().splitlines()
    assert {"Type=notify", "Restart=always", "WatchdogSec=60", "User=mailhub"} <= set(lines)
    assert "ExecReload=/opt/mailhub/bin/mailhub --config /etc/mailhub/mailhub.toml reload" in lines


def run_hook(folder: Path, **more: str) -> subprocess.CompletedProcess[str]:
    """As certbot does, with a command that only notes how it was called."""
    command = folder / "command"
    command.write_text(f'#!/bin/sh\necho "$MAILHUB_CONFIG $*" >> {folder}/called\n')
    command.chmod(0o755)
    environment = {
        **os.environ,
        "RENEWED_LINEAGE": str(folder / "live" / "mail.example.org"),
        "MAILHUB_TLS": str(folder / "tls"),
        "MAILHUB_GROUP": grp.getgrgid(os.getgid()).gr_name,
        "MAILHUB_COMMAND": str(command),
        **more,
    }
    return subprocess.run([HOOK], env=environment, capture_output=True, text=True, timeout=60, check=False)


@pytest.fixture
def live(tmp_path: Path) -> Path:
    """certbot's layout: links in live/ to numbered files in archive/, for nobody else."""
    archive, live = tmp_path / "archive" / "mail.example.org", tmp_path / "live" / "mail.example.org"
    for path in (archive, live):
        path.mkdir(parents=True)
        path.parent.chmod(0o700)
    for name in ("fullchain", "privkey"):
        (live / f"{name}.pem").symlink_to(f"../../archive/mail.example.org/{name}1.pem")
    write_self_signed(archive / "fullchain1.pem", archive / "privkey1.pem", ["mail.example.org"], 30, time.time())
    return live


def test_the_hook_copies_for_the_servers_group_alone_and_asks_for_a_reload(tmp_path: Path, live: Path) -> None:
    for _ in range(2):
        done = run_hook(tmp_path)
        assert done.returncode == 0, done.stderr
    tls = tmp_path / "tls"
    assert sorted(path.name for path in tls.iterdir()) == ["fullchain.pem", "privkey.pem"]
    assert tls.stat().st_mode & 0o777 == 0o750
    assert {path.stat().st_mode & 0o777 for path in tls.iterdir()} == {0o640}
    assert not any(path.is_symlink() for path in tls.iterdir())
    server_context(tls / "fullchain.pem", tls / "privkey.pem")
    assert (tmp_path / "called").read_text() == "/etc/mailhub/mailhub.toml reload\n" * 2


def test_the_hook_leaves_other_certificates_alone(tmp_path: Path, live: Path) -> None:
    assert run_hook(tmp_path, MAILHUB_LINEAGE="/etc/letsencrypt/live/www.example.org").returncode == 0
    assert not (tmp_path / "tls").exists()
    assert run_hook(tmp_path, MAILHUB_LINEAGE=str(live)).returncode == 0
    assert (tmp_path / "tls").exists()


def test_the_hook_fails_where_the_certificate_is_missing_and_the_old_one_stays(tmp_path: Path, live: Path) -> None:
    run_hook(tmp_path)
    before = (tmp_path / "tls" / "privkey.pem").read_bytes()
    (live / "fullchain.pem").unlink()
    assert run_hook(tmp_path).returncode != 0
    assert (tmp_path / "tls" / "privkey.pem").read_bytes() == before
