"""`mailhub check`: what it finds, and that it ends with status 1 when something has to be mended."""

from __future__ import annotations

import os
import socket
import sqlite3
import time
from pathlib import Path

import attrs
import pytest

from mailhub.config.settings import Config, load
from mailhub.data_folder import DataFolder
from mailhub.net.certificates import write_self_signed
from mailhub.plugins import load_catalogue
from mailhub.testing.process import free_ports
from tests.cli.conftest import Command, Result


@pytest.fixture
def good(mailhub: Command, tmp_path: Path) -> Config:
    """What `init` makes, on ports that are free."""
    file = tmp_path / "mailhub.toml"
    mailhub("init", "ann@xx.example", "--hostname", "mx.xx.example")
    text = file.read_text()
    for port, free in zip((25, 587, 465, 143, 993, 110, 995), free_ports(7), strict=True):
        text = text.replace(f'"tcp:{port}"', f'"tcp:{free}:interface=127.0.0.1"')
    file.write_text(text)
    return load(file)


def problems(result: Result) -> list[str]:
    return [line.removeprefix("problem  ") for line in result.out.splitlines() if line.startswith("problem")]


def test_all_is_well(mailhub: Command, good: Config) -> None:
    result = mailhub("check")
    assert (result.status, problems(result), result.err) == (0, [], "")
    assert f"ok       configuration {good.file}" in result.out
    assert "is self-signed" in result.out
    assert "1 account\n" in result.out
    assert result.out.count("can be opened") == 7
    assert "postmaster" not in result.out


def test_a_missing_postmaster_is_told(mailhub: Command, good: Config) -> None:
    good.file.write_text(good.file.read_text().replace('"postmaster@', '"root@'))
    result = mailhub("check")
    assert result.status == 0
    assert "nobody is named postmaster" in result.out


def test_a_running_server_is_no_problem(mailhub: Command, good: Config) -> None:
    server = DataFolder(good.data)
    server.lock()
    result = mailhub("check")
    server.unlock()
    assert result.status == 0
    assert f"the server is running (process {os.getpid()})" in result.out
    assert "is running" not in mailhub("check").out


def test_ports_in_use(mailhub: Command, good: Config) -> None:
    port = int(good.listen.imaps[0].split(":")[1])
    with socket.create_server(("127.0.0.1", port)):
        assert problems(mailhub("check")) == [f"imaps {good.listen.imaps[0]}: Address already in use"]


@pytest.mark.parametrize(
    ("hostname", "days", "ago", "line"),
    [
        ("mx.xx.example", 30, 40, "expired on"),
        ("mx.xx.example", 10, 0, "is valid until"),
        ("mx.xx.example", 10, -5, "is not valid before"),
        ("other.example", 30, 0, "is for other.example, not for hostname mx.xx.example"),
    ],
)
def test_certificates_that_clients_will_refuse(
    mailhub: Command, good: Config, hostname: str, days: int, ago: int, line: str
) -> None:
    assert good.tls is not None
    write_self_signed(good.tls.certificate, good.tls.key, [hostname], days, time.time() - ago * 86400)
    result = mailhub("check")
    assert result.status == 1
    assert [found for found in problems(result) if line in found]


def test_a_wildcard_certificate_covers_one_label(mailhub: Command, good: Config) -> None:
    assert good.tls is not None
    write_self_signed(good.tls.certificate, good.tls.key, ["*.xx.example"], 30, time.time())
    assert problems(mailhub("check")) == []


def test_every_mistake_is_found_in_one_run(mailhub: Command, good: Config) -> None:
    good.file.write_text(good.file.read_text() + '\n[auth]\ncheckers = ["acounts"]\n')
    (good.file.parent / "certificate.pem").unlink()
    found = problems(mailhub("check"))
    assert len(found) == 2
    assert "[auth] checkers: there is no checker plugin called 'acounts'; did you mean accounts?" in found[0]
    assert "certificate.pem" in found[1]


def test_what_is_not_configured_is_not_looked_for(mailhub: Command, config: Config) -> None:
    mailhub("account", "add", "a@xx.example")
    config.file.write_text(config.file.read_text() + '[listen]\nlmtp = ["unix:lmtp"]\n')
    result = mailhub("check")
    assert (result.status, problems(result)) == (0, [])
    assert "no TLS configured" in result.out
    assert f"lmtp unix:{config.file.parent}/lmtp: not tried" in result.out


def test_a_plugin_that_cannot_be_loaded_is_named(
    mailhub: Command, config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    mailhub("account", "add", "a@xx.example")
    catalogue = attrs.evolve(load_catalogue(), broken=("/x/twisted/plugins/p.py: SyntaxError: invalid syntax",))
    monkeypatch.setattr("mailhub.cli.check.load_catalogue", lambda: catalogue)
    assert problems(mailhub("check")) == ["plugin not loaded: /x/twisted/plugins/p.py: SyntaxError: invalid syntax"]


def test_damage_in_the_store_is_found(mailhub: Command, good: Config) -> None:
    with sqlite3.connect(good.data / "mailhub.sqlite") as database:
        database.execute("UPDATE mailbox SET messages = 5")
    database.close()
    result = mailhub("check")
    assert result.status == 1
    assert [line for line in problems(result) if line.startswith("store: ")]


@pytest.mark.parametrize("words", [("check",), ("account", "list"), ("queue", "list"), ("queue", "retry", "--all")])
def test_no_command_makes_a_database_where_one_is_gone(mailhub: Command, good: Config, words: tuple[str, ...]) -> None:
    (good.data / "mailhub.sqlite").unlink()
    before = sorted(good.data.rglob("*"))
    result = mailhub(*words)
    assert result.status == 1
    assert "mailhub.sqlite: is not there, but blobs beside it: mount its volume" in result.out + result.err
    assert sorted(set(good.data.rglob("*")) - {good.data / "mailhub.lock"}) == before
    assert "not there" in mailhub("account", "add", "new@xx.example").err
    assert "not there" in mailhub("--config", "new.toml", "init", "new@xx.example").err
    assert not (good.data / "mailhub.sqlite").exists()


def test_an_account_in_a_new_folder_makes_the_database(mailhub: Command, config: Config) -> None:
    assert "is not there" in mailhub("account", "list").err
    assert not config.data.exists()
    assert mailhub("account", "add", "a@xx.example").status == 0
    assert mailhub("account", "list").out.startswith("a@xx.example ")
